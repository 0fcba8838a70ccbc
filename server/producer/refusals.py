"""Who was refused the word, counted until control is told. Pure, but for a lock."""

import threading
from collections.abc import Iterable

from server.processes.bus import TicketRefusal

# So many addresses are counted by themselves between two reports, all others together.
_MOST = 64
_OTHERS = ""


class Refusals:
    """Counts by address and reason; shared between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], int] = {}

    def refuse(self, address: str, why: str) -> None:
        """Somebody was refused; reasons are ours, and few."""
        self.put_back((TicketRefusal(address, why, 1),))

    def take(self) -> tuple[TicketRefusal, ...]:
        """All since the last time."""
        with self._lock:
            counts, self._counts = self._counts, {}
        return tuple(TicketRefusal(*key, times) for key, times in counts.items())

    def put_back(self, refusals: Iterable[TicketRefusal]) -> None:
        """These could not be told."""
        with self._lock:
            for refusal in refusals:
                key = (refusal.address, refusal.why)
                if key not in self._counts and len(self._counts) >= _MOST:
                    key = (_OTHERS, refusal.why)
                self._counts[key] = self._counts.get(key, 0) + refusal.times
