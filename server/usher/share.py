"""What one who asks for repairs, or one group, may still be sent, and what it just was. Pure."""

from dataclasses import dataclass, field
from typing import Final

from transport.clock.timeline import NS_PER_SECOND

# At 30 % loss a stream of speech takes some 50 kb/s of repairs, and half a second of it that was
# lost at once 10 KB each time it is asked for.
BYTES_A_SECOND: Final = 128_000 // 8
BYTES_AT_ONCE: Final = 2 * BYTES_A_SECOND

Key = tuple[int, int]
"""A packet: its stream's SSRC and its sequence number."""


@dataclass(slots=True)
class Share:
    """A rate of 128 kb/s, and the packets taken from it within the hold."""

    at_ns: int
    _left: float = BYTES_AT_ONCE
    _held: dict[Key, int] = field(default_factory=dict)

    def refill(self, now_ns: int, hold_ns: int) -> None:
        """It is `now_ns`: say so before anything else is asked."""
        passed_ns = max(now_ns - self.at_ns, 0)
        self._left = min(self._left + passed_ns * BYTES_A_SECOND / NS_PER_SECOND, BYTES_AT_ONCE)
        self.at_ns = now_ns
        while self._held and next(iter(self._held.values())) <= now_ns - hold_ns:
            del self._held[next(iter(self._held))]

    def holds(self, key: Key) -> bool:
        """Whether this packet was taken within the hold."""
        return key in self._held

    def take(self, key: Key, cost: int) -> bool:
        """Take it, of `cost` bytes; false if so much is not left."""
        if cost > self._left:
            return False
        self._left -= cost
        self._held[key] = self.at_ns
        return True
