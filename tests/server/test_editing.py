"""Changes by operators: in memory and on the disk, or in neither."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from server.directory import Directory, Endpoint, Position
from server.editing import Editing, EndpointChange
from server.enrolment import Code
from server.errors import NoSuchError, StationError
from server.keeper import Keeper
from server.programmes import LiveRequest
from server.recording import Recorder
from server.station import Station
from server.store import Store
from server.zones.definition import parse
from tests.support.stations import ROOT, join, key_of_name

Run = Callable[[Coroutine[Any, Any, None]], None]
VILLAGE = f"{ROOT}/Thôn 3"
SQUARE = {"polygon": [[106.0, 10.0], [107.0, 10.0], [107.0, 11.0], [106.0, 11.0]]}


@dataclass
class Office:
    """A station, its store, and who edits both."""

    path: Path
    store: Store
    station: Station
    published: int = 0

    def __post_init__(self) -> None:
        self.store.begin_audit(bytes(32), 0)
        keeper = Keeper()
        recorder = Recorder(self.store, keeper, lambda: 7)
        self.editing = Editing(self.station, self.store, keeper, self._publish, recorder)

    def _publish(self) -> None:
        self.published += 1

    @property
    def directory(self) -> Directory:
        return self.station.directory

    def register(self, name: str) -> None:
        """A loudspeaker that was there, is stored, and is switched off."""
        self.station.leave(name, join(self.station, name))
        self.station.unsaved.discard(name)
        self.store.save_codes([Code(b"code", bytes(32), name, None, 1)])
        self.store.enrol([(b"code", self.directory.endpoint(name))], 7)

    def memory(self) -> tuple[Any, ...]:
        """All that an operator may change."""
        return (
            set(self.directory.units),
            dict(self.directory.endpoints),
            dict(self.station.zones.definitions),
            dict(self.station.speakers),
            set(self.station.unsaved),
        )

    def check_stored(self) -> None:
        """Another process that opens the store finds what is in memory."""
        self.store.close()
        opened = Store.open(self.path)
        contents = opened.load()
        opened.close()
        assert set(contents.units) == self.directory.units
        assert {e.name: e for e in contents.endpoints} == self.directory.endpoints
        zones = {name: parse(definition) for name, definition in contents.zones}
        assert zones == self.station.zones.definitions

    def told_of_loudness(self) -> list[list[str]]:
        """From now on, who is told of that alone."""
        told: list[list[str]] = []
        self.editing._loudness = lambda names: told.append(sorted(names))
        return told

    def break_store(self) -> None:
        """From now on nothing can be written."""
        with self.store._transaction() as connection:
            connection.exec_driver_sql("PRAGMA query_only = ON")

    def mend_store(self) -> None:
        self.store.close()  # the next connection is a new one


@pytest.fixture
def office(database: Path) -> Iterator[Office]:
    """With a village, the loudspeakers `a` and `b`, and the zone `schools`."""
    store = Store.open(database)
    station = Station(
        "239.192.76.0/24", 5004, lambda: "ticket", 0, Directory(store.load().station_name)
    )
    office = Office(database, store, station)
    store.add_unit(office.directory.add_unit(VILLAGE))
    office.register("a")
    office.register("b")
    station.zones.put("schools", parse({"tag": "school"}), office.directory)
    store.save_zone("schools", {"tag": "school"})
    yield office
    office.store.close()


CHANGES: dict[str, Callable[[Editing], Awaitable[object]]] = {
    "a new unit": lambda editing: editing.add_unit(f"{VILLAGE}/Xóm 1"),
    "a unit less": lambda editing: editing.remove_unit(VILLAGE),
    "another unit": lambda editing: editing.change_endpoints(["a"], EndpointChange(unit=VILLAGE)),
    "tags": lambda editing: editing.change_endpoints(
        ["a"], EndpointChange(tags=frozenset({"chợ", "school"}))
    ),
    "a place": lambda editing: editing.change_endpoints(
        ["a"], EndpointChange(position=Position(10.5, 106.5))
    ),
    "the volume of two": lambda editing: editing.change_endpoints(
        ["a", "b"], EndpointChange(volume=30)
    ),
    "in clear": lambda editing: editing.change_endpoints(["a"], EndpointChange(clear=True)),
    "a trim for each": lambda editing: editing.change_each(
        {"a": EndpointChange(trim_us=1200), "b": EndpointChange(trim_us=-7)}
    ),
    "no sound": lambda editing: editing.change_endpoints(["b"], EndpointChange(muted=True)),
    "a loudspeaker less": lambda editing: editing.remove_endpoint("a"),
    "a new zone": lambda editing: editing.put_zone(
        "chợ", {"union": [SQUARE, {"unit": VILLAGE}, {"zone": "schools"}]}
    ),
    "a zone defined anew": lambda editing: editing.put_zone("schools", {"speakers": ["a"]}),
    "a zone less": lambda editing: editing.remove_zone("schools"),
}


# ------------------------------------------------------------------ every change
@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_in_memory_and_on_the_disk_and_is_published(
    run: Run, office: Office, what: str
) -> None:
    async def scenario() -> None:
        before = office.memory()
        await CHANGES[what](office.editing)
        assert office.memory() != before
        # Of a zone in which nobody hears anything there is nothing to tell.
        assert office.published == ("zone" not in what)
        office.check_stored()

    run(scenario())


def test_a_zone_is_published_if_somebody_hears_something_else_by_it(
    run: Run, office: Office
) -> None:
    async def scenario() -> None:
        office.station.open(LiveRequest((), ("schools",)), 0)
        await office.editing.put_zone("other", {"speakers": ["a"]})
        assert office.published == 0
        await office.editing.put_zone("schools", {"speakers": ["a"]})
        assert office.published == 1
        await office.editing.put_zone("schools", {"union": [{"speakers": ["a"]}, SQUARE]})
        await office.editing.remove_zone("other")
        assert office.published == 1

    run(scenario())


def test_how_loud_one_is_is_told_to_it_alone(run: Run, office: Office) -> None:
    async def scenario() -> None:
        told, editing = office.told_of_loudness(), office.editing
        await editing.change_endpoints(["b", "a"], EndpointChange(volume=30, muted=True))
        await editing.change_each({"a": EndpointChange(trim_us=5)})
        assert (told, office.published) == ([["a", "b"], ["a"]], 0)
        await editing.change_endpoints(["a"], EndpointChange(volume=30, unit=VILLAGE))
        assert (len(told), office.published) == (2, 1)

    run(scenario())


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_that_cannot_be_written_is_taken_back_and_told_of_in_one_line(
    run: Run, office: Office, change: Callable[[Editing], Awaitable[object]]
) -> None:
    async def scenario() -> None:
        before = office.memory()
        office.break_store()
        with pytest.raises(
            StationError, match=r"nothing was changed: .*cannot be written"
        ) as error:
            await change(office.editing)
        assert len(str(error.value).splitlines()) == 1
        assert office.memory() == before
        assert office.published == 0
        office.mend_store()
        office.check_stored()

    run(scenario())


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_after_a_change_that_failed_the_same_may_be_tried_again(
    run: Run, office: Office, change: Callable[[Editing], Awaitable[object]]
) -> None:
    async def scenario() -> None:
        office.break_store()
        with pytest.raises(StationError):
            await change(office.editing)
        office.mend_store()
        await change(office.editing)
        office.check_stored()

    run(scenario())


def test_a_mistake_of_ours_takes_the_change_back_too(
    run: Run, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        def fail(*_: object) -> None:
            raise ValueError("it contradicts the tables")

        monkeypatch.setattr(office.store, "save_endpoints", fail)
        before = office.memory()
        with pytest.raises(ValueError, match="contradicts"):
            await office.editing.change_endpoints(["a"], EndpointChange(volume=1))
        assert office.memory() == before

    run(scenario())


# ------------------------------------------------------------------ what cannot be
WRONG: dict[str, tuple[Callable[[Editing], Awaitable[object]], type[StationError], str]] = {
    "a unit below none": (lambda e: e.add_unit(f"{ROOT}/x/y"), NoSuchError, "no unit"),
    "a unit twice": (lambda e: e.add_unit(VILLAGE), StationError, "already"),
    "the root": (lambda e: e.remove_unit(ROOT), StationError, "the station itself"),
    "a unit there is not": (lambda e: e.remove_unit(f"{ROOT}/x"), NoSuchError, "no unit"),
    "one of two unknown": (
        lambda e: e.change_endpoints(["a", "c"], EndpointChange(volume=1)),
        NoSuchError,
        "no loudspeaker 'c'",
    ),
    "an unknown unit": (
        lambda e: e.change_endpoints(["a", "b"], EndpointChange(unit=f"{ROOT}/x")),
        NoSuchError,
        "no unit",
    ),
    "no tag": (
        lambda e: e.change_endpoints(["a"], EndpointChange(tags=frozenset({"?"}))),
        StationError,
        "no name for a tag",
    ),
    "no volume": (
        lambda e: e.change_endpoints(["a"], EndpointChange(volume=101)),
        StationError,
        "no volume",
    ),
    "a trim beyond the range, for one of two": (
        lambda e: e.change_each(
            {"a": EndpointChange(trim_us=7), "b": EndpointChange(trim_us=50_001)}
        ),
        StationError,
        "no trim",
    ),
    "nobody to remove": (lambda e: e.remove_endpoint("c"), NoSuchError, "no loudspeaker"),
    "no definition": (lambda e: e.put_zone("x", {"planet": "earth"}), StationError, "no kind"),
    "a line for an area": (
        lambda e: e.put_zone("x", {"polygon": [[1, 1], [2, 2], [3, 3]]}),
        StationError,
        "polygon",
    ),
    "everybody": (lambda e: e.put_zone("all", {"tag": "a"}), StationError, "built in"),
    "itself": (lambda e: e.put_zone("x", {"zone": "x"}), StationError, "contain itself"),
    "a zone there is not": (lambda e: e.remove_zone("x"), NoSuchError, "no zone 'x'"),
}


@pytest.mark.parametrize(("change", "kind", "why"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_changes_nothing(
    run: Run,
    office: Office,
    change: Callable[[Editing], Awaitable[object]],
    kind: type[StationError],
    why: str,
) -> None:
    async def scenario() -> None:
        before = office.memory()
        with pytest.raises(kind, match=why):
            await change(office.editing)
        assert (office.memory(), office.published) == (before, 0)
        office.check_stored()

    run(scenario())


def test_a_zone_that_is_spoken_to_is_not_removed(run: Run, office: Office) -> None:
    async def scenario() -> None:
        office.station.open(LiveRequest(zones=("schools",)), 0)
        with pytest.raises(StationError, match="live-1 is on air to zone 'schools'"):
            await office.editing.remove_zone("schools")
        assert "schools" in office.station.zones.definitions

    run(scenario())


def test_a_zone_that_another_uses_is_not_removed(run: Run, office: Office) -> None:
    async def scenario() -> None:
        await office.editing.put_zone("other", {"zone": "schools"})
        with pytest.raises(StationError, match="used by other"):
            await office.editing.remove_zone("schools")
        office.check_stored()

    run(scenario())


def test_who_is_connected_is_not_removed(run: Run, office: Office) -> None:
    async def scenario() -> None:
        join(office.station, "a")
        with pytest.raises(StationError, match="revoke it first, with `loa speakers revoke a`"):
            await office.editing.remove_endpoint("a")
        office.check_stored()

    run(scenario())


# ------------------------------------------------------------------ several at once
def test_changes_asked_for_at_once_are_all_made(run: Run, office: Office) -> None:
    async def scenario() -> None:
        await asyncio.gather(
            office.editing.change_endpoints(["a"], EndpointChange(volume=30)),
            office.editing.change_endpoints(["a"], EndpointChange(muted=True)),
            office.editing.change_endpoints(["a"], EndpointChange(clear=True)),
            office.editing.remove_unit(VILLAGE),
            office.editing.put_zone("x", {"zone": "schools"}),
        )
        assert office.directory.endpoint("a") == Endpoint(
            "a", ROOT, volume=30, muted=True, clear=True, key=key_of_name("a")
        )
        office.check_stored()

    run(scenario())


async def fail_while(
    office: Office, change: Coroutine[Any, Any, object], event: Callable[[], object]
) -> None:
    """Something happens while a change is being written in vain."""
    office.break_store()
    changing = asyncio.create_task(change)
    await asyncio.sleep(0)
    event()
    with pytest.raises(StationError):
        await changing


def test_who_comes_back_by_another_network_while_a_change_fails_keeps_that(
    run: Run, office: Office
) -> None:
    async def scenario() -> None:
        before = office.directory.endpoint("a")
        change = office.editing.change_endpoints(["a"], EndpointChange(volume=1))
        await fail_while(office, change, lambda: join(office.station, "a", delivery="wan"))
        assert office.directory.endpoint("a") == replace(before, delivery="wan")

    run(scenario())


def test_who_is_being_removed_is_nobody_and_is_itself_again_if_that_fails(
    run: Run, office: Office
) -> None:
    async def scenario() -> None:
        placed = EndpointChange(unit=VILLAGE, volume=30)
        await office.editing.change_endpoints(["a"], placed)
        before, memory = office.directory.endpoint("a"), office.memory()
        key = before.key
        assert key is not None
        meanwhile: list[object] = []
        change = office.editing.remove_endpoint("a")
        await fail_while(office, change, lambda: meanwhile.append(office.directory.by_key(key)))
        assert meanwhile == [None]
        assert office.directory.by_key(key) == before
        assert office.memory() == memory

    run(scenario())


def test_who_is_not_stored_yet_is_still_to_be_stored_after_a_removal_that_failed(
    run: Run, office: Office
) -> None:
    async def scenario() -> None:
        office.station.leave("new", join(office.station, "new", delivery="wan"))
        before = office.memory()
        office.break_store()
        with pytest.raises(StationError):
            await office.editing.remove_endpoint("new")
        assert office.memory() == before
        assert office.station.unsaved == {"new"}

    run(scenario())
