"""What is refused, in few rows: who tries again and again is counted, a row a minute. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Any

from server.audit.row import Entry

REFUSED = "refused"
_WINDOW_NS = 60 * 1_000_000_000
# So many addresses have rows of their own within a minute; those of all others are counted in one.
_MOST = 64
_OTHERS = "others"
_IPV6_NETWORK = 64


@dataclass(frozen=True, slots=True)
class Refusal:
    """Somebody wanted something, and was refused."""

    who: str
    where: str
    asked: Mapping[str, Any]
    why: str

    def entry(self, at_ns: int, more: Mapping[str, Any]) -> Entry:
        """As the log has it."""
        on = {**self.asked, **more}
        return Entry.of(at_ns, self.who, self.where, REFUSED, on, self.why, REFUSED)


@dataclass(slots=True)
class _Window:
    since_ns: int
    repeated: int = 0
    last: Refusal | None = field(default=None)


class Refusals:
    """Makes rows of refusals: the first of an address at once, its next ones once a minute."""

    def __init__(self) -> None:
        self._windows: dict[str, _Window] = {}

    def refuse(self, refusal: Refusal, now_ns: int, times: int = 1) -> Entry | None:
        """The row for it, or for the first of so many; None if it is counted in a later one."""
        key = _network(refusal.where)
        window = self._windows.get(key)
        if window is None and len(self._windows) >= _MOST:
            key = _OTHERS
            window = self._windows.get(key)
        if window is None:
            rest = times - 1
            self._windows[key] = _Window(now_ns, rest, refusal if rest else None)
            return refusal.entry(now_ns, {})
        window.repeated += times
        window.last = refusal
        return None

    def due(self, now_ns: int) -> list[Entry]:
        """The rows of minutes that are over; to be asked for every second or so."""
        entries = []
        for key, window in list(self._windows.items()):
            if now_ns - window.since_ns < _WINDOW_NS:
                continue
            if window.last is None:
                del self._windows[key]
                continue
            # Of the last of them, and how many they were: each of these has another reason.
            counted: dict[str, Any] = {"times": window.repeated}
            if key == _OTHERS:
                counted["addresses"] = f"more than {_MOST}"
            entries.append(window.last.entry(now_ns, counted))
            self._windows[key] = _Window(now_ns)
        return entries


def _network(where: str) -> str:
    """By what refusals are counted: who has one IPv6 address mostly has 2**64 of them."""
    try:
        address = ip_address(where)
    except ValueError:
        return where
    if isinstance(address, IPv6Address):
        return f"{int(address) >> (128 - _IPV6_NETWORK):x}::"
    return where
