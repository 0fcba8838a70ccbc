"""Stock ffmpeg and GStreamer play the clear stream from the SDP that the station serves."""

import re
import shutil
import signal
import subprocess
import wave
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.demo import VOICE
from bench.measure import Recording, level_dbfs, offset_seconds
from bench.processes import Bench, wait_until
from bench.quality import through_opus
from codec.format import SAMPLE_RATE, Samples
from codec.opus import EncoderSettings
from codec.sources.file import FileSource
from server.live.client import LiveClient

pytestmark = pytest.mark.realtime

Command = Callable[[Path, Path], list[str]]


def _ffmpeg(sdp: Path, output: Path) -> list[str]:
    quiet = ["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "verbose"]
    listen = ["-protocol_whitelist", "file,udp,rtp", "-i", str(sdp)]
    return [*quiet, *listen, "-ac", "1", "-ar", str(SAMPLE_RATE), "-y", str(output)]


def _gstreamer(sdp: Path, output: Path) -> list[str]:
    pipeline = (
        f"filesrc location={sdp} ! sdpdemux latency=200 ! rtpopusdepay ! opusdec ! audioconvert "
        f"! audioresample ! audio/x-raw,format=S16LE,rate={SAMPLE_RATE},channels=1 "
        f"! wavenc ! filesink location={output}"
    )
    return ["gst-launch-1.0", "--eos-on-shutdown", *pipeline.split()]


def _group_is_joined(group: str) -> bool:
    """/proc/net/igmp lists groups as little-endian hexadecimal."""
    wanted = "".join(f"{int(part):02X}" for part in reversed(group.split(".")))
    return wanted in Path("/proc/thread-self/net/igmp").read_text()


def _play(station: Bench, command: Command, program: str) -> tuple[Samples, str]:
    """What the player made of one reading of the voice, and everything it said."""
    station.clear_zone("open")
    # D of a LAN leaves 20 ms until a source that was held up has left a hole: a second leaves 500.
    request: dict[str, object] = {"zones": ["open"], "playout_delay_ms": 1000.0}
    client = LiveClient(station.address, request, station.credentials)
    assert client.grant.sdp == f"https://{station.address}/programmes/live-1.sdp"
    text = station.text("/programmes/live-1.sdp")
    sdp, output = station.folder / "stream.sdp", station.folder / "out.wav"
    sdp.write_text(text)
    group = re.search(r"^c=IN IP4 ([\d.]+)", text, re.MULTILINE)
    assert group is not None
    log = (station.folder / "player.log").open("w+")
    with log, subprocess.Popen(command(sdp, output), stdout=log, stderr=log) as player:
        wait_until(lambda: _group_is_joined(group[1]), f"{program} to join")
        deque(client.speak(FileSource(VOICE).blocks(480)), maxlen=0)
        client.finish()
        # Every player has a buffer of its own to play out before it may be ended.
        wait_until(lambda: not station.get("/api/v1/programmes"), "the programme's end")
        player.send_signal(signal.SIGINT)
        player.wait(10)
        log.seek(0)
        return _read(output), log.read()


def _read(path: Path) -> Samples:
    with wave.open(str(path)) as recording:
        data = recording.readframes(recording.getnframes())
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


def _assert_words_are_right(heard: Samples) -> None:
    """Each second of what was heard is that second of what Opus makes of the voice.

    Not to the bit: the voice reached the encoder as 16 bits, and Opus's noise then differs.
    """
    spoken = through_opus(np.concatenate([*FileSource(VOICE)]), EncoderSettings())
    reference, played = Recording(spoken, SAMPLE_RATE, 0), Recording(heard, SAMPLE_RATE, 0)
    second = 1_000_000_000
    whole = len(spoken) * second // SAMPLE_RATE - second // 10
    found = offset_seconds(reference, played, 0, whole, search_s=1.0)
    assert found.correlation > 0.95
    for at in range(0, 6 * second, second):
        assert offset_seconds(reference, played, at, second, search_s=1.0).correlation > 0.9
    first, _ = played.index_at(round(found.seconds * 1e9))
    begin = max(first, 0)
    assert abs(level_dbfs(heard[begin : begin + len(spoken)]) - level_dbfs(spoken)) < 1.0


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_ffmpeg_plays_the_words_at_the_level_spoken_and_misses_no_packet(station: Bench) -> None:
    heard, said = _play(station, _ffmpeg, "ffmpeg")
    _assert_words_are_right(heard)
    assert "missed" not in said, said


@pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="GStreamer is not installed")
def test_gstreamer_plays_the_words_at_the_level_spoken_and_misses_no_packet(
    station: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At level 4 the jitter buffer names every packet it gives up.
    monkeypatch.setenv("GST_DEBUG", "rtpjitterbuffer:4")
    monkeypatch.setenv("GST_DEBUG_NO_COLOR", "1")
    heard, said = _play(station, _gstreamer, "GStreamer")
    _assert_words_are_right(heard)
    assert "lost" not in said, said
