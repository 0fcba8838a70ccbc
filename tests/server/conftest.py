"""Rooms for the tests of this folder.

They are given as fixtures, and not imported, so that `mypy tests/server` finds each file once.
"""

import asyncio
import itertools
import os
import shutil
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server import neighbours, supervise
from server.__main__ import _open_store
from server.app import Control
from server.data import DataFolder
from server.directory import Endpoint
from server.enrolment import Code
from server.processes import child
from server.processes.bus import (
    FROM_GATEWAY,
    FROM_PRODUCER,
    FROM_SENDERS,
    FROM_USHER,
    LATENESS_BOUNDS_US,
    TO_GATEWAY,
    TO_PRODUCER,
    TO_SENDERS,
    TO_USHER,
    Bus,
    DeclarePaths,
    DeclareProgrammes,
    GatewayReport,
    PathReport,
    ProducerReport,
    ProgrammeReport,
    SenderReport,
    UsherReport,
    WhoIsThere,
    pack_sessions,
)
from server.processes.child import Birth
from server.processes.routing import RouteBook, Routes
from server.settings import Settings
from tests.support.sessions import Peer
from tests.support.sessions import Room as SessionRoom
from tests.support.stations import join, key_of_name, stream_report
from tests.support.virtual_time import run_in_virtual_time
from transport.control.messages import Listen, Welcome

STATION = "Tân Phú"


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine to its end in virtual time."""

    return run_in_virtual_time


@pytest.fixture
def births() -> Iterator[dict[str, Birth]]:
    """Real sockets and memory for each process of a station, as the supervisor makes them."""
    with supervise._resources(Settings(port=0)) as (births, _, _):
        yield births


@pytest.fixture(scope="session")
def _an_empty_station(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To make a database takes longer than most tests."""
    folder = DataFolder(tmp_path_factory.mktemp("stations") / "station")
    folder.create(STATION)
    return folder.path


@pytest.fixture
def database(tmp_path: Path, _an_empty_station: Path) -> Path:
    """The database of a station in which nothing is registered yet."""
    shutil.copytree(_an_empty_station, tmp_path, dirs_exist_ok=True)
    return DataFolder(tmp_path).database


class ControlRoom:
    """Control, with a producer and a sender that do as this room says."""

    def __init__(self, births: dict[str, Birth]) -> None:
        self.births = births
        self.producer: Bus[ProducerReport, DeclareProgrammes | WhoIsThere] = Bus(
            child.adopt(births["server.producer"].producer_bus), FROM_PRODUCER, TO_PRODUCER
        )
        birth = births["server.usher"]
        self.senders: Bus[SenderReport, WhoIsThere] = Bus(
            child.adopt(births["server.sender"].senders_bus), FROM_SENDERS, TO_SENDERS
        )
        self.usher: Bus[UsherReport | DeclarePaths, WhoIsThere] = Bus(
            child.adopt(birth.usher_bus), FROM_USHER, TO_USHER
        )
        self.routes_read = RouteBook(birth.routes)
        self.gateway: Bus[GatewayReport, WhoIsThere] = Bus(
            child.adopt(births["server.gateway"].gateway_bus), FROM_GATEWAY, TO_GATEWAY
        )
        self.producer_life = "producer 1"
        self.sender_life = "sender 1"
        self.usher_life = "usher 1"
        self.gateway_life = "gateway 1"
        self.obeys = True
        self.state = "waiting"
        self._ssrcs = itertools.count(1000, 2)  # even, as a producer draws them
        self.numbers: dict[int, int] = {}
        self.ordered: list[DeclareProgrammes] = []
        self.routed: list[Routes] = []
        self.at_gateway: set[int] = set()
        self._codes = itertools.count(1)
        self._running: asyncio.Task[None] | None = None
        self._sessions: list[asyncio.Task[None]] = []
        self.bear_control()

    def bear_control(self) -> None:
        """Another control, with what the last one left; nobody has spoken to it yet."""
        birth = self.births["server"]
        self.store = _open_store(birth)
        self.control = Control(birth, self.store)

    async def start(self) -> None:
        """Until control is ready."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self.producer.fileno(), self.serve_producer)
        loop.add_reader(self.usher.fileno(), self.serve_usher)
        loop.add_reader(self.births["server.usher"].usher_wake, self.read_routes)
        loop.add_reader(self.gateway.fileno(), self.serve_gateway)
        self.report_sender()
        self._running = asyncio.create_task(self.control.run())
        await self.control.ready.wait()

    async def restart_control(self) -> None:
        """Kill control and begin another, as the supervisor would."""
        await self.kill_control()
        self.bear_control()
        await self.start()

    async def kill_control(self) -> None:
        """It takes no leave of anybody."""
        if self._running is not None:
            loop = asyncio.get_running_loop()
            for bus in (
                self.control.neighbours._producer,
                self.control.neighbours._senders,
                self.control.neighbours._usher,
                self.control.neighbours._gateway,
            ):
                loop.remove_reader(bus.fileno())
            self._running.cancel()
            await asyncio.wait([self._running])
            if not self._running.cancelled():
                self._running.result()
        sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.cancel()
        for result in await asyncio.gather(*sessions, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        # A write that has begun goes through, as one that is committed does in a process killed.
        self.control._keeper._thread.shutdown(cancel_futures=True)
        self.store.close()

    def stop_reading(self) -> None:
        """Producer, usher and gateway hang."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.producer.fileno())
        loop.remove_reader(self.usher.fileno())
        loop.remove_reader(self.gateway.fileno())

    def serve_producer(self) -> None:
        for message in self.producer.receive():
            if isinstance(message, DeclareProgrammes):
                self.ordered.append(message)
        if self.obeys:
            self.report()

    def report_sender(self) -> None:
        """The one sender there is; nobody asks it."""
        lateness = tuple(range(len(LATENESS_BOUNDS_US) + 1))
        self.senders.send(SenderReport(self.sender_life, 0, 1, 2, 3, 4, lateness, 200_000, 5, 6, 7))

    def serve_usher(self) -> None:
        for _ in self.usher.receive():
            self.usher.send(UsherReport(self.usher_life, 4, 5, 6, 7, 0.5, 8, 9))

    def read_routes(self) -> None:
        """Somebody has rung."""
        os.eventfd_read(self.births["server.usher"].usher_wake)
        news = self.routes_read.news()
        if news is not None:
            self.routed.append(news)

    def serve_gateway(self) -> None:
        for _ in self.gateway.receive():
            self.report_gateway()

    def report_gateway(self) -> None:
        """The gateway's report on who is there."""
        sessions = pack_sessions(self.at_gateway)
        self.gateway.send(GatewayReport(self.gateway_life, sessions, 1, 2, 3))

    def open_path(self, session: int, address: str, port: int) -> None:
        """The usher has heard an authenticated keep-alive from there."""
        self.usher.send(DeclarePaths((PathReport(session, address, port),), ()))

    def report(self) -> None:
        """The producer's report on all it was ordered to encode."""
        orders = self.ordered[-1].programmes if self.ordered else ()
        for order in orders:
            for stream in order.streams:
                self.numbers.setdefault(stream.stream, next(self._ssrcs))
        programmes = (
            ProgrammeReport(
                order.programme,
                self.state,
                -20.0,
                1.5,
                tuple(stream_report(s, self.numbers[s.stream]) for s in order.streams),
            )
            for order in orders
        )
        self.producer.send(ProducerReport(self.producer_life, tuple(programmes)))

    def enrol(self, *names: str) -> None:
        """These become loudspeakers of the station, in the store too, as if each had a code."""
        now_s = self.control._clock.now_ns() // 1_000_000_000
        directory = self.control.station.directory
        new = [
            (next(self._codes).to_bytes(4), Endpoint(name, directory.root, key=key_of_name(name)))
            for name in names
            if name not in directory.endpoints
        ]
        if not new:
            return
        self.store.save_codes([Code(number, bytes(32), e.name, None, now_s) for number, e in new])
        self.store.enrol(new, now_s)
        for _, endpoint in new:
            self.control.station.enrol(endpoint)

    def join(
        self,
        name: str,
        *,
        multicast: bool = False,
        address: str = "192.0.2.1",
        delivery: str = "lan",
    ) -> int:
        """A loudspeaker whose session is not of interest here; that session's number.

        It was enrolled before, and its path is open.
        """
        self.enrol(name)
        station, now_ns = self.control.station, self.control._clock.now_ns()
        join(station, name, multicast=multicast, address=address, delivery=delivery, now_ns=now_ns)
        self.control.publish()
        return station.speakers[name].session_number

    def join_all(self, addresses: Mapping[str, str]) -> None:
        """These come at once, each by its name from its address, and are declared at the tick."""
        self.enrol(*addresses)
        now_ns = self.control._clock.now_ns()
        for name, address in addresses.items():
            join(self.control.station, name, address=address, now_ns=now_ns)
            self.control.sessions._joined()

    async def connect(self, name: str) -> Peer:
        """A loudspeaker that has said hello, and was told what there is to hear."""
        self.enrol(name)
        peer = Peer(name=name, tls_hash=self.control._own.credentials().tls_hash)
        websocket: Any = peer
        serving = asyncio.create_task(self.control.sessions.serve(websocket))
        self._sessions.append(serving)
        await peer.prove(peer.hello())
        assert isinstance(await peer.hears(), Welcome)
        assert isinstance(await peer.hears(), Listen)
        return peer

    async def settle(self, seconds: float = 0.35) -> None:
        """Let what is under way arrive, and a few ticks pass."""
        await asyncio.sleep(seconds)


@pytest.fixture
def play_control(
    births: dict[str, Birth],
    database: Path,
    run: Callable[[Coroutine[Any, Any, None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., None]]:
    """Play a scenario with a fresh control room: `play_control(async function of the room)`."""
    with ExitStack() as held:

        def adopt(descriptor: int) -> socket.socket:
            # A process keeps what it has adopted until its end; a test must not.
            return held.enter_context(socket.socket(fileno=os.dup(descriptor)))

        monkeypatch.setattr(child, "adopt", adopt)
        monkeypatch.setattr(neighbours, "adopt", adopt)

        def play(
            scenario: Callable[[ControlRoom], Coroutine[Any, Any, None]],
            *,
            started: bool = True,
            real_time: bool = False,
        ) -> None:
            async def main() -> None:
                folder = DataFolder(database.parent)
                birth = replace(
                    births["server"],
                    data=str(folder.path),
                    tls_certificate=str(folder.tls_certificate),
                    tls_key=str(folder.tls_key),
                )
                room = ControlRoom(births | {"server": birth})
                if started:
                    await room.start()
                await scenario(room)
                await room.kill_control()

            (asyncio.run if real_time else run)(main())

        yield play


@pytest.fixture
def play_sessions(
    run: Callable[[Coroutine[Any, Any, None]], None],
    database: Path,
) -> Callable[[Callable[[SessionRoom], Coroutine[Any, Any, None]]], None]:
    """Play a scenario with the sessions of a fresh station."""

    def play(scenario: Callable[[SessionRoom], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            room = SessionRoom(database)
            await scenario(room)
            await room.end()

        run(main())

    return play
