"""Whom control has yet to tell what follows from the state, and who has yet to confirm it."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress

# Of the loop's time, before others have their turn: they are 10,000, and each takes 20 us or more.
_SLICE_NS = 5_000_000


class Untold:
    """Names of those who are to be told, each once however often it is to be: the newest."""

    def __init__(self, tell: Callable[[str], None], now_ns: Callable[[], int]) -> None:
        """`tell` tells one whatever is so at that moment."""
        self._tell = tell
        self._now_ns = now_ns
        # A set that keeps its order; what a plain dict has lost at its front it walks over.
        self._names: OrderedDict[str, None] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def add(self, names: Iterable[str]) -> None:
        """Tell as many as a slice of time allows now, and the rest slice by slice.

        Whoever waits already keeps its place.
        """
        self._names |= dict.fromkeys(names)
        if self._task is None:
            self._tell_some()
            if self._names:
                self._task = asyncio.create_task(self._tell_the_rest())
        elif self._task.done():
            self._task.result()  # a mistake of ours, which would go unnoticed in there

    async def _tell_the_rest(self) -> None:
        while self._names:
            await asyncio.sleep(0)
            self._tell_some()
        self._task = None

    def _tell_some(self) -> None:
        until_ns = self._now_ns() + _SLICE_NS
        while self._names and self._now_ns() < until_ns:
            name, _ = self._names.popitem(last=False)
            self._tell(name)


class Confirmations:
    """Those who wait for loudspeakers to have confirmed what they were told."""

    def __init__(self) -> None:
        self._waiting: list[tuple[set[str], asyncio.Event]] = []

    async def wait(self, silent: set[str], timeout_s: float) -> set[str]:
        """Until all of these have; those that have not, in time."""
        done = asyncio.Event()
        if not silent:
            return silent
        mine = silent, done
        self._waiting.append(mine)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await done.wait()
        finally:
            self._waiting.remove(mine)
        return silent

    def settle(self, name: str) -> None:
        """This one has, or is gone."""
        for silent, done in self._waiting:
            silent.discard(name)
            if not silent:
                done.set()
