"""Units and zones: added, removed and changed, and which units that concerns."""

from dataclasses import replace
from typing import Any

from server.changes.log import Changes
from server.changes.places import PlaceWatch
from server.directory import Endpoint
from server.station import Station
from tests.support.stations import ROOT, S, a_station, put_zone

A, B = f"{ROOT}/A", f"{ROOT}/B"


class Watched:
    """A station of two communes with a zone each and one across, and what is told of them."""

    def __init__(self) -> None:
        self.station: Station = a_station()
        self.station.directory.units |= {A, B}
        for name, unit in (("a1", A), ("a2", A), ("b1", B)):
            self.put(name, unit=unit)
        for name, definition in (
            ("za", {"unit": A}),
            ("across", {"speakers": ["a1", "b1"]}),
            ("tagged", {"tag": "t"}),
        ):
            put_zone(self.station, name, definition)
        self.changes = Changes(1)
        self.watch = PlaceWatch(self.station, self.changes)
        assert self.look(0) == set()

    def put(self, name: str, **parts: Any) -> None:
        known = self.station.directory.endpoints.get(name) or Endpoint(name, ROOT)
        self.station.directory.put_endpoint(replace(known, **parts))

    def look(self, now_ns: int) -> set[tuple[str, str, str, tuple[str, ...]]]:
        before = self.changes.head
        for _ in self.watch.look(now_ns):
            pass
        found = self.changes.after(before, 1000)
        assert found is not None
        return {(c.kind.value, c.name, c.what.value, c.units) for c in found}


def test_units_come_and_go() -> None:
    watched = Watched()
    watched.station.directory.add_unit(f"{A}/x")
    assert watched.look(2 * S) == {("unit", f"{A}/x", "added", (f"{A}/x",))}
    watched.station.directory.remove_unit(f"{A}/x")
    assert watched.look(4 * S) == {("unit", f"{A}/x", "removed", (f"{A}/x",))}


def test_zones_come_change_and_go() -> None:
    watched = Watched()
    put_zone(watched.station, "new", {"unit": B})
    assert watched.look(2 * S) == {("zone", "new", "added", (B,))}
    put_zone(watched.station, "new", {"speakers": ["a1"]})
    assert watched.look(4 * S) == {("zone", "new", "changed", (A, B))}
    watched.station.zones.set_clear("new", clear=True)
    assert watched.look(6 * S) == {("zone", "new", "changed", (A,))}
    watched.station.zones.remove("new")
    assert watched.look(8 * S) == {("zone", "new", "removed", (A,))}
    assert watched.look(10 * S) == set()


def test_a_unit_that_is_only_taken_away_is_not_concerned() -> None:
    watched = Watched()
    put_zone(watched.station, "x", {"difference": [{"unit": A}, {"unit": B}]})
    assert watched.look(2 * S) == {("zone", "x", "added", (A,))}


def test_members_that_come_and_go_are_told_where_they_are() -> None:
    watched = Watched()
    watched.put("b2", unit=B, tags=frozenset({"t"}))
    assert watched.look(2 * S) == {
        ("zone", "all", "changed", (B,)),
        ("zone", "tagged", "changed", (B,)),
    }
    watched.put("a1", unit=B)
    assert watched.look(4 * S) == {
        ("zone", "all", "changed", (A, B)),
        ("zone", "across", "changed", (A, B)),
        ("zone", "za", "changed", (A,)),
    }
    watched.put("b1", volume=4)
    assert watched.look(6 * S) == set()


def test_it_is_looked_at_no_more_than_once_a_second() -> None:
    watched = Watched()
    watched.look(2 * S)
    watched.station.directory.add_unit(f"{A}/x")
    assert len(watched.look(3 * S)) == 1
    watched.station.directory.add_unit(f"{A}/y")
    assert watched.look(3 * S + S // 2) == set()
    assert len(watched.look(4 * S)) == 1


def test_the_more_there_is_to_look_at_the_less_often_and_others_come_between() -> None:
    watched = Watched()
    for number in range(2_000):
        watched.put(f"s{number}", unit=B)
    for number in range(10):
        put_zone(watched.station, f"z{number}", {"unit": B})
    slices = sum(1 for _ in watched.watch.look(2 * S))
    assert slices == 3
    for number in range(400):
        put_zone(watched.station, f"many{number}", {"unit": B})
    watched.look(5 * S)
    watched.station.directory.add_unit(f"{A}/x")
    assert watched.look(6 * S + S // 2) == set()
    assert ("unit", f"{A}/x", "added", (f"{A}/x",)) in watched.look(7 * S)
