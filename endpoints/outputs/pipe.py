"""Raw s16le, 48 kHz, mono, to standard output, at the pace of the machine's clock."""

import os

import numpy as np

from codec.format import Samples


class PipeSink:
    """Never waits: a reader that does not keep up loses samples, and they are counted."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)
        self._left = b""
        self.dropped_samples = 0

    def start(self, true_ns: int) -> None:
        """A pipe has no clock of its own to note."""

    def write(self, samples: Samples) -> None:
        """Write what the pipe takes; BrokenPipeError if nobody reads any more."""
        data = self._left + (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        try:
            sent = os.write(self._descriptor, data)
        except BlockingIOError:
            sent = 0
        # Half a sample that was taken must be completed, or all that follows is noise.
        self._left = data[sent : sent + 1] if sent % 2 else b""
        self.dropped_samples += (len(data) - sent) // 2

    def close(self) -> None:
        """Leave standard output as it was."""
        os.set_blocking(self._descriptor, True)
