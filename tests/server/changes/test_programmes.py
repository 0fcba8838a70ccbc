"""Programmes: begun, ended and changed, and which units that concerns."""

from dataclasses import replace

from server.changes.log import Changes
from server.changes.programmes import ProgrammeWatch
from server.directory import Endpoint
from server.programmes import LiveRequest, Programme
from server.rights.identity import Identity
from server.rights.table import Grant, Role
from server.station import Station
from tests.support.stations import ROOT, TO_ALL, S, a_station, on_air, report_of
from transport.control.priority import Priority

A, B = f"{ROOT}/A", f"{ROOT}/B"
EVERYWHERE = (ROOT, A, B)


class Watched:
    """A station of two communes, and what is told of its programmes."""

    def __init__(self, *requests: LiveRequest) -> None:
        self.station: Station = a_station()
        self.station.directory.units |= {A, B}
        for name, unit in (("a1", A), ("a2", A), ("b1", B)):
            self.put(name, unit)
        self.on_air = [on_air(self.station, request) for request in requests]
        self.changes = Changes(1)
        self.watch = ProgrammeWatch(self.station, self.changes)
        assert self.look(0) == []

    def put(self, name: str, unit: str) -> None:
        known = self.station.directory.endpoints.get(name) or Endpoint(name, unit)
        self.station.directory.put_endpoint(replace(known, unit=unit))

    def look(self, now_ns: int) -> list[tuple[str, str, tuple[str, ...]]]:
        before = self.changes.head
        for _ in self.watch.look(now_ns):
            pass
        found = self.changes.after(before, 1000)
        assert found is not None
        return [(change.name, change.what.value, change.units) for change in found]

    def report(self, programme: Programme, state: str, now_ns: int) -> None:
        self.station.update(report_of(programme, state), now_ns)


def test_what_is_on_air_at_the_beginning_is_no_news() -> None:
    assert Watched(TO_ALL).look(2 * S) == []


def test_one_begins_is_spoken_on_ends_and_is_heard_out() -> None:
    watched = Watched()
    programme = watched.station.open(TO_ALL, 1 * S)
    name = programme.name
    assert watched.look(1 * S) == [(name, "begun", EVERYWHERE)]
    watched.report(programme, "live", 1 * S)
    # However soon after that.
    assert watched.look(1 * S) == [(name, "changed", EVERYWHERE)]
    assert watched.look(9 * S) == []
    watched.station.stop(name, "it was stopped", 9 * S)
    assert watched.look(9 * S) == [(name, "ended", EVERYWHERE)]
    watched.station.expire(60 * S)
    assert watched.look(60 * S) == [(name, "removed", EVERYWHERE)]


def test_level_and_length_are_figures() -> None:
    watched = Watched(TO_ALL)
    (programme,) = watched.on_air
    assert programme.report is not None
    programme.report = replace(programme.report, level_dbfs=-3.0, seconds=99.0)
    watched.put("a3", A)  # so that it is looked at all
    assert watched.look(2 * S) == [(programme.name, "changed", (A,))]
    programme.report = replace(programme.report, level_dbfs=-4.0)
    watched.station.directory.version += 1
    assert watched.look(4 * S) == []


def test_who_opened_it_for_one_commune_reaches_no_other() -> None:
    watched = Watched()
    opener = Identity("o", "user", frozenset({Grant(Role.OPERATOR, A)}))
    programme = watched.station.open(LiveRequest(to=("a1",)), 1 * S, opener)
    assert watched.look(1 * S) == [(programme.name, "begun", (A,))]


def test_a_louder_one_changes_what_the_others_are() -> None:
    watched = Watched(LiveRequest(to=("a1", "b1")))
    (softer,) = watched.on_air
    louder = watched.station.open(LiveRequest(to=("a1",), priority=Priority.EMERGENCY), 2 * S)
    watched.look(2 * S)
    watched.report(louder, "live", 3 * S)
    told = {name: what for name, what, _ in watched.look(3 * S)}
    assert told == {softer.name: "changed", louder.name: "changed"}


def test_whom_it_is_meant_for_is_told_where_that_changes_once_a_second() -> None:
    watched = Watched(TO_ALL)
    (programme,) = watched.on_air
    watched.put("b2", B)
    assert watched.look(2 * S) == [(programme.name, "changed", (B,))]
    watched.put("a3", A)
    assert watched.look(2 * S + S // 2) == []
    assert watched.look(3 * S) == [(programme.name, "changed", (A,))]
    watched.put("a3", B)
    assert watched.look(5 * S) == [(programme.name, "changed", (A, B))]
