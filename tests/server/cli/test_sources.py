"""A word of the command line into blocks of sound."""

import argparse
import wave
from pathlib import Path

import numpy as np
import pytest

from codec.errors import SourceError
from codec.format import Samples
from server.cli.sources import add_source_options, chimed, speech

TONE = (0.25 * np.sin(np.arange(4_800) * 2 * np.pi * 1000 / 48_000)).astype(np.float32)


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_source_options(parser)
    return parser.parse_args(words)


def spoken(*words: str) -> Samples:
    return np.concatenate([*speech(options(*words), 480, lambda _: None).blocks])


@pytest.fixture
def tone(tmp_path: Path) -> str:
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes((TONE * 32_767).astype("<i2").tobytes())
    return str(path)


def test_a_file_is_as_long_as_it_was_and_unchanged(tone: str) -> None:
    heard = spoken(tone)
    assert len(heard) == len(TONE)
    assert np.max(np.abs(heard - TONE)) < 1e-4


def test_a_file_is_repeated(tone: str) -> None:
    assert len(spoken(tone, "--repeat", "3")) == 3 * len(TONE)


@pytest.mark.parametrize("gain_db", [6.0, 20.0, 40.0])
def test_however_loud_it_is_made_nothing_clips(tone: str, gain_db: float) -> None:
    heard = spoken(tone, "--gain-db", str(gain_db))
    assert np.max(np.abs(heard)) <= 10 ** (-1 / 20)
    assert np.sqrt(np.mean(heard**2)) > np.sqrt(np.mean(TONE**2)) * 1.5


def test_blocks_are_of_one_length_up_to_the_last(tone: str) -> None:
    blocks = [*speech(options(tone), 960, lambda _: None).blocks]
    assert {len(block) for block in blocks} == {960}


def test_the_chime_comes_in_blocks_and_ends_in_silence() -> None:
    chime = np.concatenate([*chimed(480)])
    assert len(chime) == 96_000
    assert chime[-1] == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("x.wav", "--repeat", "0"), "use 1 or more"),
        (("-", "--repeat", "2"), "--repeat is for a file"),
        (("mic", "--repeat", "2"), "--repeat is for a file"),
        (("x.wav", "--raw", "s16le:48000:1"), "give - as the source"),
        (("x.wav", "--gain-db", "90"), "use -60 to 40"),
        (("x.wav", "--gain-db", "nan"), "use -60 to 40"),
        (("rtp://nobody",), "rtp://ADDRESS:PORT"),
        (("nowhere.wav",), "no such file"),
    ],
)
def test_what_cannot_be_is_refused_before_anybody_is_asked(
    words: tuple[str, ...], why: str
) -> None:
    with pytest.raises(SourceError, match=why):
        speech(options(*words), 480, lambda _: None)
