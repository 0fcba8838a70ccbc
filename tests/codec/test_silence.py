import numpy as np
import pytest

from codec.dsp.silence import Change, SilenceDetector
from codec.format import Samples

LOUD = (0.1 * np.sin(np.arange(48_000) / 10)).astype(np.float32)
QUIET = LOUD / np.float32(200)  # peak -66 dBFS, RMS -69


def changes(detector: SilenceDetector, sound: Samples, block: int) -> list[tuple[int, Change]]:
    """What it said, and after how many samples."""
    said = []
    for at in range(0, len(sound), block):
        change = detector.feed(sound[at : at + block])
        if change:
            said.append((min(at + block, len(sound)), change))
    return said


@pytest.mark.parametrize("block", [7, 480, 960, 1_000])
def test_it_says_once_that_it_is_quiet_and_once_that_it_is_not(block: int) -> None:
    sound = np.concatenate([LOUD, QUIET, QUIET, QUIET, LOUD, LOUD])
    said = changes(SilenceDetector(2.0), sound, block)
    assert [change for _, change in said] == ["silence", "sound"]
    assert said[0][0] == pytest.approx(3 * 48_000, abs=1_000)
    assert said[1][0] == pytest.approx(4 * 48_000, abs=2_000)


def test_a_word_between_begins_the_count_anew() -> None:
    sound = np.concatenate([QUIET, LOUD[:2_000], QUIET, LOUD[:2_000], QUIET])
    assert changes(SilenceDetector(1.5), sound, 480) == []


def test_what_sounds_at_the_end_of_a_long_block_is_sound() -> None:
    detector = SilenceDetector(1.5)
    assert detector.feed(np.concatenate([QUIET, LOUD[:960]])) is None
    assert detector.feed(QUIET) is None
    assert detector.feed(QUIET) == "silence"


def test_silence_from_the_beginning_is_silence() -> None:
    detector = SilenceDetector(0.5)
    assert changes(detector, np.zeros(48_000, np.float32), 480) == [(24_000, "silence")]
    assert detector.silent


def test_a_constant_is_no_sound() -> None:
    sound = np.full(48_000, 0.3, np.float32)
    assert changes(SilenceDetector(0.5), sound, 500)[0][1] == "silence"


def test_one_channel_that_sounds_is_sound() -> None:
    sound = np.stack([np.zeros_like(LOUD), LOUD], axis=1)
    assert changes(SilenceDetector(0.5), sound, 480) == []


def test_the_threshold_is_the_callers() -> None:
    assert changes(SilenceDetector(0.5, threshold_dbfs=-80), QUIET, 480) == []
    assert len(changes(SilenceDetector(0.5, threshold_dbfs=-10), LOUD, 480)) == 1


def test_channels_may_change_and_blocks_be_empty() -> None:
    detector = SilenceDetector(0.5)
    assert detector.feed(np.zeros(0, np.float32)) is None
    assert detector.feed(np.zeros(12_001, np.float32)) is None
    assert detector.feed(np.zeros((24_000, 2), np.float32)) == "silence"


@pytest.mark.parametrize(("seconds", "threshold"), [(0, -60), (np.inf, -60), (10, 0)])
def test_settings_without_sense_are_refused(seconds: float, threshold: float) -> None:
    with pytest.raises(ValueError, match="seconds must be"):
        SilenceDetector(seconds, threshold)
