"""A `loa fleet` process as its bench sees it: words go in, figures come out."""

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.fleet_figures import FleetFigures
from bench.processes import Bench, ProcessError, end
from server.usage import station_use

# Asked for its figures, it has thousands of sessions to serve besides.
_ANSWER_S = 30.0
# What is kept of the figures of each second: a day's.
_MOST_ROWS = 86_400


@dataclass(frozen=True, slots=True)
class Part:
    """Which loudspeakers of a fleet one process simulates: `count` of them from `first` on."""

    first: int
    count: int


def parts(endpoints: int, last: int = 0, most: int = 10_000) -> list[Part]:
    """A fleet cut into processes of at most `most`; the last `last` are in processes of their own.

    ValueError for a cut that leaves nobody on its first side.
    """
    if not 0 <= last < endpoints:
        raise ValueError(f"{last} of {endpoints} loudspeakers cannot be set apart")
    cuts = [*range(0, endpoints - last, most), *range(endpoints - last, endpoints, most)]
    ends = [*cuts[1:], endpoints]
    return [Part(first, until - first) for first, until in zip(cuts, ends, strict=True)]


class Fleet:
    """One such process, which ends with its bench."""

    def __init__(
        self, bench: Bench, keys: Path, part: Part, *options: str, niceness: int = 0
    ) -> None:
        """With a `niceness` it gives way to the station: its loudspeakers are other machines."""
        self.part = part
        self._log = f"fleet-{part.first}"
        self._bench = bench
        self._said = threading.Condition()
        self._answers: list[dict[str, Any]] = []
        self._joined = 0
        self.rows: list[dict[str, Any]] = []
        words = ["--server", bench.address, "--keys", str(keys)]
        words += ["--first", str(part.first), "--count", str(part.count), *options]
        under = ("nice", "-n", str(niceness)) if niceness else ()
        self._process = bench.start(
            "fleet", *words, log=self._log, stdin=subprocess.PIPE, under=under
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was opened as a pipe
        with suppress(ValueError):  # closed, at the end
            for line in self._process.stdout:
                self._hear(json.loads(line))
        self._process.wait()  # so that whoever is woken finds that it has ended
        with self._said:
            self._said.notify_all()

    def _hear(self, event: dict[str, Any]) -> None:
        with self._said:
            match event["event"]:
                case "joined":
                    self._joined = event["count"]
                case "figures" if "late_histogram" in event:
                    self._answers.append(event)
                case "figures":
                    self._joined = event["joined"]
                    self.rows.append(event)
                    del self.rows[:-_MOST_ROWS]
                case _:
                    pass  # it may say more than is asked
            self._said.notify_all()

    @property
    def joined(self) -> int:
        """How many have a session, as it said last; ProcessError if the process has ended."""
        self._check()
        return self._joined

    @property
    def cpu_s(self) -> float:
        """CPU time so far."""
        # For a process without children that is all there is to see.
        return sum(use.cpu_s for use in station_use(self._process.pid))

    @property
    def said(self) -> str:
        """What it has said for people to read."""
        return self._bench.log(self._log)

    def _check(self) -> None:
        if self._process.poll() is not None:
            raise ProcessError(f"the fleet has ended: {self.said}")

    def _say(self, word: str) -> None:
        self._check()
        assert self._process.stdin is not None  # noqa: S101 - it was opened as a pipe
        with suppress(BrokenPipeError):  # whoever waits for an answer will hear of it
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()

    def begin(self) -> None:
        """Count from now on."""
        self._say("begin")

    def figures(self) -> FleetFigures:
        """What was counted since `begin`; ProcessError if it does not say."""
        with self._said:
            before = len(self._answers)
            self._say("figures")
            if not self._said.wait_for(self._has(before), _ANSWER_S):
                raise ProcessError("the fleet does not say what it counted")
            self._check()
            return FleetFigures.from_event(self._answers[-1])

    def _has(self, before: int) -> Callable[[], bool]:
        return lambda: len(self._answers) > before or self._process.poll() is not None

    def hush(self) -> None:
        """All of them vanish, as in a power cut; `joined` is 0 soon after."""
        self._say(f"hush {self.part.count}")

    def wake(self) -> None:
        """All of them come back at once."""
        self._say("wake")

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """None of them reads anything, until the end of the block."""
        self._say(f"stall {self.part.count}")
        try:
            yield
        finally:
            self._say("unstall")

    def end(self) -> None:
        """Before its bench does."""
        end(self._process)

    def freeze(self) -> None:
        """The process does nothing at all from now on; its sockets overflow."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def frozen(fleets: Sequence[Fleet]) -> Iterator[None]:
    """Nobody of these takes time of this machine until the end of the block."""
    try:
        for fleet in fleets:
            fleet.freeze()
        yield
    finally:
        for fleet in fleets:
            fleet.thaw()
