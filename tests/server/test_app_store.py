"""What control keeps on the disk, and what a control born again finds there."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.directory import Endpoint
from server.editing import EndpointChange
from server.errors import StationError
from server.processes.bus import TO_PRODUCER, Bus, TicketRefusal, TicketRefusals, WhoIsThere
from server.processes.routing import unpack_destinations
from server.programmes import LiveRequest
from server.store import ProgrammeRecord, Store, StoreError
from tests.support.stations import key_of_name
from transport.control.wire import vocabulary

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]
ROOT = "Tân Phú"
TO_ALL = LiveRequest(("all",))
LONG_AGO_NS = 5_000_000_000


def rows(room: Room) -> dict[str, ProgrammeRecord]:
    """The programmes on the disk."""
    store: Store = room.store
    return {row.name: row for row in store.programmes(50)}


def registered(room: Room) -> dict[str, Endpoint]:
    """The loudspeakers on the disk."""
    return {endpoint.name: endpoint for endpoint in room.store.load().endpoints}


def forget_everything(room: Room) -> None:
    """Power is lost: of the station nothing is left but its folder."""
    os.ftruncate(room.births["server"].notebook, 0)


@pytest.fixture
def break_store(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """One kind of write fails from now on."""

    def break_(call: str) -> None:
        def fail(*_: object, **__: object) -> None:
            raise StoreError("/data: the disk is full")

        monkeypatch.setattr(Store, call, fail)

    return break_


# ------------------------------------------------------------------ programmes
def test_who_may_speak_is_on_the_disk_before(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        request = LiveRequest(("all",), priority=5, playout_delay_ms=100.0)
        await room.control.open_live(request)
        row = rows(room)["live-1"]
        assert (row.number, row.priority, row.playout_delay_ms) == (1, 5, 100.0)
        assert (row.request["to"], row.why_ended) == (["all"], None)

    play_control(scenario)


def test_a_programme_that_cannot_be_recorded_is_refused_and_taken_back(
    play_control: Play, break_store: Callable[[str], None]
) -> None:
    async def scenario(room: Room) -> None:
        break_store("programme_began")
        with pytest.raises(StationError, match="nothing was changed: /data: the disk is full"):
            await room.control.open_live(TO_ALL)
        await room.settle()
        assert room.control.queries.programmes() == []
        assert room.ordered[-1].programmes == ()

    play_control(scenario)


def test_what_the_producer_refused_was_never_on_air(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.state = "ended"
        with pytest.raises(StationError):
            await room.control.open_live(TO_ALL)
        assert rows(room) == {}

    play_control(scenario)


def test_whom_the_producer_does_not_let_speak_is_in_the_audit_log(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        why = "the programme was stopped"
        told = (TicketRefusal("::ffff:192.0.2.9", why, 3), TicketRefusal("", why, 1))
        bus: Bus[TicketRefusals, WhoIsThere] = Bus(
            room.producer._end, vocabulary(TicketRefusals), TO_PRODUCER
        )
        bus.send(TicketRefusals(told))
        await room.settle()
        found = [row.texts for row in room.store.newest_audit_rows(None, 2)]
        assert [(row[1], row[2], row[3], row[4], row[5], row[6]) for row in found] == [
            ("", where, "refused", '{"asked":"speak"}', why, "refused")
            for where in ("", "192.0.2.9")
        ]

    play_control(scenario)


def test_what_is_older_than_it_shall_be_kept_is_forgotten(
    play_control: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(room: Room) -> None:
        for number in (1, 2):
            room.store.programme_began(
                number, "old", priority=3, request={}, playout_delay_ms=1, at=5
            )
            room.store.programme_ended(number, 6, "enough")
        await asyncio.sleep(2)
        assert len(rows(room)) == 1
        retention = room.control._retention
        monkeypatch.setattr(retention, "_due_ns", 0)
        await asyncio.sleep(5)
        assert [record.number for record in room.store.programmes(9)] == [2]

    play_control(scenario)


def test_a_programme_s_end_is_kept_with_its_reason(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        for _ in range(3):
            await room.control.open_live(TO_ALL)
        programmes = room.control.station.programmes
        programmes["live-1"].ended_at_ns = LONG_AGO_NS
        room.control.stop(["live-2"], "it was stopped")
        programmes["live-2"].ended_at_ns = LONG_AGO_NS
        programmes["live-3"].since_ns = LONG_AGO_NS
        await room.settle()
        ended = {name: row.why_ended for name, row in rows(room).items()}
        assert ended == {
            "live-1": "it was finished",
            "live-2": "it was stopped",
            "live-3": "nobody spoke",
        }
        assert rows(room)["live-1"].ended_at == 5

    play_control(scenario)


def test_what_is_on_air_is_so_in_the_books_of_a_control_born_again(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        before = rows(room)
        await room.restart_control()
        assert rows(room) == before
        assert before["live-1"].why_ended is None

    play_control(scenario)


def test_a_programme_that_outlives_a_control_has_its_end_kept_by_the_next(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        await room.restart_control()
        room.control.station.programmes["live-1"].ended_at_ns = LONG_AGO_NS
        await room.settle()
        assert rows(room)["live-1"].why_ended == "it was finished"

    play_control(scenario)


def test_what_was_on_air_when_the_station_went_dark_has_ended(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        forget_everything(room)
        await room.restart_control()
        assert rows(room)["live-1"].why_ended == "the station stopped"
        assert room.control.queries.programmes() == []

    play_control(scenario)


def test_a_station_that_went_dark_goes_on_counting(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        forget_everything(room)
        await room.restart_control()
        assert (await room.control.open_live(TO_ALL))["programme"] == "live-2"

    play_control(scenario)


# ------------------------------------------------------------------ loudspeakers
def by_wifi(room: Room, *names: str) -> None:
    """These come by another network than they were enrolled with."""
    for name in names:
        room.join(name, delivery="wifi", multicast=True)


def test_who_comes_by_another_network_is_on_the_disk_so_a_tick_later(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.enrol("a")
        by_wifi(room, "a")
        assert room.control.station.unsaved == {"a"}
        await room.settle()
        known = Endpoint("a", ROOT, "wifi", multicast=True, key=key_of_name("a"))
        assert registered(room) == {"a": known}
        assert room.control.station.unsaved == set()

    play_control(scenario)


def test_who_comes_back_as_it_was_costs_no_write(
    play_control: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(room: Room) -> None:
        room.enrol("a")
        writes: list[object] = []
        monkeypatch.setattr(room.store, "save_endpoints", lambda *given: writes.append(given))
        room.join("a")
        await room.settle()
        assert writes == []

    play_control(scenario)


def test_those_who_come_all_at_once_are_written_in_one_go(
    play_control: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(room: Room) -> None:
        writes: list[int] = []
        monkeypatch.setattr(
            room.store, "save_endpoints", lambda found, _: writes.append(len(found))
        )
        names = [f"s{number}" for number in range(100)]
        room.enrol(*names)
        by_wifi(room, *names)
        await room.settle()
        assert writes == [100]

    play_control(scenario)


def test_who_could_not_be_written_is_written_when_there_is_room(
    play_control: Play, break_store: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(room: Room) -> None:
        break_store("save_endpoints")
        by_wifi(room, "a")
        await room.settle()
        assert registered(room)["a"].delivery == "lan"
        monkeypatch.undo()
        await room.settle()
        assert registered(room)["a"].delivery == "wifi"

    play_control(scenario)


def test_who_came_a_moment_before_control_died_is_not_lost(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        by_wifi(room, "a")
        await room.restart_control()
        await room.settle()
        assert registered(room)["a"].delivery == "wifi"

    play_control(scenario)


def test_loudspeakers_are_known_after_the_station_went_dark(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        await room.settle()
        forget_everything(room)
        await room.restart_control()
        (row,) = room.control.queries.speakers()
        assert (row["name"], row["state"], row["address"]) == ("a", "offline", None)
        assert row["last_seen_s"] == pytest.approx(0, abs=9)

    play_control(scenario)


def test_who_is_here_is_noted_every_minute(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        await room.settle()
        room.store.seen({"a": 7})
        await room.settle(50)
        assert room.store.load().last_seen == {"a": 7}
        room.control.station.speakers["a"].last_seen_ns = room.control._clock.now_ns()
        await room.settle(11)
        assert room.store.load().last_seen["a"] > 7

    play_control(scenario)


def test_who_is_offline_is_not_noted_as_here(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        await room.settle()
        room.control.station.speakers["a"].session = None
        room.store.seen({"a": 7})
        await room.settle(61)
        assert room.store.load().last_seen == {"a": 7}

    play_control(scenario)


# ------------------------------------------------------------------ what operators change
def test_who_comes_into_a_zone_is_sent_what_is_on_air_to_it(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        editing = room.control.editing
        await editing.put_zone("schools", {"tag": "school"})
        await room.control.open_live(LiveRequest(zones=("schools",)))
        await room.settle()
        assert unpack_destinations(room.routed[-1].routes[0].destinations) == []
        await editing.change_endpoints(["a"], EndpointChange(tags=frozenset({"school"})))
        await room.settle(0.01)
        assert len(unpack_destinations(room.routed[-1].routes[0].destinations)) == 1

    play_control(scenario)


def test_what_operators_changed_is_there_after_the_station_went_dark(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        await room.settle()
        editing = room.control.editing
        await editing.add_unit(f"{ROOT}/Thôn 3")
        change = EndpointChange(unit=f"{ROOT}/Thôn 3", volume=30, muted=True)
        await editing.change_endpoints(["a"], change)
        await editing.put_zone("z", {"unit": f"{ROOT}/Thôn 3"})
        before = room.control.station
        forget_everything(room)
        await room.restart_control()
        after = room.control.station
        assert after.directory.units == before.directory.units
        assert after.directory.endpoints == before.directory.endpoints
        assert after.zones.members("z", after.directory) == {"a"}

    play_control(scenario)


def test_what_a_loudspeaker_says_of_itself_does_not_undo_what_an_operator_said(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        by_wifi(room, "a")
        room.control.books.save_newcomers()
        await room.control.editing.change_endpoints(["a"], EndpointChange(volume=30))
        await room.settle()
        (row,) = registered(room).values()
        assert (row.volume, row.delivery, row.key) == (30, "wifi", key_of_name("a"))

    play_control(scenario)


# ------------------------------------------------------------------ what must never be alike twice
def test_every_control_counts_its_beginning_and_no_serial_returns(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        boots, serials = [], []
        for _ in range(3):
            boots.append(room.control.station.boot)
            await room.control.open_live(TO_ALL)
            await room.settle()
            serials += [s.serial for p in room.ordered[-1].programmes for s in p.streams]
            forget_everything(room)
            await room.restart_control()
        assert boots == [boots[0], boots[0] + 1, boots[0] + 2]
        assert len(set(serials)) == len(serials) == 3

    play_control(scenario)


def test_a_programme_keeps_its_serial_when_only_control_was_born_again(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        await room.settle()
        before = room.ordered[-1]
        await room.restart_control()
        await room.settle()
        assert room.ordered[-1] == before

    play_control(scenario)


def test_session_numbers_rise_over_all_lives_of_control(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        numbers = []
        for _ in range(3):
            for _ in range(2):
                peer = await room.connect("a")
                numbers.append(peer.heard[0].number)
                peer.go()
                await peer.closed.wait()
            forget_everything(room)
            await room.restart_control()
        assert numbers == sorted(set(numbers))
        assert len(numbers) == 6

    play_control(scenario)


# ------------------------------------------------------------------ keys of what is on air
def drawn(room: Room) -> list[bytes]:
    """The keys that the producer drew."""
    (programme,) = room.control.station.programmes.values()
    return [e.key for stream in programme.report.streams for e in stream.epochs]


def test_keys_of_what_is_on_air_outlive_control_in_the_notebook_and_are_on_no_disk(
    play_control: Play, database: Path
) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        await room.settle()
        keys = drawn(room)
        assert len(keys) == 2
        await room.kill_control()
        room.bear_control()
        assert drawn(room) == keys
        files = [path for path in database.parent.rglob("*") if path.is_file()]
        assert database in files
        held = b"".join(path.read_bytes() for path in files)
        assert not [key for key in keys if key in held or key.hex().encode() in held]

    play_control(scenario)


def test_no_list_that_people_are_shown_tells_a_key(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        await room.control.open_live(TO_ALL)
        await room.settle()
        control = room.control
        shown = [
            control.queries.programmes(),
            control.queries.speakers(),
            control.queries.summary(),
            control.queries.found(),
        ]
        told = str([*shown, await control.queries.past_programmes(None, 50)])
        secret = [*drawn(room), room.control._own.keys.key.seed, room.control._own.token.encode()]
        for key in secret:
            assert key.hex() not in told
            assert str(key)[2:-1] not in told

    play_control(scenario)
