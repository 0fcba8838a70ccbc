import av
import numpy as np
import pytest

from codec.format import Samples
from codec.sources.convert import Converter


def frame(rate: int, layout: str, value: float, sample_format: str = "flt") -> av.AudioFrame:
    channels = 1 if layout == "mono" else 2
    shape = (1, rate // 10 * channels) if sample_format == "flt" else (channels, rate // 10)
    made = av.AudioFrame.from_ndarray(
        np.full(shape, value, np.float32), format=sample_format, layout=layout
    )
    made.sample_rate = rate
    return made


def convert(channels: int, frames: list[av.AudioFrame]) -> Samples:
    converter = Converter(channels)
    blocks = [block for each in frames for block in converter.push(each)]
    return np.concatenate([*blocks, *converter.flush()])


def test_a_stream_may_change_its_format_midway() -> None:
    heard = convert(
        1,
        [
            frame(44_100, "stereo", 0.25),
            frame(16_000, "mono", 0.5, "fltp"),
            frame(48_000, "mono", 0.75),
        ],
    )
    assert len(heard) == pytest.approx(3 * 4_800, abs=8)
    assert heard[[2_400, 7_200, 12_000]] == pytest.approx([0.25, 0.5, 0.75], abs=1e-3)


def test_what_needs_no_conversion_passes_untouched() -> None:
    heard = convert(2, [frame(48_000, "stereo", 0.3)])
    assert heard.shape == (4_800, 2)
    assert np.all(heard == np.float32(0.3))


def test_nothing_in_is_nothing_out() -> None:
    assert list(Converter(1).flush()) == []


def test_three_channels_are_not_offered() -> None:
    with pytest.raises(ValueError, match="channels"):
        Converter(3)
