"""Heads go to anchors in their own time, and an anchor that fails holds nobody up."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from server.audit.head import Head
from server.keeper import Keeper
from server.recording import Recorder
from server.store import Store
from server.vouching import HEAD_NS, HEAD_ROWS, Vouching
from tests.support.logs import Keys, entry

Run = Callable[[Coroutine[Any, Any, None]], None]
KEYS = Keys()


@dataclass
class Outside:
    """An anchor that does as it is told."""

    fails: bool = False
    hangs: threading.Event = field(default_factory=threading.Event)
    taken: list[int] = field(default_factory=list)
    tried: int = 0
    shown: str = "outside"

    def __post_init__(self) -> None:
        self.hangs.set()

    def put(self, head: Head) -> None:
        self.tried += 1
        self.hangs.wait(20)
        if self.fails:
            raise OSError(28, "the disk is full")
        self.taken.append(head.seq)


@dataclass
class Office:
    """The log of a station, and its time."""

    path: Path
    outside: Outside = field(default_factory=Outside)
    now_ns: int = 7

    def __post_init__(self) -> None:
        self.store = Store.create(self.path, "Station")
        self.store.begin_audit(KEYS.root.public, 1)
        keeper = Keeper()
        self.recorder = Recorder(self.store, keeper, lambda: self.now_ns)
        self.vouching = Vouching(
            self.store, keeper, lambda: self.now_ns, KEYS.signer, [self.outside]
        )

    async def note(self, rows: int) -> None:
        self.recorder.written += rows
        self.store.note([entry(n) for n in range(rows)])

    async def tick(self, later_ns: int = 0) -> None:
        self.now_ns += later_ns
        self.vouching.tick(self.recorder.written)
        await asyncio.sleep(0.3)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "loa.sqlite3")


def test_a_head_is_signed_after_so_many_rows_or_so_long(office: Office, run: Run) -> None:
    async def scenario() -> None:
        await office.note(HEAD_ROWS - 1)
        await office.tick()
        assert office.outside.taken == []
        await office.note(1)
        await office.tick()
        assert office.outside.taken == [HEAD_ROWS]
        await office.note(1)
        await office.tick(HEAD_NS)
        await office.tick(HEAD_NS - 1)
        assert office.outside.taken == [HEAD_ROWS]
        await office.tick(1)
        assert office.outside.taken == [HEAD_ROWS, HEAD_ROWS + 1]
        for _ in range(5):
            await office.tick(HEAD_NS)
        assert [h.seq for h in office.store.audit_heads(0, 999)] == office.outside.taken

    run(scenario())


def test_an_anchor_that_fails_is_shown_and_tried_again_and_holds_nobody_up(
    office: Office, run: Run
) -> None:
    async def scenario() -> None:
        office.outside.fails = True
        for number in range(1, 31):
            await office.note(1)
            head = await office.vouching.sign()
            assert head.seq == number
        await asyncio.sleep(1)
        (state,) = office.vouching.anchors
        assert (state.seq, state.waiting, state.fault) == (0, 16, "the disk is full")
        tried = office.outside.tried
        await asyncio.sleep(600)
        assert 8 <= office.outside.tried - tried <= 20
        office.outside.fails = False
        await asyncio.sleep(120)
        assert office.outside.taken == list(range(15, 31))
        (state,) = office.vouching.anchors
        assert (state.seq, state.waiting, state.fault) == (30, 0, "")

    run(scenario())


def test_an_anchor_that_hangs_holds_nobody_up(office: Office) -> None:
    async def scenario() -> None:
        office.outside.hangs.clear()
        await office.note(1)
        await office.vouching.sign()
        for _ in range(20):
            await office.recorder.note(entry(1))
            await office.vouching.sign()
        assert len([line async for line in office.vouching.export()]) > 20
        assert office.outside.taken == []
        office.outside.hangs.set()

    asyncio.run(scenario())
    assert office.store.audit_end()[0].seq == 21


def test_whatever_an_anchor_raises_stops_nothing(
    office: Office, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UnicodeError("no such host")

    async def scenario() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Outside, "put", fail)
            await office.note(1)
            await office.vouching.sign()
            await asyncio.sleep(1)
        assert office.vouching.anchors[0].fault == "no such host"
        await asyncio.sleep(61)
        assert office.outside.taken == [1]

    run(scenario())
