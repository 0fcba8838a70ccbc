"""How many connections may be unfinished: at TLS, or before they show who they are. Pure."""

from typing import Protocol

# A fleet behind one address comes back at once; each of its handshakes is over in milliseconds.
MAX_EACH = 256
MAX_TOGETHER = 1_024


class Guest(Protocol):
    """A connection that can be sent away."""

    def drop(self) -> None:
        """End it at once."""


class Door:
    """Unfinished connections, by address; a newcomer always comes in.

    If there are too many of an address, its oldest makes room; if there are too many of all, the
    oldest of the address that has most. Whoever is honest is through long before it is the oldest,
    so strangers that stand in the door are in each other's way and in nobody else's.
    """

    def __init__(self, each: int = MAX_EACH, together: int = MAX_TOGETHER) -> None:
        self._each = each
        self._together = together
        # Sets that keep their order, oldest first.
        self._by_address: dict[str, dict[Guest, None]] = {}
        self._address: dict[Guest, str] = {}

    def __len__(self) -> int:
        return len(self._address)

    def __contains__(self, guest: Guest) -> bool:
        return guest in self._address

    def arrive(self, guest: Guest, address: str) -> bool:
        """One has come; true if another was sent away for it."""
        here = self._by_address.setdefault(address, {})
        here[guest] = None
        self._address[guest] = address
        oldest = self._in_the_way(here)
        if oldest is None:
            return False
        self.leave(oldest)
        oldest.drop()
        return True

    def _in_the_way(self, here: dict[Guest, None]) -> Guest | None:
        if len(here) > self._each:
            return next(iter(here))
        if len(self) > self._together:
            most: dict[Guest, None] = max(self._by_address.values(), key=len)
            return next(iter(most))
        return None

    def leave(self, guest: Guest) -> None:
        """It has finished, or is gone; also if it had left before."""
        address = self._address.pop(guest, None)
        if address is None:
            return
        here = self._by_address[address]
        del here[guest]
        if not here:
            del self._by_address[address]
