"""Blocks of PCM at stated media times into frames of one length. Pure."""

from collections.abc import Iterator

import numpy as np

from codec.format import SAMPLE_RATE

# A hole shorter than this is filled with silence; a longer one starts a new talkspurt.
_MAX_FILL = SAMPLE_RATE // 2


class Framer:
    """Keeps frames contiguous in media time, whatever sizes the source sends."""

    def __init__(self, frame_samples: int) -> None:
        self._frame = frame_samples
        self._held = np.zeros(0, np.float32)
        self._start = 0
        self._begun = False

    def push(self, start: int, pcm: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Add samples whose first is media sample `start`; yields (start, frame) when complete.

        What overlaps samples already held is dropped: time does not go back.
        """
        gap = start - (self._start + len(self._held))
        if not self._begun or gap > _MAX_FILL:
            yield from self.flush(0)
            self._start, self._held, self._begun = start, np.zeros(0, np.float32), True
        elif gap > 0:
            self._held = np.concatenate((self._held, np.zeros(gap, np.float32)))
        elif gap < 0:
            pcm = pcm[-gap:]
        self._held = np.concatenate((self._held, pcm))
        yield from self._whole_frames()

    def flush(self, tail: int) -> Iterator[tuple[int, np.ndarray]]:
        """The rest, followed by `tail` samples of silence, padded to whole frames."""
        wanted = len(self._held) + tail if self._begun else 0
        padding = -wanted % self._frame + tail if wanted else 0
        self._held = np.concatenate((self._held, np.zeros(padding, np.float32)))
        yield from self._whole_frames()

    def _whole_frames(self) -> Iterator[tuple[int, np.ndarray]]:
        while len(self._held) >= self._frame:
            frame, self._held = self._held[: self._frame], self._held[self._frame :]
            start = self._start
            self._start += self._frame
            yield start, frame
