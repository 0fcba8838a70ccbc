"""The meeting place of two threads: the sound card's takes samples, the loudspeaker's brings them.

Samples are numbered as the card plays them. One that comes after its turn is dropped: the card
has played silence in its place, and what follows must not be late for it.
"""

import threading
from typing import Final

import numpy as np

from codec.format import SAMPLE_RATE, Samples

CAPACITY: Final = 2 * SAMPLE_RATE


class Feed:
    """A bounded queue of mono samples, at most two seconds; either side never waits for long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held for the length of a copy
        self._ring = np.zeros(CAPACITY, np.float32)
        self._begin = 0
        self._end = 0
        self._flowing = False
        self.holes = 0  # how often the card found too little
        self.largest_take = 0  # samples that the card has wanted at once

    @property
    def end(self) -> int:
        """The number of the next sample to bring."""
        with self._lock:
            return self._end

    @property
    def ready(self) -> int:
        """How many samples wait to be taken."""
        with self._lock:
            return self._end - self._begin

    def take(self, out: Samples) -> int:
        """Fill `out` (n,) with what is there and silence after it; the number of its first sample.

        For the card's thread.
        """
        with self._lock:
            first, wanted = self._begin, len(out)
            count = min(self._end - first, wanted)
            out[:count] = self._ring[_places(first, count)]
            out[count:] = 0.0
            self._begin = first + wanted
            self._end = max(self._end, self._begin)
            self.largest_take = max(self.largest_take, wanted)
            if count < wanted and self._flowing:
                self.holes += 1
            self._flowing = count == wanted
            return first

    def bring(self, index: int, block: Samples) -> bool:
        """Append `block` (n,), whose first sample is number `index`.

        False if it is of no use: its turn has come and gone, or there is no room.
        """
        with self._lock:
            if index != self._end or self._end + len(block) - self._begin > CAPACITY:
                return False
            self._ring[_places(index, len(block))] = block
            self._end += len(block)
            self._flowing = True
            return True


def _places(first: int, count: int) -> np.ndarray:
    return np.arange(first, first + count) % CAPACITY
