"""Any sound to 48 kHz float32 in [-1, 1], mono or stereo."""

from collections.abc import Iterator, Sequence

import av
import numpy as np

from codec.format import SAMPLE_RATE, Samples, bounded

# FFmpeg folds stereo into float mono at +3 dB and lets it pass full scale; this makes the sum
# of the gains 1 instead.
_NO_OVERLOAD = {"rematrix_maxval": "1.0"}


class Converter:
    """Frames of any one format in, blocks out; when the format changes it starts afresh."""

    def __init__(self, channels: int) -> None:
        if channels not in {1, 2}:
            msg = f"channels must be 1 or 2, not {channels}"
            raise ValueError(msg)
        self._channels = channels
        self._resampler: av.AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None
        self._layout_channels = channels

    def push(self, frame: av.AudioFrame) -> Iterator[Samples]:
        """Yield what `frame` gives now; the filter holds back about 1 ms."""
        key = (frame.format.name, frame.layout.name, frame.sample_rate)
        if key != self._format:
            # Concatenated MP3 and broadcast captures do this; the resampler itself would raise.
            yield from self.flush()
            self._start(frame)
            self._format = key
        yield from self._convert(frame)

    def push_array(self, block: Samples, rate: int) -> Iterator[Samples]:
        """Do the same for an array (n, any number of channels) at `rate` Hz."""
        if block.shape[1] > 2 or self._channels == 1:
            # Numbered inputs of a mixer have no places in a room: they are averaged.
            block = block.mean(axis=1, keepdims=True, dtype=np.float32)
        layout = "mono" if block.shape[1] == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = rate
        yield from self.push(frame)

    def flush(self) -> Iterator[Samples]:
        """Yield what the filter still holds: without it the end of every file would be lost."""
        if self._resampler is not None:
            yield from self._convert(None)
        self._resampler = None
        self._format = None

    def _start(self, frame: av.AudioFrame) -> None:
        # FFmpeg would halve the power of mono spread over two channels; we repeat it as it is.
        self._layout_channels = min(self._channels, frame.layout.nb_channels)
        layout = "mono" if self._layout_channels == 1 else "stereo"
        self._resampler = av.AudioResampler("flt", layout, SAMPLE_RATE, options=_NO_OVERLOAD)

    def _convert(self, frame: av.AudioFrame | None) -> Iterator[Samples]:
        if self._resampler is None:
            return
        # With nothing to convert, PyAV answers a flush with [None], whatever its stub says.
        converted: Sequence[av.AudioFrame | None] = self._resampler.resample(frame)
        yield from (self._shape(out) for out in converted if out is not None and out.samples)

    def _shape(self, frame: av.AudioFrame) -> Samples:
        block = bounded(frame.to_ndarray().reshape(-1, self._layout_channels).astype(np.float32))
        if self._channels == 1:
            return block[:, 0]
        return block if block.shape[1] == 2 else np.repeat(block, 2, axis=1)
