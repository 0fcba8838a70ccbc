"""Who is told when, and who has yet to confirm; time is counted, not waited for."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from server.telling import Confirmations, Untold

Run = Callable[[Coroutine[Any, Any, None]], None]
MS = 1_000_000


class Teller:
    """Each telling takes two milliseconds."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.told: list[str] = []
        self.state = "old"
        self.untold = Untold(self.tell, lambda: self.now_ns)

    def tell(self, name: str) -> None:
        self.now_ns += 2 * MS
        self.told.append(f"{self.state} {name}")


def test_few_are_told_at_once(run: Run) -> None:
    async def scenario() -> None:
        teller = Teller()
        teller.untold.add("ab")
        assert teller.told == ["old a", "old b"]
        assert len(teller.untold) == 0

    run(scenario())


def test_of_many_others_have_their_turn_between(run: Run) -> None:
    async def scenario() -> None:
        teller = Teller()
        teller.untold.add("abcdefgh")
        # A slice is five milliseconds: after the third there is no more of it.
        counts = []
        while len(teller.untold):
            counts.append(len(teller.told))
            teller.now_ns += 50 * MS  # whatever the others do
            await asyncio.sleep(0)
        counts.append(len(teller.told))
        assert [b - a for a, b in itertools.pairwise(dict.fromkeys(counts))] == [3, 2]
        assert counts[0] == 3
        assert teller.told == [f"old {name}" for name in "abcdefgh"]

    run(scenario())


def test_who_waits_is_told_once_and_what_is_so_by_then(run: Run) -> None:
    async def scenario() -> None:
        teller = Teller()
        teller.untold.add("abcde")
        teller.state = "new"
        teller.untold.add("abcde")
        assert "d" in teller.untold
        for _ in range(5):
            await asyncio.sleep(0)
        assert teller.told == [
            *("old a", "old b", "old c"),
            *("new d", "new e", "new a", "new b", "new c"),
        ]

    run(scenario())


def test_a_mistake_in_between_does_not_go_unnoticed(run: Run) -> None:
    def tell(name: str) -> None:
        if name == "b":
            raise ZeroDivisionError

    async def scenario() -> None:
        ticks = itertools.count()
        untold = Untold(tell, lambda: next(ticks) * 4 * MS)
        untold.add("ab")
        await asyncio.sleep(0.1)
        with pytest.raises(ZeroDivisionError):
            untold.add("c")

    run(scenario())


def test_all_are_waited_for_until_the_last_has_confirmed(run: Run) -> None:
    async def scenario() -> None:
        confirmations = Confirmations()
        waiting = asyncio.create_task(confirmations.wait({"a", "b"}, 10.0))
        await asyncio.sleep(1)
        confirmations.settle("a")
        confirmations.settle("stranger")
        await asyncio.sleep(1)
        assert not waiting.done()
        confirmations.settle("b")
        assert await waiting == set()

    run(scenario())


def test_who_has_not_in_time_is_named(run: Run) -> None:
    async def scenario() -> None:
        confirmations = Confirmations()
        waiting = asyncio.create_task(confirmations.wait({"a", "b"}, 1.0))
        other = asyncio.create_task(confirmations.wait({"b"}, 5.0))
        await asyncio.sleep(0.5)
        confirmations.settle("a")
        assert await waiting == {"b"}
        confirmations.settle("b")
        assert await other == set()
        assert await confirmations.wait(set(), 1.0) == set()

    run(scenario())
