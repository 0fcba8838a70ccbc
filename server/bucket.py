"""How often somebody may do something. Pure: `now` is an argument."""

_NS_PER_SECOND = 1_000_000_000


class Bucket:
    """So many at once, and so many a second from then on."""

    def __init__(self, a_second: float, at_once: float) -> None:
        self._a_second = a_second
        self._at_once = at_once
        self._left = at_once
        self._at_ns: int | None = None

    def take(self, now_ns: int) -> bool:
        """Whether there is room for one more."""
        passed_ns = 0 if self._at_ns is None else max(now_ns - self._at_ns, 0)
        self._at_ns = now_ns
        refilled = self._left + passed_ns * self._a_second / _NS_PER_SECOND
        self._left = min(refilled, self._at_once)
        if self._left < 1:
            return False
        self._left -= 1
        return True
