"""How a loudspeaker keeps its session: for ever, without a thundering herd."""

from collections.abc import Callable

_FIRST_S = 0.25
_LONGEST_S = 4.0
HELLO_TIMEOUT_S = 5.0
# A station that has taken the connection is there; thousands may be before us.
TLS_TIMEOUT_S = 30.0
# A ping that is not answered for this long shows that the session is dead, whatever TCP thinks.
SILENCE_TIMEOUT_S = 10.0
# A session has lasted when it has lasted this long: the next attempt comes as soon as the first.
SETTLED_S = 30.0


class Backoff:
    """Waiting times between attempts: doubling, with half of each drawn at random."""

    def __init__(self, uniform: Callable[[], float]) -> None:
        """`uniform` draws from [0, 1)."""
        self._uniform = uniform
        self._next_s = _FIRST_S

    def next_s(self) -> float:
        """Seconds to wait before the next attempt."""
        longest, self._next_s = self._next_s, min(2 * self._next_s, _LONGEST_S)
        return longest * (0.5 + 0.5 * self._uniform())

    def reset(self) -> None:
        """An attempt succeeded, and lasted."""
        self._next_s = _FIRST_S
