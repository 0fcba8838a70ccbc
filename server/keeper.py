"""Control's way to the store: one thread, so that writes happen in order.

Nobody waits for the disk but those who asked.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from server.errors import StationError
from server.store.engine import StoreError, UncertainError

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Keeper:
    """Calls of a blocking store, from an event loop."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._under_way: set[asyncio.Task[None]] = set()
        self._complained = False
        # Calls that are not done yet.
        self.queue = 0

    async def do(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The call's result, once it is on the disk; StationError if it cannot be."""
        return await self._outcome(self._begin(lambda: call(*args, **kwargs)))

    def _begin(self, call: Callable[[], _T]) -> asyncio.Future[_T]:
        """Queued at once, for what is asked for later must be written later."""
        begun = asyncio.get_running_loop().run_in_executor(self._thread, call)
        self.queue += 1
        begun.add_done_callback(self._ended)
        return begun

    def _ended(self, _: object) -> None:
        self.queue -= 1

    @staticmethod
    async def _outcome(begun: asyncio.Future[_T]) -> _T:
        try:
            return await begun
        except UncertainError as error:
            raise StationError(str(error)) from None
        except StoreError as error:
            raise StationError(f"nothing was changed: {error}") from None

    def later(self, call: Callable[_P, None], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """The same for what nobody waits for; if it fails that is said in the log."""
        self.later_or(lambda: None, call, *args, **kwargs)

    def later_or(
        self,
        failed: Callable[[], None],
        call: Callable[_P, None],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> None:
        """The same; `failed` is called if it fails."""
        begun = self._begin(lambda: call(*args, **kwargs))

        async def run() -> None:
            try:
                await self._outcome(begun)
                self._complained = False
            except StationError as error:
                failed()
                if not self._complained:
                    _log.error("loa: the store: %s", error)
                self._complained = True

        task = asyncio.get_running_loop().create_task(run())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
