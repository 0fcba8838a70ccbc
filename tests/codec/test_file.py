import contextlib
import io
import math
import os
import struct
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast
from unittest.mock import Mock

import av
import numpy as np
import pytest

from codec.errors import SourceError
from codec.format import Samples
from codec.sources.blocks import first_sound
from codec.sources.file import FileSource
from codec.sources.raw import RawFormat

FREQUENCY = 1_000.0
LEVEL = 0.5


def tone(rate: int, seconds: float, channels: int = 1) -> Samples:
    wave_ = LEVEL * np.sin(2 * np.pi * FREQUENCY / rate * np.arange(round(rate * seconds)))
    return np.repeat(np.asarray(wave_, np.float32)[:, np.newaxis], channels, axis=1)


def wav_bytes(sound: Samples, rate: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(sound.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return out.getvalue()


def encode(path: Path, codec: str, sample_format: str, sound: Samples, rate: int) -> Path:
    layout = "mono" if sound.shape[1] == 1 else "stereo"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout, format=sample_format)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = rate
        for packet in stream.encode(frame):
            container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def listen(source: FileSource) -> Samples:
    return np.concatenate(list(source))


def level_of(sound: Samples) -> float:
    """Amplitude at FREQUENCY in the middle of the sound, and nothing much beside it."""
    middle = sound[len(sound) // 4 : len(sound) * 3 // 4]
    n = np.arange(len(middle))
    phasor = np.exp(-2j * np.pi * FREQUENCY / 48_000 * n)
    amplitude = 2 * abs(np.mean(middle * phasor))
    assert math.sqrt(2 * np.mean(middle**2)) == pytest.approx(amplitude, rel=0.02)
    return float(amplitude)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("wanted", [1, 2])
def test_wav_at_any_rate_is_the_same_sound(
    tmp_path: Path, rate: int, channels: int, wanted: int
) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(wav_bytes(tone(rate, 1.37, channels), rate))
    heard = listen(FileSource(path, wanted))
    assert heard.dtype == np.float32
    assert heard.shape[1:] == ((2,) if wanted == 2 else ())
    assert len(heard) == pytest.approx(1.37 * 48_000, abs=8)
    for side in [heard] if wanted == 1 else heard.T:
        # Neither folding down nor spreading out changes the level.
        assert level_of(side) == pytest.approx(LEVEL, rel=0.01)


@pytest.mark.parametrize(
    ("form", "rate", "slack"),
    [
        (("a.flac", "flac", "s16"), 44_100, 8),
        # Lossy containers state their padding coarsely.
        (("a.mp3", "libmp3lame", "fltp"), 44_100, 2_500),
        (("a.ogg", "libopus", "flt"), 48_000, 1_000),
        (("a.m4a", "aac", "fltp"), 44_100, 2_500),
        (("a.mkv", "pcm_s16le", "s16"), 16_000, 8),
    ],
)
@pytest.mark.parametrize("piped", [False, True])
def test_compressed_files_are_the_same_sound(
    tmp_path: Path, form: tuple[str, str, str], rate: int, slack: int, piped: bool
) -> None:
    name, codec, sample_format = form
    path = encode(tmp_path / name, codec, sample_format, tone(rate, 1.0, 2), rate)
    source = FileSource(path)
    if piped:
        source = FileSource("-", stream=io.BytesIO(path.read_bytes()))
    heard = listen(source)
    assert len(heard) == pytest.approx(48_000, abs=slack)
    assert level_of(heard) == pytest.approx(LEVEL, rel=0.05)


def test_the_end_of_a_file_is_not_lost(tmp_path: Path) -> None:
    sound = np.zeros((8_000, 1), np.float32)
    sound[-1] = 0.9
    path = tmp_path / "click.wav"
    path.write_bytes(wav_bytes(sound, 8_000))
    assert np.max(np.abs(listen(FileSource(path))[-30:])) > 0.5


def test_a_video_gives_its_sound_and_a_picture_has_none(tmp_path: Path) -> None:
    path = tmp_path / "picture.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    with pytest.raises(SourceError, match="no audio track"):
        listen(FileSource(path))


def test_an_iteration_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(wav_bytes(tone(48_000, 0.1), 48_000))
    source = FileSource(path)
    assert np.array_equal(listen(source), listen(source))


def test_blocks_are_cut_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(wav_bytes(tone(44_100, 0.1), 44_100))
    lengths = [len(block) for block in FileSource(path).blocks(480)]
    assert set(lengths[:-1]) == {480}
    assert sum(lengths) == pytest.approx(4_800, abs=8)


def test_a_long_file_is_read_only_as_far_as_it_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(wav_bytes(tone(16_000, 60.0), 16_000))
    with path.open("rb") as stream:
        first = next(iter(FileSource("-", stream=stream)))
        assert stream.tell() < 200_000
        assert len(first) < 200_000


def test_old_encodings_in_tags_do_not_matter(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", "libmp3lame", "fltp", tone(44_100, 0.5), 44_100)
    # ID3v2.3, a Latin-1 title; FFmpeg passes some tags on as they are.
    body = b"TXXX" + struct.pack(">IH", 12, 0) + b"\x03abc\x00\xc4\xb5\xff\xfe\x81xy"
    tag = b"ID3\x03\0\0" + bytes([0, 0, 0, len(body)]) + body
    path.write_bytes(tag + path.read_bytes())
    assert level_of(listen(FileSource(path))) == pytest.approx(LEVEL, rel=0.05)


def test_wild_floats_are_bounded(tmp_path: Path) -> None:
    data = np.array([0.5, 7.0, -9.0, np.nan, np.inf], "<f4").tobytes()
    heard = listen(FileSource("-", stream=io.BytesIO(data), raw=RawFormat("f32le", 48_000, 1)))
    assert heard.tolist() == [0.5, 1.0, -1.0, 0.0, 1.0]


# ---------------------------------------------------------------- what is wrong with a file


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"", "no sound in it"),
        (b"Kinh gui ba con trong thon,\n" * 200, "not sound we can read"),
        (bytes(100_000), "not sound we can read"),
        (np.random.default_rng(7).bytes(100_000), "not sound we can read"),
        (wav_bytes(tone(48_000, 0.0), 48_000), "no sound in it"),
        (b"RIFF\0\0\0\0WAVE", "not sound we can read"),
        (b"fLaC" + bytes(500), "not sound we can read"),
    ],
)
@pytest.mark.parametrize("piped", [False, True])
def test_a_file_without_sound_says_so_in_one_line(
    tmp_path: Path, content: bytes, advice: str, piped: bool
) -> None:
    path = tmp_path / "announcement.wav"
    path.write_bytes(content)
    source = FileSource("-", stream=io.BytesIO(content)) if piped else FileSource(path)
    with pytest.raises(SourceError, match=advice) as caught:
        listen(source)
    assert "\n" not in str(caught.value)
    assert ("standard input" if piped else str(path)) in str(caught.value)


def test_a_missing_file_and_a_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        listen(FileSource(tmp_path / "none.wav"))
    with pytest.raises(SourceError, match="folder"):
        listen(FileSource(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "secret.wav"
    path.write_bytes(wav_bytes(tone(48_000, 0.1), 48_000))
    path.chmod(0)
    with pytest.raises(SourceError, match="permissions"):
        listen(FileSource(path))


def test_a_failing_device_says_so() -> None:
    stream = Mock(read1=Mock(side_effect=OSError(5, "Input/output error")))
    with pytest.raises(SourceError, match="Input/output error"):
        listen(FileSource("-", stream=stream))


@pytest.mark.parametrize(
    ("name", "codec", "sample_format"),
    [("a.mp3", "libmp3lame", "fltp"), ("a.flac", "flac", "s16"), ("a.ogg", "libopus", "flt")],
)
def test_a_truncated_file_gives_what_is_there(
    tmp_path: Path, name: str, codec: str, sample_format: str
) -> None:
    path = encode(tmp_path / name, codec, sample_format, tone(48_000, 4.0), 48_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    heard: list[Samples] = []
    with contextlib.suppress(SourceError):
        heard.extend(FileSource(path))
    assert 48_000 < sum(len(block) for block in heard) < 3 * 48_000


def test_a_truncated_wav_gives_what_is_there() -> None:
    data = wav_bytes(tone(48_000, 1.0), 48_000)[:50_001]
    assert len(listen(FileSource("-", stream=io.BytesIO(data)))) == (50_001 - 44) // 2


@pytest.mark.parametrize("damage", [0x00, 0xFF])
def test_a_damaged_packet_costs_only_itself(tmp_path: Path, damage: int) -> None:
    path = encode(tmp_path / "a.m4a", "aac", "fltp", tone(48_000, 4.0), 48_000)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes([damage]) * 300
    path.write_bytes(data)
    heard = listen(FileSource(path))
    assert len(heard) > 3.8 * 48_000
    assert level_of(heard[-96_000:]) == pytest.approx(LEVEL, rel=0.1)


def test_a_playlist_opens_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.wav").write_bytes(wav_bytes(tone(48_000, 1.0), 48_000))
    Path("list.txt").write_bytes(b"ffconcat version 1.0\nfile other.wav\n")
    with pytest.raises(SourceError, match="not sound we can read"):
        listen(FileSource("list.txt"))


def test_a_silent_file_is_known_before_it_goes_on_air(tmp_path: Path) -> None:
    path = tmp_path / "silent.wav"
    path.write_bytes(wav_bytes(np.zeros((48_000, 2), np.float32), 48_000))
    assert first_sound(FileSource(path)) is None
    path.write_bytes(wav_bytes(tone(48_000, 1.0), 48_000))
    assert first_sound(FileSource(path)) == 0


# ---------------------------------------------------------------- live pipes


class Pipe:
    """What has been written so far, one write at a time; reading further fails the test."""

    def __init__(self, writes: list[bytes]) -> None:
        self.writes = writes

    def read1(self, size: int, /) -> bytes:
        if not self.writes:
            pytest.fail("read beyond what a live pipe had to give")
        piece = self.writes.pop(0)
        if len(piece) > size:
            self.writes.insert(0, piece[size:])
        return piece[:size]

    read = read1

    def seekable(self) -> bool:
        return False

    def stream(self) -> BinaryIO:
        return cast("BinaryIO", self)


def live_head(rate: int, extensible: bool = False) -> bytes:
    fmt = struct.pack("<HHIIHH", 0xFFFE if extensible else 1, 1, rate, rate * 2, 2, 16)
    if extensible:
        fmt += struct.pack("<HHIH", 22, 16, 4, 1) + bytes(14)
    info = b"LIST" + struct.pack("<I", 5) + b"INFO\0\0"
    length = b"\xff\xff\xff\xff"
    return (
        b"RIFF" + length + b"WAVE" + b"fmt " + struct.pack("<I", len(fmt)) + fmt + info
        + b"data" + length
    )  # fmt: skip


@pytest.mark.parametrize("extensible", [False, True])
def test_a_live_wav_sounds_with_its_first_10_ms(extensible: bool) -> None:
    """FFmpeg would take 64 KB, two seconds of this stream, before the first sample."""
    head = live_head(16_000, extensible)
    piece = np.full(160, 8192, "<i2").tobytes()
    # The head itself arrives in pieces too.
    pipe = Pipe([head[:5], head[5:30], head[30:], piece, piece])
    blocks = iter(FileSource("-", stream=pipe.stream()))
    heard = 0
    while heard < 440:
        heard += len(next(blocks))
    assert len(pipe.writes) <= 1


def test_a_live_raw_pipe_sounds_with_its_first_10_ms() -> None:
    pipe = Pipe([bytes(960), bytes(960)])
    raw = RawFormat.parse("s16le:48000:1")
    blocks = iter(FileSource("-", stream=pipe.stream(), raw=raw))
    assert len(next(blocks)) == 480
    assert len(pipe.writes) == 1


def test_a_named_pipe_or_raw_file_needs_no_standard_input(tmp_path: Path) -> None:
    path = tmp_path / "mic.raw"
    path.write_bytes((tone(16_000, 1.0) * 32767).astype("<i2").tobytes())
    heard = listen(FileSource(path, raw=RawFormat("s16le", 16_000, 1)))
    assert len(heard) == pytest.approx(48_000, abs=8)
    assert level_of(heard) == pytest.approx(LEVEL, rel=0.01)


def test_many_channels_are_averaged() -> None:
    four = np.repeat([[8192, 0, 8192, 0]], 100, axis=0).astype("<i2").tobytes()
    raw = RawFormat("s16le", 48_000, 4)
    heard = listen(FileSource("-", 2, stream=io.BytesIO(four), raw=raw))
    assert heard.shape == (100, 2)
    assert np.all(heard == 0.125)


def test_a_pipe_that_cannot_seek_gives_compressed_sound(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", "libmp3lame", "fltp", tone(48_000, 2.0), 48_000)

    def pieces() -> Iterator[bytes]:
        data = path.read_bytes()
        yield from (data[at : at + 1_000] for at in range(0, len(data), 1_000))

    pipe = Pipe([*pieces(), b""])
    # FFmpeg asks again after the end.
    pipe.writes += [b""] * 8
    heard = listen(FileSource("-", stream=pipe.stream()))
    # Unable to look at the end first, FFmpeg may keep the padding there.
    direct = listen(FileSource(path))
    assert len(heard) == pytest.approx(len(direct), abs=2_500)
    assert np.array_equal(heard[:90_000], direct[:90_000])


def test_the_dash_and_a_stream_belong_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stream"):
        FileSource("-")
    with pytest.raises(ValueError, match="stream"):
        FileSource(tmp_path / "a.wav", stream=io.BytesIO())
    with pytest.raises(ValueError, match="channels"):
        FileSource(tmp_path / "a.wav", channels=3)
