"""Ways to loudspeakers, as usher and gateway tell of them: real buses, and a control between."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from server.processes.bus import (
    DeclarePaths,
    GatewayReport,
    PathReport,
    unpack_sessions,
)
from server.processes.routing import RouteBook, unpack_destinations
from server.programmes import LiveRequest

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]
TO_ALL = LiveRequest(("all",))
STREAM = 8  # the first of the first programme
# Where the room's loudspeakers are.
AT_HOME = ("192.0.2.1", 50_000, 50_000)
ELSEWHERE = ("198.51.100.7", 40_000, 40_000)


def routed(room: Room) -> set[tuple[str, int, int]]:
    """Where the senders send now."""
    (route,) = room.routed[-1].routes
    return set(unpack_destinations(route.destinations))


def in_order(room: Room) -> list[int]:
    """The ports that the senders send to now, in the order of the route."""
    (route,) = room.routed[-1].routes
    return [port for _, port, _ in unpack_destinations(route.destinations)]


def relayed(room: Room) -> dict[int, set[int]]:
    """Whom the gateway passes each stream on to now."""
    routes = room.routed[-1].routes
    return {r.stream: set(unpack_sessions(r.sessions)) for r in routes if r.sessions}


def at_gateway(room: Room, *sessions: int) -> None:
    """These and no others have come to the gateway."""
    room.at_gateway = set(sessions)
    room.report_gateway()


async def on_air(room: Room, *names: str) -> list[int]:
    """A programme to these loudspeakers; the numbers of their sessions."""
    numbers = [room.join(name) for name in names]
    await room.control.open_live(TO_ALL)
    await room.settle()
    return numbers


def test_who_comes_to_the_gateway_hears_there_and_not_by_udp(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        (number,) = await on_air(room, "a")
        assert (routed(room), relayed(room)) == ({AT_HOME}, {})
        at_gateway(room, number)
        await room.settle()
        assert (routed(room), relayed(room)) == (set(), {STREAM: {number}})
        at_gateway(room)
        await room.settle()
        assert (routed(room), relayed(room)) == ({AT_HOME}, {})

    play_control(scenario)


def test_only_who_is_at_the_gateway_is_taken_from_udp(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        one, _ = await on_air(room, "a", "b")
        at_gateway(room, one)
        await room.settle()
        assert (routed(room), relayed(room)) == ({AT_HOME}, {STREAM: {one}})

    play_control(scenario)


def test_a_session_that_nobody_has_is_passed_nothing(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await on_air(room, "a")
        at_gateway(room, 12345)
        await room.settle()
        assert (routed(room), relayed(room)) == ({AT_HOME}, {})

    play_control(scenario)


def test_a_path_that_moves_is_routed_to_at_the_next_tick(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        (number,) = await on_air(room, "a")
        room.open_path(number, "198.51.100.7", 40_000)
        await room.settle(0.15)
        assert routed(room) == {ELSEWHERE}

    play_control(scenario)


def test_a_path_that_is_gone_is_routed_to_no_more(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        (number,) = await on_air(room, "a")
        room.usher.send(DeclarePaths((), (number,)))
        await room.settle()
        assert routed(room) == set()

    play_control(scenario)


def test_paths_that_open_all_at_once_are_declared_once(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        names = {f"s{n}": "192.0.2.1" for n in range(200)}
        room.join_all(names)
        await room.control.open_live(TO_ALL)
        await room.settle()
        room.routed.clear()
        speakers = room.control.station.speakers
        for at, name in enumerate(names):
            room.open_path(speakers[name].session_number, "198.51.100.7", 40_000 + at)
        await room.settle()
        assert len(room.routed) == 1
        assert len(routed(room)) == 200

    play_control(scenario)


def test_a_path_that_is_told_of_again_makes_nobody_repeat_anything(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        (number,) = await on_air(room, "a")
        room.routed.clear()
        for _ in range(5):
            room.open_path(number, *AT_HOME[:2])
            room.report_gateway()
            await room.settle()
        assert room.routed == []

    play_control(scenario)


def test_nobody_opens_a_path_with_a_session_that_is_not_its_own(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await on_air(room, "a")
        room.usher.send(DeclarePaths((PathReport(99, "203.0.113.9", 9),), (98,)))
        await room.settle()
        assert routed(room) == {AT_HOME}

    play_control(scenario)


def test_whoever_is_born_again_finds_the_routes_that_are_in_force(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        (number,) = await on_air(room, "a")
        at_gateway(room, number)
        await room.settle()
        newcomer = RouteBook(room.births["server.gateway"].routes)
        assert newcomer.news() == room.routed[-1]
        assert newcomer.news() is None

    play_control(scenario)


def test_a_control_born_again_moves_nobody_in_the_order_of_a_route(play_control: Play) -> None:
    """Senders share a stream by it, and each hears of a change when it gets round to it."""

    async def scenario(room: Room) -> None:
        numbers = await on_air(room, *"abcd")
        for number, port in zip(numbers, range(40_000, 40_004), strict=True):
            room.open_path(number, "192.0.2.1", port)
        await room.settle()
        room.usher.send(DeclarePaths((), tuple(numbers[:1])))
        await room.settle()
        before = in_order(room)
        assert before == [40_003, 40_001, 40_002]
        await room.restart_control()
        await room.settle()
        assert in_order(room) == before

    play_control(scenario)


def test_who_comes_or_moves_makes_nobody_but_those_who_send_repeat_anything(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        (number,) = await on_air(room, "a")
        room.ordered.clear()
        room.routed.clear()
        room.enrol("b")
        room.join_all({"b": "192.0.2.2"})
        room.open_path(number, "198.51.100.7", 40_000)
        await room.settle()
        assert len(in_order(room)) == 2
        assert (len(room.routed), room.ordered) == (1, [])
        written = room.control._notebook.serial()
        await room.settle()
        assert room.control._notebook.serial() == written

    play_control(scenario)


def test_all_who_read_routes_are_woken_by_news_and_by_nothing_else(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await on_air(room, "a")
        birth = room.births["server"]
        others = [wake for wake in birth.wakes if wake != birth.usher_wake]  # the room's own
        for wake in others:
            assert os.eventfd_read(wake) >= 1
        room.control.publish()
        await room.settle()
        for wake in others:
            with pytest.raises(BlockingIOError):
                os.eventfd_read(wake)

    play_control(scenario)


def test_a_report_of_half_a_session_changes_nothing(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        (number,) = await on_air(room, "a")
        at_gateway(room, number)
        await room.settle()
        room.gateway.send(GatewayReport(room.gateway_life, b"\0\0\0", 1, 2, 3))
        await room.settle()
        assert relayed(room) == {STREAM: {number}}
        assert room.control.neighbours.gateway_report.sessions == b"\0\0\0"

    play_control(scenario)


def test_ways_outlive_control(play_control: Play) -> None:
    """Whoever plays hears on, by the way it has, until it comes back with a session of its own."""

    async def scenario(room: Room) -> None:
        by_udp, by_gateway = await on_air(room, "a", "b")
        at_gateway(room, by_gateway)
        await room.settle()
        await room.restart_control()
        await room.settle()
        assert (routed(room), relayed(room)) == ({AT_HOME}, {STREAM: {by_gateway}})
        room.open_path(by_udp, "198.51.100.7", 40_000)  # its network has moved meanwhile
        await room.settle()
        assert routed(room) == {ELSEWHERE}

    play_control(scenario)
