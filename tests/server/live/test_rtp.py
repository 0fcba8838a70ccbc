"""RTP from others: our own packets in every order, and real senders where they are installed."""

import itertools
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.errors import SourceError
from codec.format import Samples
from codec.opus import Encoder, EncoderSettings
from server.live.rtp import Piece, RtpAddress, RtpSource, Sequencer
from tests.support.ports import port_of_its_own
from transport.rtp.packet import RtpPacket

MS = 1_000_000
FRAME = 160
PCMU = RtpAddress.parse("rtp://127.0.0.1:5004?codec=pcmu")


def packet(n: int, *, ssrc: int = 1, kind: int = 0, start: int = 65_530) -> RtpPacket:
    """The n-th of a PCMU sender, whose payload says so; sequence and timestamp wrap soon."""
    timestamp = ((1 << 32) - 500 + n * FRAME) & 0xFFFF_FFFF
    return RtpPacket(kind, (start + n) & 0xFFFF, timestamp, ssrc, bytes([n % 256]) * FRAME)


def sequencer() -> Sequencer:
    return Sequencer(PCMU, len)


def order(numbers: Sequence[int]) -> tuple[list[tuple[int, int]], int]:
    """Which packets came in turn, with what was missing before; and how many were ignored."""
    sequence = sequencer()
    pieces = [piece for n in numbers for piece in sequence.feed(packet(n), n)]
    return [(piece.payload[0], piece.missing) for piece in pieces], sequence.ignored


def test_packets_in_order_are_passed_on_at_once() -> None:
    sequence = sequencer()
    for n in range(300):
        assert sequence.feed(packet(n), n) == [Piece(packet(n).payload, 0, first=n == 0)]


@pytest.mark.parametrize(
    ("came", "out", "ignored"),
    [
        ([0, 2, 1, 3], [(0, 0), (1, 0), (2, 0), (3, 0)], 0),
        ([0, 3, 2, 1], [(0, 0), (1, 0), (2, 0), (3, 0)], 0),
        ([0, 1, 1, 0, 2], [(0, 0), (1, 0), (2, 0)], 2),
        ([0, 2, 2, 1], [(0, 0), (1, 0), (2, 0)], 1),
        # One is given up when four later ones have come, and is not wanted then.
        ([0, 2, 3, 4, 5, 1], [(0, 0), (2, 160), (3, 0), (4, 0), (5, 0)], 1),
        ([0, 4, 5, 6, 7], [(0, 0), (4, 480), (5, 0), (6, 0), (7, 0)], 0),
        # 1.6 s: that hole has been heard.
        ([0, 80, 81, 82, 83], [(0, 0), (80, 0), (81, 0), (82, 0), (83, 0)], 0),
        # So far off that the sender has begun anew.
        ([0, 5_000, 5_001], [(0, 0), (5_000 % 256, 0), (5_001 % 256, 0)], 0),
    ],
)
def test_order_loss_and_doubles(came: list[int], out: list[tuple[int, int]], ignored: int) -> None:
    assert order(came) == (out, ignored)


@given(st.lists(st.integers(0, 400), max_size=60))
def test_whatever_comes_nothing_comes_out_twice_or_backwards(numbers: list[int]) -> None:
    sequence = sequencer()
    out = [piece for n in numbers for piece in sequence.feed(packet(n, start=0), n)]
    assert len(out) + sequence.ignored <= len(numbers)
    assert all(0 <= piece.missing <= 960 for piece in out)
    assert [piece.first for piece in out] == [n == 0 for n in range(len(out))]


def test_a_sender_who_begins_anew_is_taken_when_the_old_one_is_quiet() -> None:
    sequence = sequencer()
    sequence.feed(packet(0), 0)
    assert sequence.feed(packet(100, ssrc=2), 100 * MS) == []
    assert sequence.feed(packet(101, ssrc=2), 201 * MS) == [Piece(packet(101).payload, 0, True)]
    assert sequence.feed(packet(1), 202 * MS) == []
    assert sequence.ignored == 2


def test_payloads_that_were_not_asked_for_are_ignored() -> None:
    sequence = sequencer()
    assert sequence.feed(packet(0, kind=8), 0) == []
    assert len(sequence.feed(packet(0, kind=96), 0)) == 1


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("rtp://127.0.0.1:5004?codec=opus", ("127.0.0.1", 5004, "opus", 48_000, 1)),
        ("rtp://239.1.2.3:6000?codec=G722", ("239.1.2.3", 6000, "g722", 16_000, 1)),
        ("rtp://0.0.0.0:5004?codec=opus&channels=2", ("0.0.0.0", 5004, "opus", 48_000, 2)),
        (
            "rtp://0.0.0.0:5004?codec=l16&rate=44100&channels=2",
            ("0.0.0.0", 5004, "l16", 44_100, 2),
        ),
    ],
)
def test_addresses(text: str, address: tuple[str, int, str, int, int]) -> None:
    assert RtpAddress.parse(text) == RtpAddress(*address)


@pytest.mark.parametrize(
    "text",
    [
        "rtp://127.0.0.1:5004",
        "rtp://127.0.0.1:5004?codec=mp3",
        "rtp://127.0.0.1?codec=opus",
        "rtp://127.0.0.1:70000?codec=opus",
        "rtp://studio:5004?codec=opus",
        "udp://127.0.0.1:5004?codec=opus",
        "rtp://127.0.0.1:5004?codec=pcmu&rate=16000",
        "rtp://127.0.0.1:5004?codec=l16&rate=x",
        "rtp://127.0.0.1:5004?codec=opus&bitrate=3",
        "rtp://[::1]:5004?codec=opus",
    ],
)
def test_addresses_that_are_none_are_refused_with_the_form(text: str) -> None:
    with pytest.raises(SourceError) as error:
        RtpAddress.parse(text)
    assert "is not rtp://ADDRESS:PORT?codec=" in str(error.value)
    assert "\n" not in str(error.value)


def address(codec: str, host: str = "127.0.0.1") -> RtpAddress:
    return RtpAddress.parse(f"rtp://{host}:{port_of_its_own()}?codec={codec}")


def tone(seconds: float, rate: int = 48_000) -> Samples:
    phase = 2 * np.pi * 440 / rate * np.arange(round(seconds * rate))
    wave: Samples = (0.5 * np.sin(phase)).astype(np.float32)
    return wave


def is_tone(sound: Samples) -> bool:
    """The 440 Hz tone, and little else: companding has 38 dB."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    centre = round(440 * len(sound) / 48_000)
    width = max(4, len(sound) // 1_000)
    pure = np.sum(spectrum[centre - width : centre + width + 1]) / np.sum(spectrum)
    return bool(pure > 0.99)


def opus_payloads(seconds: float) -> Iterator[bytes]:
    encoder = Encoder(EncoderSettings(bitrate=64_000, frame_ms=20))
    for frame in tone(seconds).reshape(-1, 960):
        yield encoder.encode(frame)


def pcm_payloads(codec: str, rate: int, seconds: float) -> Iterator[bytes]:
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = rate, "mono", "s16"
    for part in tone(seconds, rate).reshape(-1, rate // 50):
        pcm = np.rint(part * 32767).astype(np.int16)[np.newaxis]
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
        frame.sample_rate = rate
        yield from (bytes(coded) for coded in encoder.encode(frame))


def send_all(to: RtpAddress, packets: Sequence[RtpPacket]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for sent in packets:
            udp.sendto(sent.serialise(), (to.host, to.port))


def hear(source: RtpSource, seconds: float, *, waiting: bool = False) -> Samples:
    """At least so much; it is there already unless we are `waiting`."""
    say = source._say

    def listen(text: str) -> None:
        say(text)
        assert waiting or "nothing comes" not in text

    source._say = listen
    heard: list[Samples] = []
    with closing(source):
        for block in source:
            heard.append(block)
            if sum(map(len, heard)) >= seconds * 48_000:
                break
    return np.concatenate(heard)


@pytest.mark.parametrize(
    ("codec", "kind", "step", "payloads"),
    [
        ("opus", 111, 960, lambda: opus_payloads(1)),
        ("pcmu", 0, 160, lambda: pcm_payloads("pcm_mulaw", 8_000, 1)),
        ("pcma", 8, 160, lambda: pcm_payloads("pcm_alaw", 8_000, 1)),
        ("g722", 9, 160, lambda: pcm_payloads("g722", 16_000, 1)),
        ("l16", 96, 960, lambda: pcm_payloads("pcm_s16be", 48_000, 1)),
        ("l16&rate=44100", 11, 882, lambda: pcm_payloads("pcm_s16be", 44_100, 1)),
    ],
)
@pytest.mark.parametrize("lost", [None, 20])
def test_every_codec_is_heard_and_what_is_lost_keeps_its_length(
    codec: str, kind: int, step: int, payloads: Callable[[], Iterator[bytes]], lost: int | None
) -> None:
    to = address(codec)
    source = RtpSource(to)
    source.connect()
    sent = [RtpPacket(kind, n, n * step, 7, data) for n, data in enumerate(payloads())]
    assert len(sent) == 50
    send_all(to, [one for one in sent if one.sequence != lost])
    # The resampler of the old codecs keeps a little.
    sound = hear(source, 0.98)
    assert sound.dtype == np.float32
    assert 0.98 * 48_000 <= len(sound) <= 48_000
    assert is_tone(sound[9_600:18_000])
    assert is_tone(sound[24_000:45_000])


def test_both_channels_are_heard() -> None:
    to = address("l16&channels=2")
    source = RtpSource(to, channels=2)
    source.connect()
    left = np.rint(tone(0.02) * 32767).astype(">i2")
    payload = np.stack([left, np.zeros_like(left)], axis=1).tobytes()
    send_all(to, [RtpPacket(96, n, n * 960, 7, payload) for n in range(5)])
    sound = hear(source, 0.09)
    assert sound.shape[1] == 2
    assert np.std(sound[:, 0]) > 0.3
    assert not np.any(sound[:, 1])


def test_rubbish_and_rtcp_are_not_heard() -> None:
    to = address("l16")
    source = RtpSource(to)
    source.connect()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for data in (b"", b"rubbish", b"\x80\xc8" + bytes(26), b"\xff" * 100):
            udp.sendto(data, (to.host, to.port))
    # Half a sample is left out.
    send_all(to, [RtpPacket(96, n, n * 960, 7, b"\x40\x00" * 960 + b"x") for n in range(50)])
    sound = hear(source, 0.9)
    assert np.all(np.abs(sound[100:-100] - 0.5) < 0.001)


def test_corrupt_opus_costs_itself_only() -> None:
    to = address("opus")
    source = RtpSource(to)
    source.connect()
    sent = [RtpPacket(96, n, n * 960, 7, data) for n, data in enumerate(opus_payloads(1))]
    sent[10] = RtpPacket(96, 10, 9_600, 7, b"")
    sent[12] = RtpPacket(96, 12, 12 * 960, 7, b"\xff\xff\xff")
    send_all(to, sent)
    sound = hear(source, 0.99)
    assert len(sound) == 48_000
    assert is_tone(sound[24_000:45_000])


def test_silence_on_the_line_is_said_once_and_its_end_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("server.live.rtp._QUIET_S", 0.02)
    said: list[str] = []
    quiet, back = threading.Event(), threading.Event()

    def say(text: str) -> None:
        said.append(text)
        (quiet if len(said) == 1 else back).set()

    to = address("l16")
    source = RtpSource(to, on_event=say)
    source.connect()
    listener = threading.Thread(target=lambda: hear(source, 0.01, waiting=True))
    listener.start()
    assert quiet.wait(20)
    send_all(to, [RtpPacket(96, n, n * 960, 7, bytes(1_920)) for n in range(2)])
    assert back.wait(20)
    listener.join(20)
    assert said == [
        f"{source.name}: nothing comes; waiting for a sender",
        f"{source.name} is back",
    ]


def test_what_was_not_asked_for_is_said_once() -> None:
    said: list[str] = []
    to = address("pcmu")
    source = RtpSource(to, on_event=said.append)
    source.connect()
    wrong = [RtpPacket(8, n, n * 160, 7, bytes(160)) for n in range(5)]
    right = [RtpPacket(0, n, n * 160, 7, bytes(160)) for n in range(5)]
    send_all(to, wrong + right)
    hear(source, 0.05)
    assert said == [f"{source.name}: payload type 8 comes, which is not pcmu"]


def test_a_port_that_is_taken_is_said() -> None:
    to = address("opus")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((to.host, to.port))
        with pytest.raises(SourceError) as error:
            next(iter(RtpSource(to)))
    assert str(error.value) == (
        f"rtp://127.0.0.1:{to.port}: another program has that port; stop it or choose another port"
    )


def test_an_address_that_is_not_ours_is_said() -> None:
    with pytest.raises(SourceError, match=r"not of this machine; give 0\.0\.0\.0"):
        RtpSource(address("opus", "192.0.2.1")).connect()


def test_a_group_is_joined() -> None:
    to = address("l16", "239.255.77.77")
    source = RtpSource(to, interface="127.0.0.1")
    source.connect()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        for n in range(50):
            sent = RtpPacket(96, n, n * 960, 7, b"\x40\x00" * 960)
            udp.sendto(sent.serialise(), (to.host, to.port))
    assert len(hear(source, 0.9)) >= 43_200


# ------------------------------------------------------------------- real senders


def ffmpeg(to: RtpAddress, codec: str, *more: str) -> list[str]:
    sine = "sine=440:sample_rate=48000:samples_per_frame=960"
    start = ["ffmpeg", "-v", "error", "-re", "-f", "lavfi", "-i", sine]
    return [*start, "-c:a", codec, *more, "-f", "rtp", f"rtp://{to.host}:{to.port}"]


def forget(udp: socket.socket) -> None:
    """Whatever waits to be read, of one that is gone: it is not to be taken for the next one's."""
    while select.select([udp], [], [], 0)[0]:
        udp.recv(2048)


def gst(to: RtpAddress, encoder: str, payloader: str) -> list[str]:
    chain = (
        f"audiotestsrc is-live=true freq=440 samplesperbuffer=960 ! audioconvert ! "
        f"audioresample ! {encoder} ! {payloader} ! udpsink host={to.host} port={to.port}"
    )
    return ["gst-launch-1.0", "-q", *chain.split()]


@contextmanager
def sending(command: list[str]) -> Iterator[None]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    sender = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        sender.kill()
        sender.wait()


SENDERS: dict[str, tuple[str, Callable[[RtpAddress], list[str]]]] = {
    "ffmpeg opus": ("opus", lambda to: ffmpeg(to, "libopus")),
    "ffmpeg pcmu": ("pcmu", lambda to: ffmpeg(to, "pcm_mulaw", "-ar", "8000")),
    "ffmpeg g722": ("g722", lambda to: ffmpeg(to, "g722", "-ar", "16000")),
    "ffmpeg l16": ("l16", lambda to: ffmpeg(to, "pcm_s16be")),
    "gst opus": ("opus", lambda to: gst(to, "opusenc", "rtpopuspay")),
    "gst pcma": ("pcma", lambda to: gst(to, "alawenc", "rtppcmapay")),
    "gst l16": (
        "l16&channels=2",
        lambda to: gst(to, "audio/x-raw,rate=48000,channels=2", "rtpL16pay"),
    ),
}


@pytest.mark.realtime
@pytest.mark.parametrize("sender", SENDERS)
def test_a_stock_sender_is_heard_and_so_is_the_one_after_it(sender: str) -> None:
    """The second has another SSRC and begins anywhere."""
    codec, command = SENDERS[sender]
    source = RtpSource(address(codec))
    source.connect()
    blocks = iter(source)
    for _ in range(2):
        with sending(command(source._address)):
            sound = np.concatenate(list(itertools.islice(blocks, 60)))
        assert is_tone(sound[-36_000:])
        assert source._udp is not None
        forget(source._udp)
    source.close()
