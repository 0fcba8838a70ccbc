"""Who waits in line at the door, and whose turn it is. Pure."""

from collections import deque
from typing import Generic, TypeVar

Guest = TypeVar("Guest")


class Line(Generic[Guest]):
    """Guests by address, each address in its turn; the urgent have every second turn.

    However many come from one address, or of one kind, none of another waits for all of them.
    """

    def __init__(self) -> None:
        self._of: dict[bool, dict[str, deque[Guest]]] = {True: {}, False: {}}
        self._next_is_urgent = True
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, guest: Guest, address: str, *, urgent: bool) -> None:
        """One more, behind those of its address."""
        self._of[urgent].setdefault(address, deque()).append(guest)
        self._size += 1

    def pop(self) -> Guest:
        """The one whose turn it is; IndexError if nobody waits."""
        if not self._size:
            raise IndexError("nobody waits")
        urgent = (
            self._next_is_urgent if self._of[True] and self._of[False] else bool(self._of[True])
        )
        self._next_is_urgent = not urgent
        self._size -= 1
        by_address = self._of[urgent]
        address = next(iter(by_address))
        here = by_address.pop(address)
        guest = here.popleft()
        if here:
            by_address[address] = here  # behind the other addresses
        return guest
