"""Who may come in, and how much of our time one connection may take. Pure."""

from collections import Counter

MAX_CONNECTIONS = 4_000
# Connections that have not shown a token yet, each for 10 s at most: of one address, of all.
MAX_STRANGERS_EACH = 64
MAX_STRANGERS = 1_024
# What is said to us are requests for the time, 85 bytes each and two a second, and pongs.
_BYTES_PER_S = 4_096.0
_BURST_BYTES = 16_384.0


class Door:
    """Counts connections; whoever comes when there are too many is turned away."""

    def __init__(self) -> None:
        self._strangers: Counter[str] = Counter()
        self._waiting = 0
        self._known = 0

    def knock(self, address: str) -> bool:
        """A stranger comes in, if true; then say `know` or `leave` once."""
        if (
            self._known + self._waiting >= MAX_CONNECTIONS
            or self._waiting >= MAX_STRANGERS
            or self._strangers[address] >= MAX_STRANGERS_EACH
        ):
            return False
        self._strangers[address] += 1
        self._waiting += 1
        return True

    def know(self, address: str) -> None:
        """A stranger has shown a good token; say `depart` when it goes."""
        self.leave(address)
        self._known += 1

    def leave(self, address: str) -> None:
        """A stranger has gone."""
        self._waiting -= 1
        self._strangers[address] -= 1
        if not self._strangers[address]:
            del self._strangers[address]

    def depart(self) -> None:
        """One that was known has gone."""
        self._known -= 1


class Allowance:
    """A token bucket: how many bytes a connection may say to us."""

    def __init__(self, now_s: float) -> None:
        self._left = _BURST_BYTES
        self._at_s = now_s

    def take(self, count: int, now_s: float) -> bool:
        """Whether so many bytes more are within reason."""
        self._left = min(_BURST_BYTES, self._left + (now_s - self._at_s) * _BYTES_PER_S) - count
        self._at_s = now_s
        return self._left >= 0
