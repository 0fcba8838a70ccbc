"""Frames in any order in, frames by media time out.

The buffer does not decide when to play: the playout position comes from the clock, one delay for
everybody. It only keeps what has arrived, refuses what came too late or twice, and is bounded.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One Opus packet and the media samples it stands for."""

    start_sample: int
    samples: int
    payload: bytes

    @property
    def end_sample(self) -> int:
        """The first media sample after the frame."""
        return self.start_sample + self.samples


class Insertion(Enum):
    """What became of a frame."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    LATE = "late"
    OVERFLOW = "overflow"


class JitterBuffer:
    """Keeps frames from the playout position on, ordered by media time."""

    def __init__(self, capacity: int = 512) -> None:
        self._capacity = capacity
        self._starts: list[int] = []
        self._frames: dict[int, EncodedFrame] = {}
        self._played_to: int | None = None

    def __len__(self) -> int:
        return len(self._starts)

    def insert(self, frame: EncodedFrame) -> Insertion:
        """Keep a frame, unless it has been played past, is held already, or nothing more fits."""
        if self._played_to is not None and frame.end_sample <= self._played_to:
            return Insertion.LATE
        if frame.start_sample in self._frames:
            return Insertion.DUPLICATE
        if len(self._starts) >= self._capacity:
            return Insertion.OVERFLOW
        insort(self._starts, frame.start_sample)
        self._frames[frame.start_sample] = frame
        return Insertion.ACCEPTED

    def margin(self, start_sample: int) -> int | None:
        """How many samples before its turn a frame that begins there would come now.

        None before anything has been played.
        """
        return None if self._played_to is None else start_sample - self._played_to

    def first(self) -> EncodedFrame | None:
        """The earliest frame held."""
        return self._frames[self._starts[0]] if self._starts else None

    def reach(self) -> int | None:
        """The end of the last frame held."""
        return self._frames[self._starts[-1]].end_sample if self._starts else None

    def take(self, position: int) -> EncodedFrame | None:
        """Remove and return the frame that covers `position`; what lies before it is dropped."""
        self.drop_before(position)
        head = self.first()
        if head is None or head.start_sample > position:
            return None
        self._starts.pop(0)
        del self._frames[head.start_sample]
        self._play_to(head.end_sample)  # a copy that comes now is of no use
        return head

    def drop_before(self, position: int, keep: int = 0) -> int:
        """Forget frames that end `keep` samples before `position` or earlier; how many were.

        What is kept can still be taken; what comes now and ends before `position` is late.
        """
        self._play_to(position)
        position -= keep
        count = bisect_left(self._starts, position)
        # Nearly always a prefix; but a long frame may outlast shorter ones that began after it.
        kept = [s for s in self._starts[:count] if self._frames[s].end_sample > position]
        for start in set(self._starts[:count]).difference(kept):
            del self._frames[start]
        self._starts[:count] = kept
        return count - len(kept)

    def rewind(self) -> None:
        """The playout position is about to be set anew, perhaps to an earlier time."""
        self._played_to = None

    def _play_to(self, position: int) -> None:
        self._played_to = position if self._played_to is None else max(position, self._played_to)
