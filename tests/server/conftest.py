"""Rooms for the tests of this folder.

They are given as fixtures, and not imported, so that `mypy tests/server` finds each file once.
"""

import asyncio
import itertools
import os
import selectors
import shutil
import socket
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import pytest
from typing_extensions import override

from server import app, child, supervise
from server.__main__ import _open_store
from server.app import Control
from server.bus import (
    FROM_PRODUCER,
    FROM_SENDER,
    TO_PRODUCER,
    TO_SENDER,
    Bus,
    DeclareProgrammes,
    DeclareRoutes,
    ProducerReport,
    ProgrammeReport,
    SenderReport,
    StreamReport,
    WhoIsThere,
)
from server.child import Birth
from server.data import DataFolder
from server.settings import Settings
from server.store.store import Store
from tests.support.sessions import Room as SessionRoom
from transport.control.messages import Hello

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
STATION = "Tân Phú"
# Only ever waited for when something is broken.
_THREAD_S = 30.0


class _Jumping(selectors.SelectSelector):
    """Instead of waiting for a timeout, says so: `passed` is called with its seconds.

    Threads are waited for, and what they do takes no time.
    """

    def __init__(self, passed: Callable[[float], None], in_threads: Callable[[], int]) -> None:
        super().__init__()
        self._passed = passed
        self._in_threads = in_threads

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0 and self._in_threads():
            ready = super().select(_THREAD_S)
            assert ready, "a thread does not come to its end"
        if not ready and timeout is None:
            pytest.fail("everybody waits for ever")
        if not ready and timeout:
            self._passed(timeout)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._now_s = 0.0
        self._in_threads = 0
        super().__init__(_Jumping(self._pass, lambda: self._in_threads))

    @override
    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        future = super().run_in_executor(executor, func, *args)

        def ended(_: asyncio.Future[_T]) -> None:
            self._in_threads -= 1

        self._in_threads += 1
        future.add_done_callback(ended)
        return future

    def _pass(self, seconds: float) -> None:
        self._now_s += seconds

    @override
    def time(self) -> float:
        return self._now_s


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine to its end in virtual time."""

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(asyncio.wait_for(main, 3600))

    return run


@pytest.fixture
def births() -> Iterator[dict[str, Birth]]:
    """Real sockets and memory for each process of a station, as the supervisor makes them."""
    with supervise._resources(Settings(port=0)) as (births, _, _):
        yield births


@pytest.fixture(scope="session")
def _an_empty_station(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To make a database takes longer than most tests."""
    folder = DataFolder(tmp_path_factory.mktemp("station"))
    Store.create(folder.database, STATION).close()
    return folder.database


@pytest.fixture
def database(tmp_path: Path, _an_empty_station: Path) -> Path:
    """The database of a station in which nothing is registered yet."""
    database = DataFolder(tmp_path).database
    shutil.copy(_an_empty_station, database)
    return database


class ControlRoom:
    """Control, with a producer and a sender that do as this room says."""

    def __init__(self, births: dict[str, Birth]) -> None:
        self.births = births
        self.producer: Bus[ProducerReport, DeclareProgrammes | WhoIsThere] = Bus(
            child.adopt(births["server.producer"].producer_bus), FROM_PRODUCER, TO_PRODUCER
        )
        self.sender: Bus[SenderReport, DeclareRoutes | WhoIsThere] = Bus(
            child.adopt(births["server.sender"].sender_bus), FROM_SENDER, TO_SENDER
        )
        self.producer_life = "producer 1"
        self.sender_life = "sender 1"
        self.obeys = True
        self.state = "waiting"
        self._ssrcs = itertools.count(1000)
        self.numbers: dict[int, int] = {}
        self.ordered: list[DeclareProgrammes] = []
        self.routed: list[DeclareRoutes] = []
        self._running: asyncio.Task[None] | None = None
        self._bear_control()

    def _bear_control(self) -> None:
        birth = self.births["server"]
        self.store = _open_store(birth)
        self.control = Control(birth, self.store)

    async def start(self) -> None:
        """Until control is ready."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self.producer.fileno(), self.serve_producer)
        loop.add_reader(self.sender.fileno(), self.serve_sender)
        self._running = asyncio.create_task(self.control.run())
        await self.control.ready.wait()

    async def restart_control(self) -> None:
        """Kill control and begin another, as the supervisor would."""
        await self.kill_control()
        self._bear_control()
        await self.start()

    async def kill_control(self) -> None:
        """It takes no leave of anybody."""
        if self._running is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self.control._producer.fileno())
            loop.remove_reader(self.control._sender.fileno())
            self._running.cancel()
            await asyncio.wait([self._running])
            if not self._running.cancelled():
                self._running.result()
        # A write that has begun goes through, as one that is committed does in a process killed.
        self.control._keeper._thread.shutdown(cancel_futures=True)
        self.store.close()

    def stop_reading(self) -> None:
        """Producer and sender hang."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.producer.fileno())
        loop.remove_reader(self.sender.fileno())

    def serve_producer(self) -> None:
        for message in self.producer.receive():
            if isinstance(message, DeclareProgrammes):
                self.ordered.append(message)
        if self.obeys:
            self.report()

    def serve_sender(self) -> None:
        for message in self.sender.receive():
            if isinstance(message, DeclareRoutes):
                self.routed.append(message)
        self.sender.send(SenderReport(self.sender_life, 1, 2, 3, 4, 5, 6, 0.5))

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
                tuple(StreamReport(s.stream, self.numbers[s.stream], 7) for s in order.streams),
            )
            for order in orders
        )
        self.producer.send(ProducerReport(self.producer_life, tuple(programmes)))

    def join(
        self,
        name: str,
        *,
        multicast: bool = False,
        address: str = "192.0.2.1",
        delivery: str = "lan",
    ) -> None:
        """A loudspeaker whose session is not of interest here."""
        now_ns = self.control._clock.now_ns()
        hello = Hello(1, name, multicast, 50_000, delivery)
        self.control.station.join(hello, address, object(), now_ns)
        self.control.publish()

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
        monkeypatch.setattr(app, "adopt", adopt)

        def play(
            scenario: Callable[[ControlRoom], Coroutine[Any, Any, None]],
            *,
            started: bool = True,
            real_time: bool = False,
        ) -> None:
            async def main() -> None:
                birth = replace(births["server"], data=str(database.parent))
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
) -> Callable[[Callable[[SessionRoom], Coroutine[Any, Any, None]]], None]:
    """Play a scenario with the sessions of a fresh station."""

    def play(scenario: Callable[[SessionRoom], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            room = SessionRoom()
            await scenario(room)
            await room.end()

        run(main())

    return play
