"""An event loop in which no second is a second."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

import pytest
from typing_extensions import override

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
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


def run_in_virtual_time(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(asyncio.wait_for(main, 3600))
