"""What is collected when."""

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from server import garbage
from server.garbage import collect_all, collect_for_ever, collect_young

Run = Callable[[Coroutine[Any, Any, None]], None]


class Ring:
    """Refers to itself, so that only the collector ends it."""

    def __init__(self) -> None:
        self.itself: Ring | None = self


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_young_garbage_is_collected() -> None:
    gc.disable()
    seen = weakref.ref(Ring())
    assert seen() is not None
    collect_young()
    assert seen() is None


def test_the_old_is_looked_at_only_with_everything() -> None:
    ring: Ring | None = Ring()
    seen = weakref.ref(ring)
    collect_young()
    assert gc.get_freeze_count() > 0
    ring = None
    collect_young()
    assert seen() is not None
    collect_all()
    assert seen() is None
    assert ring is None


def test_it_is_done_each_second_and_all_of_it_each_day(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(garbage, "_TIMES_A_DAY", 5)
    monkeypatch.setattr(garbage, "collect_young", lambda: done.append("young"))
    monkeypatch.setattr(garbage, "collect_all", lambda: done.append("all"))

    async def scenario() -> None:
        collecting = asyncio.create_task(collect_for_ever())
        await asyncio.sleep(6.5)
        collecting.cancel()

    run(scenario())
    assert done == [*["young"] * 5, "all", "young"]
