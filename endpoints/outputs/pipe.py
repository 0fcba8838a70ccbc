"""Raw s16le, 48 kHz, mono, to standard output, at the pace of the machine's clock."""

import os

from codec.format import Samples
from codec.pcm import pcm16


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
        data = self._left + pcm16(samples)
        try:
            sent = os.write(self._descriptor, data)
        except BlockingIOError:
            sent = 0
        # Half a sample that was taken must be completed, or all that follows is noise. One may
        # have been left from the last time, so it is the pipe's count that is odd, not this one.
        halved = (len(self._left) + sent) % 2
        self._left = data[sent : sent + halved]
        self.dropped_samples += (len(data) - sent - halved) // 2

    def close(self) -> None:
        """Leave standard output as it was."""
        os.set_blocking(self._descriptor, True)
