"""Blocking calls from an event loop: in order, and nobody waits but those who asked."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from server.errors import StationError
from server.keeper import Keeper
from server.store.engine import StoreError, UncertainError

Run = Callable[[Coroutine[Any, Any, None]], None]


class Disk:
    """What was written, in order; it fails while it is full."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.full = False

    def write(self, text: str, *, twice: bool = False) -> None:
        if self.full:
            raise StoreError("/data: the disk is full")
        self.written += [text, text] if twice else [text]


async def come_to_rest(keeper: Keeper) -> None:
    """Until all that was asked for is done, and what follows from it."""
    await keeper.do(lambda: None)
    for _ in range(3):
        await asyncio.sleep(0)


def test_the_result_of_a_call_comes_back(run: Run) -> None:
    async def scenario() -> None:
        keeper = Keeper()
        assert await keeper.do(divmod, 7, 2) == (3, 1)
        disk = Disk()
        await keeper.do(disk.write, "a", twice=True)
        assert disk.written == ["a", "a"]

    run(scenario())


def test_a_store_that_fails_is_one_line_for_who_asked(run: Run) -> None:
    async def scenario() -> None:
        disk = Disk()
        disk.full = True
        with pytest.raises(StationError) as caught:
            await Keeper().do(disk.write, "a")
        assert str(caught.value) == "nothing was changed: /data: the disk is full"

    run(scenario())


def test_a_change_that_may_have_been_made_is_not_told_as_none(run: Run) -> None:
    def vanish() -> None:
        raise UncertainError("the server went away in the middle of a change")

    async def scenario() -> None:
        with pytest.raises(StationError) as caught:
            await Keeper().do(vanish)
        assert str(caught.value) == "the server went away in the middle of a change"

    run(scenario())


def test_a_mistake_of_ours_is_not_taken_for_a_failing_store(run: Run) -> None:
    async def scenario() -> None:
        with pytest.raises(ValueError, match="invalid literal"):
            await Keeper().do(int, "a")

    run(scenario())


def test_the_loop_goes_on_while_the_disk_is_slow(run: Run) -> None:
    async def scenario() -> None:
        there_is_room = threading.Event()
        waiting = asyncio.create_task(Keeper().do(there_is_room.wait, 30.0))
        await asyncio.sleep(0)
        there_is_room.set()  # which a loop that waited for the disk would never reach
        assert await waiting

    run(scenario())


def test_calls_are_made_one_at_a_time_in_the_order_they_were_asked_for(run: Run) -> None:
    async def scenario() -> None:
        keeper, disk = Keeper(), Disk()
        keeper.later(disk.write, "first")
        second = asyncio.create_task(keeper.do(disk.write, "second"))
        await asyncio.sleep(0)
        keeper.later(disk.write, "third")
        await keeper.do(disk.write, "fourth")
        await second
        assert disk.written == ["first", "second", "third", "fourth"]

    run(scenario())


def test_what_nobody_waits_for_is_written_before_what_is_asked_for_after_it(run: Run) -> None:
    # Or an old row about a loudspeaker would replace what an operator has just said of it.
    async def scenario() -> None:
        keeper, disk = Keeper(), Disk()

        async def operator() -> None:
            await keeper.do(disk.write, "new")

        asking = asyncio.create_task(operator())
        keeper.later(disk.write, "old")
        await asking
        assert disk.written == ["old", "new"]

    run(scenario())


def test_what_nobody_waits_for_and_fails_is_told_of_once(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        keeper, disk = Keeper(), Disk()
        disk.full = True
        for _ in range(3):
            keeper.later(disk.write, "a")
        await come_to_rest(keeper)

    run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        "loa: the store: nothing was changed: /data: the disk is full"
    ]


def test_when_it_fails_again_after_it_worked_that_is_told_again(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        keeper, disk = Keeper(), Disk()
        for full in (True, False, True):
            disk.full = full
            keeper.later(disk.write, "a")
            await come_to_rest(keeper)

    run(scenario())
    assert len(caplog.records) == 2


def test_who_wants_to_know_is_told_that_it_failed(run: Run) -> None:
    async def scenario() -> None:
        keeper, disk, told = Keeper(), Disk(), list[str]()
        keeper.later_or(lambda: told.append("worked"), disk.write, "a")
        await come_to_rest(keeper)
        disk.full = True
        keeper.later_or(lambda: told.append("failed"), disk.write, "a")
        await come_to_rest(keeper)
        assert told == ["failed"]

    run(scenario())


def test_what_the_disk_has_yet_to_take_is_counted(run: Run) -> None:
    async def scenario() -> None:
        keeper, free = Keeper(), threading.Event()

        def wait() -> None:
            free.wait(10)

        keeper.later(wait)
        keeper.later(lambda: None)
        assert keeper.queue == 2
        free.set()
        await come_to_rest(keeper)
        assert keeper.queue == 0

    run(scenario())
