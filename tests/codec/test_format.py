import numpy as np
import pytest

from codec.format import FRAME_MS, bounded, samples_of_ms


def test_every_opus_frame_is_a_whole_number_of_samples() -> None:
    assert [samples_of_ms(ms) for ms in FRAME_MS] == [120, 240, 480, 960, 1920, 2880]


@pytest.mark.parametrize("ms", [0.01, 0.3, -10, float("nan"), float("inf")])
def test_what_is_not_a_whole_number_of_samples_is_refused(ms: float) -> None:
    with pytest.raises(ValueError, match="whole number"):
        samples_of_ms(ms)


def test_bounded_keeps_good_samples_and_repairs_the_rest() -> None:
    wild = np.array([0.5, -2.0, 3.0, np.nan, np.inf, -np.inf])
    tame = bounded(wild)
    assert tame.dtype == np.float32
    assert tame.tolist() == [0.5, -1.0, 1.0, 0.0, 1.0, -1.0]
    assert wild[1] == -2.0
