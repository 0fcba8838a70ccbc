"""A sound card without hardware: pulls in periods, ahead of time, by its own crystal.

As with a real card the player is told when the next sample will sound, read on the machine's own
clock and with some noise; and a player that is late hears nothing of it: the card plays silence
for what it missed and goes on.
"""

import random
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import trio

from codec.format import SAMPLE_RATE, Samples
from endpoints.outputs.base import OutputError, Pull, Sink
from endpoints.simulate import Crystal
from transport.clock.timeline import NS_PER_SECOND


class VirtualDevice:
    """Drives a sink as a sound card drives its loudspeaker."""

    def __init__(
        self,
        sink: Sink,
        crystal: Crystal,
        true_now_ns: Callable[[], int],
        of_true: Callable[[int], int],
        *,
        period_samples: int = 240,
        buffer_samples: int = 480,
        reading_noise_us: float = 0.0,
        seed: int = 0,
    ) -> None:
        """`true_now_ns` is the world's time, `of_true` how this machine's clock shows it."""
        self._sink = sink
        self._crystal = crystal
        self._true_now_ns = true_now_ns
        self._of_true = of_true
        self._period = period_samples
        self._buffer = buffer_samples
        self._noise_us = reading_noise_us
        self._draw = random.Random(seed)
        self._start_ns = 0
        self.underruns = 0
        self.fault = ""

    async def run(self, pull: Pull) -> None:
        """Pull for ever; OutputError when the sink fails."""
        self._start_ns = self._true_now_ns() + self._span_ns(self._buffer)
        index = 0
        try:
            self._sink.start(self._start_ns)
            while True:
                index = await self._next_period(index, pull)
        except OSError as error:
            raise OutputError(f"the output failed: {error.strerror or error}") from None
        finally:
            self._close()

    async def _next_period(self, index: int, pull: Pull) -> int:
        sounds_ns = self._sounds_at_ns(index)
        ahead_ns = sounds_ns - self._span_ns(self._buffer) - self._true_now_ns()
        await trio.sleep(max(ahead_ns, 0) / NS_PER_SECOND)
        if self._late_ns(sounds_ns) <= 0:
            noise_ns = round(self._draw.gauss(0, self._noise_us) * 1e3)
            block = pull(self._period, self._of_true(sounds_ns) + noise_ns)
            if self._late_ns(sounds_ns) <= 0:
                self._sink.write(block)
                return index + self._period
        missed = self._period * (1 + self._late_ns(sounds_ns) // self._span_ns(self._period))
        self.underruns += 1
        # Whoever slept for an hour has missed 700 MB: not all at once.
        for start in range(0, missed, SAMPLE_RATE):
            self._sink.write(np.zeros(min(SAMPLE_RATE, missed - start), np.float32))
        return index + missed

    def _late_ns(self, sounds_ns: int) -> int:
        return self._true_now_ns() - sounds_ns

    def _sounds_at_ns(self, index: int) -> int:
        return self._start_ns + round(self._crystal.seconds_at(index) * NS_PER_SECOND)

    @staticmethod
    def _span_ns(samples: int) -> int:
        return samples * NS_PER_SECOND // SAMPLE_RATE

    def _close(self) -> None:
        with suppress(OSError):  # it has failed already, and that has been said
            self._sink.close()


class NullSink:
    """Nobody listens."""

    def start(self, true_ns: int) -> None:
        """Nothing to note."""

    def write(self, samples: Samples) -> None:
        """Forget them."""

    def close(self) -> None:
        """Nothing to do."""
