import io
import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.sources.raw import RawFormat, raw_blocks
from codec.sources.wav import WavHead, read_wav_head


def test_a_format_is_read_from_text() -> None:
    assert RawFormat.parse("s16le:16000:2") == RawFormat("s16le", 16_000, 2)


@pytest.mark.parametrize(
    "text",
    ["", "s16le", "s16le:48000", "s16le:48000:1:2", "s16le:-1:1", "mp3:48000:1", "s16le:0:1",
     "s16le:48000:0", "s16le:9999999:1", "s16le:48000:33", "s16le:٤٨:1"],
)  # fmt: skip
def test_a_senseless_format_is_refused_with_advice(text: str) -> None:
    with pytest.raises(ValueError, match=r"as in s16le:48000:1|must be"):
        RawFormat.parse(text)


@given(st.text(max_size=20))
def test_any_text_is_a_format_or_a_value_error(text: str) -> None:
    try:
        raw = RawFormat.parse(text)
    except ValueError:
        return
    assert raw.frame_bytes > 0


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("u8", bytes([0, 64, 128, 192])),
        ("s16le", np.array([-32768, -16384, 0, 16384], "<i2").tobytes()),
        ("s16be", np.array([-32768, -16384, 0, 16384], ">i2").tobytes()),
        ("s24le", b"\x00\x00\x80\x00\x00\xc0\x00\x00\x00\x00\x00\x40"),
        ("s32le", np.array([-(2**31), -(2**30), 0, 2**30], "<i4").tobytes()),
        ("f32le", np.array([-1, -0.5, 0, 0.5], "<f4").tobytes()),
    ],
)
def test_every_encoding_means_the_same_sound(encoding: str, data: bytes) -> None:
    mono = RawFormat(encoding, 48_000, 1)
    assert mono.decode(data).tolist() == [[-1.0], [-0.5], [0.0], [0.5]]
    stereo = RawFormat(encoding, 48_000, 2)
    assert stereo.decode(data).tolist() == [[-1.0, -0.5], [0.0, 0.5]]


class Dribble:
    """Gives a stream in the pieces it was written in."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def read1(self, size: int, /) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > size:
            self.pieces.insert(0, piece[size:])
        return piece[:size]


@given(st.lists(st.integers(1, 11), min_size=1), st.sampled_from(["s16le", "s24le"]))
def test_pieces_that_cut_samples_join_without_loss(sizes: list[int], encoding: str) -> None:
    raw = RawFormat(encoding, 48_000, 2)
    data = (bytes(range(1, 252)) * 10)[: sum(sizes)]
    cuts = np.cumsum([0, *sizes])
    pieces = [data[a:b] for a, b in itertools.pairwise(cuts)]
    out = np.concatenate([np.zeros((0, 2)), *raw_blocks(Dribble(pieces), raw)])
    whole = len(data) - len(data) % raw.frame_bytes
    assert np.array_equal(out, raw.decode(data[:whole]))


def test_what_has_arrived_is_given_at_once() -> None:
    stream = Dribble([b"\1\0" * 10, b"\2\0" * 7])
    blocks = raw_blocks(stream, RawFormat("s16le", 48_000, 1))
    assert len(next(blocks)) == 10
    assert len(stream.pieces) == 1


def test_a_limit_keeps_what_follows_the_sound_out() -> None:
    stream = Dribble([b"\0\0" * 10 + b"LIST"])
    blocks = list(raw_blocks(stream, RawFormat("s16le", 48_000, 1), limit_bytes=20))
    assert sum(map(len, blocks)) == 10


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_head_or_given_back_whole(data: bytes, riff: bool) -> None:
    if riff:
        data = b"RIFF\0\0\0\0WAVE" + data
    head = read_wav_head(io.BytesIO(data))
    assert data.startswith(head.consumed)


@pytest.mark.parametrize(
    ("stated", "data_bytes"), [(0, None), (0xFFFFFFFF, None), (0x7FFFF000, None), (960, 960)]
)
def test_a_length_that_is_no_length_means_until_the_end(
    stated: int, data_bytes: int | None
) -> None:
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 44_100, 176_400, 4, 16)
    data = b"RIFF\0\0\0\0WAVE" + fmt + struct.pack("<4sI", b"data", stated)
    head = read_wav_head(io.BytesIO(data + bytes(100)))
    assert head == WavHead(data, RawFormat("s16le", 44_100, 2), data_bytes)


@pytest.mark.parametrize(("tag", "bits"), [(7, 8), (17, 4), (3, 64), (1, 12)])
def test_what_we_do_not_read_ourselves_is_left_to_ffmpeg(tag: int, bits: int) -> None:
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, 1, 8_000, 8_000, 1, bits)
    data = b"RIFF\0\0\0\0WAVE" + fmt + struct.pack("<4sI", b"data", 100)
    assert read_wav_head(io.BytesIO(data + bytes(100))) == WavHead(data, None, 100)
