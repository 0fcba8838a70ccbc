"""Codes that were made or used, and loudspeakers that wait for a person. Pure; no secrets."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from server.changes.log import Changes, Kind, What
from server.enrolment import NUMBER_BYTES, Enrolment
from transport.clock.timeline import NS_PER_SECOND
from transport.security.keys import shown_fingerprint

# There may be 20,000 codes; to look at them takes 5 ms.
_EACH_NS = NS_PER_SECOND
_AT_ONCE = 500


class _Kept(NamedTuple):
    """A code or who waits, as it was told last; `wanted` is its name and its unit."""

    kind: Kind
    shown: str
    held: bool
    wanted: tuple[str, str | None]
    units: tuple[str, ...]


class EnrolmentWatch:
    """Looks at all of them every second. A code that is too old says nothing when it becomes so."""

    def __init__(
        self,
        enrolment: Enrolment,
        changes: Changes,
        concerned: Callable[[str, str | None], set[str]],
    ) -> None:
        """`concerned` as `Enrolling.concerned`. What there is at first has not changed."""
        self._enrolment = enrolment
        self._changes = changes
        self._concerned = concerned
        self._kept: dict[bytes, _Kept] = {}
        self._begun = False
        self._due_ns = 0

    def look(self, now_ns: int) -> Iterator[None]:
        """Slice by slice."""
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + _EACH_NS
        there = self._there()
        for key in self._kept.keys() - there.keys():
            self._tell(now_ns, What.REMOVED, self._kept.pop(key))
        for count, (key, now) in enumerate(there.items(), 1):
            before = self._kept.get(key)
            if before is None or (before.held, before.wanted) != now:
                kept = self._kept[key] = self._look_at(key, *now)
                self._tell(now_ns, What.CHANGED if before else What.ADDED, kept)
            if count % _AT_ONCE == 0:
                yield
        self._begun = True

    def _there(self) -> dict[bytes, tuple[bool, tuple[str, str | None]]]:
        """A code by its number, who waits by its key; whether it is in use, name and unit."""
        enrolment = self._enrolment
        there = {c.number: (enrolment.is_held(c), (c.name, c.unit)) for c in enrolment.codes}
        return there | {w.key: (False, (w.wish, w.code.unit)) for w in enrolment.waiting}

    def _look_at(self, key: bytes, held: bool, wanted: tuple[str, str | None]) -> _Kept:
        name, unit = wanted
        if len(key) == NUMBER_BYTES:
            units = tuple(sorted(self._concerned(name, unit)))
            return _Kept(Kind.ENROLMENT, key.hex(), held, wanted, units)
        # What a loudspeaker that waits would like to be called is nobody's yet.
        units = tuple(sorted(self._concerned("", unit)))
        return _Kept(Kind.PENDING, shown_fingerprint(key), held, wanted, units)

    def _tell(self, now_ns: int, what: What, kept: _Kept) -> None:
        if self._begun:
            self._changes.add(now_ns, kept.kind, what, kept.shown, kept.units)
