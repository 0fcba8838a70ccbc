"""Stock GStreamer opens the sealed stream with srtpdec, where somebody gives it the key by hand."""

import random
import shutil
import signal
import socket
import subprocess
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from bench.demo import VOICE
from bench.measure import Recording, offset_seconds
from bench.processes import wait_until
from bench.quality import through_opus
from codec.format import SAMPLE_RATE, Samples
from codec.opus import Encoder, EncoderSettings
from codec.sources.file import FileSource
from tests.support.wire import udp_ports
from transport.security.keys import SigningKey
from transport.security.sealing import SealedSender

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="GStreamer is not installed"),
]
START = 1_790_000_000 * SAMPLE_RATE
FRAME = 960
_WAV_HEAD_BYTES = 44
SETTINGS = EncoderSettings(frame_ms=20.0)


def _sender() -> SealedSender:
    draw = random.Random(4).randbytes
    return SealedSender(SigningKey(draw(32)), 1, 12_345, 20.0, "loa", lambda: 0.5, draw)


def _command(ssrc: int, key: bytes, output: Path) -> list[str]:
    caps = (
        "application/x-srtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=96,"
        f"ssrc=(uint){ssrc},srtp-key=(buffer){key.hex()},"
        "srtp-cipher=aes-128-gcm,srtp-auth=null,srtcp-cipher=aes-128-gcm,srtcp-auth=null"
    )
    pipeline = (
        f"udpsrc address=127.0.0.1 port=0 caps={caps} ! srtpdec "  # any port that is free
        "! rtpjitterbuffer latency=200 ! rtpopusdepay ! opusdec ! audioconvert ! audioresample "
        f"! audio/x-raw,format=S16LE,rate={SAMPLE_RATE},channels=1 "
        f"! wavenc ! filesink location={output}"
    )
    return ["gst-launch-1.0", "--eos-on-shutdown", *pipeline.split()]


def _speak(sender: SealedSender, port: int, sound: Samples) -> None:
    """At the pace at which it would be spoken."""
    encoder = Encoder(SETTINGS)
    whole = len(sound) // FRAME * FRAME
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        began = time.monotonic()
        for index, frame in enumerate(sound[:whole].reshape(-1, FRAME)):
            time.sleep(max(began + index * FRAME / SAMPLE_RATE - time.monotonic(), 0))
            data = sender.packet(encoder.encode(frame), START + index * FRAME)
            udp.sendto(data, ("127.0.0.1", port))


def _play(folder: Path, key: bytes, sender: SealedSender, sound: Samples) -> Samples:
    """What GStreamer with this key makes of a stream."""
    output = folder / "out.wav"
    command = _command(sender.ssrc, key, output)
    with (
        (folder / "player.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as player,
    ):
        try:
            wait_until(lambda: bool(udp_ports(player.pid)), "GStreamer to listen")
            (port,) = udp_ports(player.pid)
            _speak(sender, port, sound)
            time.sleep(0.5)  # its jitter buffer plays out
            player.send_signal(signal.SIGINT)
            player.wait(10)
        finally:
            player.kill()
    if output.stat().st_size <= _WAV_HEAD_BYTES:  # and not even that says what it is
        return np.zeros(0, np.float32)
    with wave.open(str(output)) as recording:
        data = recording.readframes(recording.getnframes())
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


def test_gstreamer_with_the_key_plays_the_words(tmp_path: Path) -> None:
    """It skips the signature, a header extension that it does not know (RFC 8285 section 4)."""
    sender, sound = _sender(), np.concatenate([*FileSource(VOICE)])
    played = _play(tmp_path, sender.epochs[0][2], sender, sound)
    reference = Recording(through_opus(sound, SETTINGS), SAMPLE_RATE, 0)
    heard = Recording(played, SAMPLE_RATE, 0)
    second = 1_000_000_000
    for at in range(0, 6 * second, second):
        assert offset_seconds(reference, heard, at, second, search_s=1.0).correlation > 0.9


def test_gstreamer_with_another_key_plays_nothing(tmp_path: Path) -> None:
    sender, sound = _sender(), np.concatenate([*FileSource(VOICE)])[: 2 * SAMPLE_RATE]
    assert not len(_play(tmp_path, bytes(28), sender, sound))
