"""Tasks that are asked for by whoever cannot wait for them."""

from collections.abc import Awaitable, Callable

import trio

Task = Callable[[], Awaitable[None]]


class Tasks:
    """Runs what was started, also if that was before anything could run."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        self._waiting: list[Task] = []

    def start(self, task: Task) -> None:
        """Run it beside all others, now or as soon as `run` does."""
        if self._nursery is None:
            self._waiting.append(task)
        else:
            self._nursery.start_soon(task)

    async def run(self) -> None:
        """Until cancelled, or until one of them fails."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for task in self._waiting:
                nursery.start_soon(task)
            self._waiting.clear()
            await trio.sleep_forever()
