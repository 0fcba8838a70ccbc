"""How much of our time one connection may take. Pure."""

# What is said to us are requests for the time, 85 bytes each and two a second, and pongs.
_BYTES_PER_S = 4_096.0
_BURST_BYTES = 16_384.0


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
