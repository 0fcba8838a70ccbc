"""Loudspeakers that have come, gone or changed so that a person would look. Pure."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from server.changes.log import Changes, Kind, What
from server.directory import Endpoint
from server.station import Station
from server.stepping import Steps
from server.views import is_online, speaker_rows
from transport.clock.timeline import NS_PER_SECOND

# However often one changes, it is told so often at most.
_EACH_NS = NS_PER_SECOND
# A row is 10 us; whoever else has something to do comes between.
AT_ONCE = 200
# Whoever falls silent does not say so: so many are looked at each time.
_LOOKED_AT = 500
_NOWHERE = {"offline", "not enrolled"}
# Of its row, beside what is registered; figures change with every word of it.
_SALIENT = ("state", "fault", "authenticated", "hearing", "way")


class _Kept(NamedTuple):
    """A loudspeaker as it was told last, and when."""

    endpoint: Endpoint
    salient: tuple[Any, ...]
    told_ns: int

    @property
    def online(self) -> bool:
        return self.salient[0] not in _NOWHERE

    @property
    def fault(self) -> str:
        return str(self.salient[1])


class SpeakerWatch:
    """Looks at those of which something may be different, by `Directory.touched`."""

    def __init__(self, station: Station, changes: Changes, steps: Callable[[], Steps]) -> None:
        """What there is at the first look has not changed."""
        self._station = station
        self._changes = changes
        self._steps = steps
        self._kept: dict[str, _Kept] = {}
        # Those that were told of a moment ago.
        self._held: set[str] = set()
        self._round: Iterator[str] = iter(())
        self._begun = False

    def look(self, now_ns: int) -> Iterator[None]:
        """Slice by slice."""
        names = self._station.directory.take_touched() | self._held | self._silent(now_ns)
        self._held = set()
        ordered = sorted(names)
        for at in range(0, len(ordered), AT_ONCE):
            self._look_at(ordered[at : at + AT_ONCE], now_ns)
            yield
        self._begun = True

    def _silent(self, now_ns: int) -> set[str]:
        """Of the next few, those that are not heard of any more."""
        some = list(islice(self._round, _LOOKED_AT))
        if len(some) < _LOOKED_AT:
            self._round = iter(list(self._kept))
        speakers = self._station.speakers
        here = [name for name in some if name in self._kept and self._kept[name].online]
        return {name for name in here if not is_online(speakers.get(name), now_ns)}

    def _look_at(self, names: list[str], now_ns: int) -> None:
        due = []
        for name in names:
            known = self._kept.get(name)
            if known is None or now_ns - known.told_ns >= _EACH_NS:
                due.append(name)
            else:
                self._held.add(name)
        found = speaker_rows(self._station, due, {}, now_ns, self._steps())
        rows = {row["name"]: row for row in found}
        for name in due:
            self._compare(name, rows.get(name), now_ns)

    def _compare(self, name: str, row: dict[str, Any] | None, now_ns: int) -> None:
        before = self._kept.get(name)
        if row is None:
            if before is not None:
                del self._kept[name]
                self._tell(now_ns, What.REMOVED, name, before.endpoint.unit)
            return
        endpoint = self._station.directory.endpoints[name]
        now = _Kept(endpoint, tuple(row.get(part, "") for part in _SALIENT), now_ns)
        if before is None:
            self._kept[name] = now._replace(told_ns=now_ns if self._begun else 0)
            self._tell(now_ns, What.ADDED, name, endpoint.unit)
        elif before[:2] != now[:2]:
            self._kept[name] = now
            self._tell(now_ns, _what(before, now), name, before.endpoint.unit, endpoint.unit)

    def _tell(self, now_ns: int, what: What, name: str, *units: str) -> None:
        if self._begun:
            concerned = units[:1] if len(set(units)) == 1 else units
            self._changes.add(now_ns, Kind.SPEAKER, what, name, concerned)


def _what(before: _Kept, now: _Kept) -> What:
    if before.online != now.online:
        return What.ONLINE if now.online else What.OFFLINE
    if now.online and now.fault and now.fault != before.fault:
        return What.FAULT
    return What.CHANGED
