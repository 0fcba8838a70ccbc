"""How a frame's packets are spread over time, so that no switch or radio gets them in one burst."""

from collections.abc import Iterable
from dataclasses import dataclass

# A system call costs the same for few packets as for many, and a burst is no longer than so many.
LEAST_CHUNK, MOST_CHUNK = 64, 256
# So often where time does not press: waking up oftener costs more than it smooths.
_CHUNK_NS = 400_000.0
# Where there are few destinations a packet need not wait for its turn.
_MOST_NS = 10_000.0


@dataclass(frozen=True, slots=True)
class Pacing:
    """Over which share of its frame a stream's packets are spread, from the first on.

    It is `least_share` while there is time, and no more than `most_share`: a frame must have left
    before the next one comes. In between a packet has `packet_ns`, half as much again as the kernel
    takes for one (2.6 to 3.5 us, measured): who was held up must be able to catch up. Shares of 0
    send all of them at once.
    """

    least_share: float = 0.6
    most_share: float = 0.9
    packet_ns: float = 5_000.0

    def share(self, streams: Iterable[tuple[int, float]]) -> float:
        """The share for streams of so many destinations and frames of so many ns.

        All streams have the same one, for what counts is the work of all of them together.
        """
        packets_a_ns = sum(count / frame_ns for count, frame_ns in streams)
        return min(self.most_share, max(self.least_share, self.packet_ns * packets_a_ns))


UNPACED = Pacing(least_share=0.0, most_share=0.0)


def gap_ns(share: float, count: int, frame_ns: float) -> float:
    """From one packet of a stream to its next, `count` of them in a frame; ns."""
    return min(_MOST_NS, share * frame_ns / max(1, count))


def chunk_of(gap: float) -> int:
    """How many packets leave together where one has so many ns."""
    if gap <= 0:
        return MOST_CHUNK
    return int(min(MOST_CHUNK, max(LEAST_CHUNK, _CHUNK_NS / gap)))
