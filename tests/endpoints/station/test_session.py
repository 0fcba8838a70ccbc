"""The control session against a station of the test's making, on trio's virtual clock."""

import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from endpoints.station.session import ControlSession, RestartAsked
from endpoints.station.store import SpeakerState
from endpoints.station.tls import client_context
from tests.support.chain import GENERATION, STATION, Drawn
from tests.support.station import (
    Guest,
    Station,
    running_station,
    welcome_and_listen,
    welcome_at,
)
from tests.support.visitor import SEED, TELEMETRY, FakeSpeaker, Visitor, store_of, visit
from transport.control.messages import (
    VERSION,
    Adjust,
    Command,
    Done,
    Enrolled,
    Hello,
    Listen,
    Ready,
    StreamSpec,
)
from transport.security.keys import SigningKey

SPEC = StreamSpec("p", 1, 2, 96, 3, 20.0, inband_fec=False, playout_delay_ms=100.0)
GROUP_SPEC = replace(SPEC, group="239.1.2.3", port=5004)


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens, and leaves loopback a moment to deliver."""
    mock_clock.autojump_threshold = 0.005
    return mock_clock


# ------------------------------------------------------------------ a good station
@pytest.mark.trio
async def test_it_says_hello_and_is_welcomed(world: MockClock) -> None:
    visitor, station = await visit(welcome_and_listen, 0.3)
    (hello,) = station.hellos
    key = SigningKey(SEED).public
    assert hello == Hello(VERSION, "a", multicast=False, key=key, nonce=hello.nonce)
    assert visitor.speaker.welcomes == [("127.0.0.1", "127.0.0.1", station.welcomes[0])]
    assert visitor.speaker.trusted == [(STATION.public, GENERATION)]
    assert [(peer.host, peer.hash) for peer in visitor.speaker.peers] == [
        ("127.0.0.1", station.tls_hash)
    ]
    assert visitor.said == [f"joined the station at 127.0.0.1:{station.port}"]


@pytest.mark.trio
async def test_what_the_station_calls_it_now_it_is_called_and_keeps(
    world: MockClock, tmp_path: Path
) -> None:
    async def rename(station: Station, guest: Guest) -> None:
        await guest.greet()
        station.talk = welcome_and_listen
        await guest.say(Enrolled("Cổng"))

    async with running_station(rename) as station:
        visitor = Visitor(store_of(tmp_path, station.port))
        await visitor.run_for(2)
    assert [hello.name for hello in station.hellos] == ["a", "Cổng"]
    assert visitor.said[0] == "the station calls this loudspeaker Cổng now; trying again"
    state = visitor.store.state
    assert SpeakerState.from_json(visitor.store.path.read_bytes()) == state
    assert state.name == "Cổng"
    assert state.station is not None
    assert state.station.session_number == 1


@pytest.mark.trio
@pytest.mark.parametrize("every_s", [0.5, 20.0])
async def test_it_tells_how_it_is_as_often_as_the_station_says(
    world: MockClock, every_s: float
) -> None:
    visitor, station = await visit(welcome_at(every_s), 6.4 * every_s)
    assert [message for _, message in station.telemetry] == [TELEMETRY] * 7
    times = [at for at, _ in station.telemetry]
    assert times[0] < 0.3
    assert [b - a for a, b in pairwise(times)] == pytest.approx([every_s] * 6, abs=0.1)
    assert set(visitor.speaker.paces_s) == {every_s}


@pytest.mark.trio
@pytest.mark.parametrize("drawn", [0.0, 0.25, 0.75])
async def test_all_come_at_once_but_do_not_all_tell_at_once(
    world: MockClock, tmp_path: Path, drawn: float
) -> None:
    async with running_station(welcome_at(20.0)) as station:
        visitor = Visitor(store_of(tmp_path, station.port), uniform=lambda: drawn)
        await visitor.run_for(38)
    times = [at for at, _ in station.telemetry]
    assert times == pytest.approx([0, 20 * drawn, 20 * drawn + 20], abs=0.5)


@pytest.mark.trio
async def test_what_is_new_is_told_at_once(world: MockClock) -> None:
    async def change(_: Station) -> None:
        await trio.sleep(5)
        changed.set()

    with tempfile.TemporaryDirectory() as folder:
        async with running_station(welcome_at(20.0)) as station, trio.open_nursery() as nursery:
            visitor = Visitor(store_of(Path(folder), station.port))
            changed = visitor.speaker.changed
            nursery.start_soon(change, station)
            await visitor.run_for(10)
    assert [at for at, _ in station.telemetry] == pytest.approx([0, 5], abs=0.3)


@pytest.mark.trio
async def test_it_calls_from_the_address_it_is_given(world: MockClock, tmp_path: Path) -> None:
    async with running_station() as station:
        visitor = Visitor(store_of(tmp_path, station.port), local_address="127.3.2.1")
        await visitor.run_for(0.5)
    assert visitor.speaker.welcomes == [("127.0.0.1", "127.3.2.1", station.welcomes[0])]


class InMemory:
    """All that a session needs of a store."""

    def __init__(self, state: SpeakerState) -> None:
        self.state = state

    async def keep(self, state: SpeakerState) -> None:
        self.state = state


@pytest.mark.trio
async def test_any_store_will_do(world: MockClock, tmp_path: Path) -> None:
    async with running_station() as station:
        store = InMemory(store_of(tmp_path, station.port).state)
        speaker = FakeSpeaker()
        session = ControlSession(store, speaker, lambda: 0.5, Drawn("speaker"), lambda _: None)
        with trio.move_on_after(0.5):
            await session.run()
    assert speaker.welcomes == [("127.0.0.1", "127.0.0.1", station.welcomes[0])]
    assert store.state.station is not None
    assert store.state.station.session_number == 1


def test_all_connections_of_a_process_share_what_they_can() -> None:
    assert client_context() is client_context()


@pytest.mark.trio
async def test_it_does_as_told_and_confirms_each_revision(world: MockClock) -> None:
    async def declare(station: Station) -> None:
        for revision, streams in ((1, (SPEC,)), (2, ()), (7, (SPEC,))):
            await trio.sleep(0.2)
            await station.say(Listen(revision, streams))

    visitor, station = await visit(welcome_and_listen, 1.0, declare)
    told = [Listen(1, (SPEC,)), Listen(2, ()), Listen(7, (SPEC,))]
    assert visitor.speaker.listens == told
    assert station.readies == [Ready(1), Ready(2), Ready(7)]


@pytest.mark.trio
async def test_it_stays_as_long_as_the_station_does(world: MockClock) -> None:
    world.autojump_threshold = 0.001
    visitor, station = await visit(welcome_and_listen, 120)
    assert len(station.came_s) == 1
    assert visitor.session.joined is not None


# ------------------------------------------------------------------ how loud, and what to do
@pytest.mark.trio
async def test_it_is_as_loud_as_told(world: MockClock) -> None:
    told = [Adjust(30, muted=False), Adjust(30, muted=True)]

    async def adjust(station: Station) -> None:
        for word in told:
            await trio.sleep(0.2)
            await station.say(word)

    visitor, station = await visit(welcome_and_listen, 1.0, adjust)
    assert visitor.speaker.adjusts == told
    assert station.readies == []


@pytest.mark.trio
async def test_it_does_what_it_is_asked_to_and_says_so(world: MockClock) -> None:
    asked = [Command(3, "tone", 2.0), Command(4, "identify")]

    async def ask(station: Station) -> None:
        for word in asked:
            await trio.sleep(0.2)
            await station.say(word)

    visitor, station = await visit(welcome_and_listen, 1.0, ask)
    assert visitor.speaker.commands == asked
    assert station.answers == [Done(3), Done(4)]


@pytest.mark.trio
@pytest.mark.parametrize("action", ["tone", "identify", "restart"])
async def test_it_says_why_it_does_not_do_what_it_is_asked_to(
    world: MockClock, tmp_path: Path, action: str
) -> None:
    async with running_station() as station, trio.open_nursery() as nursery:
        visitor = Visitor(store_of(tmp_path, station.port))
        visitor.speaker.objection = "live-1 is being heard"
        nursery.start_soon(visitor.run_for, 1.0)
        await trio.sleep(0.5)
        await station.say(Command(7, action))
    assert station.answers == [Done(7, "live-1 is being heard")]
    assert len(station.came_s) == 1


@pytest.mark.trio
async def test_it_ends_where_it_is_asked_to_begin_anew_after_saying_that_it_does(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station() as station, trio.open_nursery() as nursery:
        visitor = Visitor(store_of(tmp_path, station.port))

        async def ask() -> None:
            await trio.sleep(0.5)
            await station.say(Command(7, "restart"))

        nursery.start_soon(ask)
        with pytest.RaisesGroup(RestartAsked, flatten_subgroups=True, allow_unwrapped=True):
            await visitor.session.run()
        await trio.sleep(0.1)
    assert station.answers == [Done(7)]


# ------------------------------------------------------------------ ready
@pytest.mark.trio
async def test_it_is_ready_for_unicast_once_that_reaches_it(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station() as station, trio.open_nursery() as nursery:
        visitor = Visitor(store_of(tmp_path, station.port))
        visitor.speaker.unreachable_s = 1.0
        nursery.start_soon(visitor.run_for, 2.5)
        await trio.sleep(0.5)
        await station.say(Listen(4, (GROUP_SPEC,)))
        await trio.sleep(0.1)
        assert station.readies == [Ready(4)]
        await station.say(Listen(5, (SPEC,)))
        await trio.sleep(0.5)
        await station.say(Listen(6, (SPEC,)))
        await station.say(Adjust(30, muted=False))
        await trio.sleep(0.2)
        assert visitor.speaker.adjusts == [Adjust(30, muted=False)]
        assert station.readies == [Ready(4)]
    # Of what is outdated it says nothing: the station would take it for the newest.
    assert station.readies == [Ready(4), Ready(6)]
