"""How often somebody may fail to sign in. Pure; `now` is an argument, and every table is bounded.

Three counts: of a user at an address, of a user, of an address. Each allows some failures and then
none for a while, which doubles up to a quarter of an hour. An attempt that is not looked at does
not count, so no stranger can keep a user out for longer than that at a time; and where a user has
signed in before, the failures of others elsewhere do not count against him at all.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

MAX_KEPT = 10_000
_LONGEST_S = 15 * 60
# After so long without a failure they are forgotten.
_FORGET_S = 60 * 60
# Where a user has signed in within so long he is known.
_KNOWN_S = 90 * 24 * 3600
_Key = TypeVar("_Key", bound=Hashable)


@dataclass(slots=True)
class _Tally:
    failures: int = 0
    last_s: int = 0
    until_s: int = 0


class _Tallies(Generic[_Key]):
    """Failures by what they are counted for."""

    def __init__(self, free: int, first_s: int) -> None:
        self._free = free
        self._first_s = first_s
        self._kept: dict[_Key, _Tally] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def wait_s(self, key: _Key, now_s: int) -> int:
        tally = self._kept.get(key)
        return 0 if tally is None else max(tally.until_s - now_s, 0)

    def count(self, key: _Key, now_s: int) -> None:
        tally = self._kept.get(key)
        if tally is None or now_s - tally.last_s > _FORGET_S:
            self._make_room(now_s)
            tally = self._kept[key] = _Tally()
        tally.failures += 1
        tally.last_s = now_s
        beyond = tally.failures - self._free
        if beyond >= 0:
            tally.until_s = now_s + min(self._first_s << min(beyond, 10), _LONGEST_S)

    def take_back(self, key: _Key) -> None:
        """The last one was none."""
        tally = self._kept.get(key)
        if tally is not None:
            tally.failures -= 1
            if tally.failures < self._free:
                tally.until_s = 0

    def clear(self, key: _Key) -> None:
        self._kept.pop(key, None)

    def _make_room(self, now_s: int) -> None:
        if len(self._kept) < MAX_KEPT:
            return
        old = [key for key, tally in self._kept.items() if now_s - tally.last_s > _FORGET_S]
        # Whoever invents names and addresses pushes out what he has invented before.
        for key in old or [min(self._kept, key=lambda k: self._kept[k].failures)]:
            del self._kept[key]


class Lockout:
    """Says of each attempt whether it is looked at."""

    def __init__(self) -> None:
        self._pairs: _Tallies[tuple[str, str]] = _Tallies(5, 30)
        self._names: _Tallies[str] = _Tallies(20, 60)
        self._addresses: _Tallies[str] = _Tallies(50, 30)
        # Where users have signed in, and when; the longest ago first.
        self._known: dict[tuple[str, str], int] = {}

    def attempt(self, name: str, address: str, now_s: int) -> int:
        """0 if it is looked at; it counts as failed at once, for many may come together.

        Otherwise how many seconds to wait.
        """
        pair = name, address
        wait_s = max(self._pairs.wait_s(pair, now_s), self._addresses.wait_s(address, now_s))
        if not self._is_known(pair, now_s):
            wait_s = max(wait_s, self._names.wait_s(name, now_s))
        if wait_s:
            return wait_s
        self._pairs.count(pair, now_s)
        self._addresses.count(address, now_s)
        if not self._is_known(pair, now_s):
            self._names.count(name, now_s)
        return 0

    def succeeded(self, name: str, address: str, now_s: int) -> None:
        """The attempt was right after all."""
        pair = name, address
        self._pairs.clear(pair)
        self._names.clear(name)
        # Not all of the address's: whoever has one account would guess others' for ever.
        self._addresses.take_back(address)
        self._known.pop(pair, None)
        if len(self._known) >= MAX_KEPT:
            del self._known[next(iter(self._known))]
        self._known[pair] = now_s

    def _is_known(self, pair: tuple[str, str], now_s: int) -> bool:
        since_s = self._known.get(pair)
        return since_s is not None and now_s - since_s <= _KNOWN_S
