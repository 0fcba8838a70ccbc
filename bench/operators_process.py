"""The process of all operators as its bench sees it: it tells what it called, and how long."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.operators_figures import Call
from bench.processes import Bench, ProcessError, end, wait_until
from server.usage import station_use

# Each hash takes a tenth of a second, and more where thousands of loudspeakers have their turn.
_SIGN_IN_S, _SIGN_IN_EACH_S = 30.0, 3.0
_STOP_S = 5.0


class Desk:
    """All operators, who have begun to sign in; they end with the block."""

    def __init__(self, bench: Bench, people: Path, think_s: float) -> None:
        self._log = bench.folder / "operators.log"
        self._ready = False
        self._calls: list[Call] = []
        self._late_ms: list[float] = []
        self._lock = threading.Lock()
        words = ["--server", bench.address, "--people", str(people)]
        words += ["--certificate", str(bench.data.tls_certificate), "--think-s", str(think_s)]
        with self._log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "bench.operators_desk", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=bench.environment,
            )
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end(self._process)

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was opened as a pipe
        with suppress(ValueError):  # closed, at the end
            for line in self._process.stdout:
                self._hear(json.loads(line))

    def _hear(self, event: dict[str, Any]) -> None:
        with self._lock:
            match event["event"]:
                case "ready":
                    self._ready = True
                case _:
                    self._calls += (Call(*call) for call in event["calls"])
                    self._late_ms += event["late_ms"]

    @property
    def cpu_s(self) -> float:
        """CPU time so far."""
        return sum(use.cpu_s for use in station_use(self._process.pid))

    def stop(self) -> None:
        """No call more is begun; returns when all that were ended are told."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        self._listening.join(_STOP_S)

    def check(self) -> None:
        """ProcessError if the process has ended."""
        if self._process.poll() is not None:
            lines = self._log.read_text().strip().splitlines()
            raise ProcessError(f"the operators have ended: {lines[-1] if lines else 'no word'}")

    def wait_until_signed_in(self, count: int, told: Callable[[int], None]) -> None:
        """All of so many; `told` is told how many have."""

        def signed_in() -> bool:
            self.check()
            told(sum(call.kind == "sign in" and call.ok for call in self.calls(0.0)))
            return self._ready

        wait_until(signed_in, "the operators to sign in", _SIGN_IN_S + count * _SIGN_IN_EACH_S, 0.2)

    def calls(self, since_s: float) -> list[Call]:
        """What has ended since then, seconds of the monotonic clock."""
        with self._lock:
            return [call for call in self._calls if call.at_s >= since_s]

    def late_ms(self) -> list[float]:
        """How late the process itself was, since it began."""
        with self._lock:
            return list(self._late_ms)
