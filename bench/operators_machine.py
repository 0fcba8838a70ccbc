"""What control took of the machine between two readings, and who else wanted it: /proc (proc(5)).

A call that waits for a processor which others have is not slow by the station's doing. So it is
told how long control's loop had something to do and no processor to do it, and how much of the
machine was taken by what is no part of the bench.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.fleet_load import own_bytes
from bench.processes import ProcessError
from server.usage import ProcessUse

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_NS_PER_S = 1e9
# Of the first line of /proc/stat, behind its name: what is no work.
_IDLE, _IOWAIT = 3, 4
# What is behind these is in others already.
_COUNTED = 8


@dataclass(frozen=True, slots=True)
class Reading:
    """Control's memory of its own, what it had written, how long its loop waited; and the machine.

    `busy_s` is CPU time of all that runs on this machine, whoever's it is.
    """

    own_bytes: int
    written_bytes: int
    waited_s: float
    busy_s: float

    @classmethod
    def of(cls, uses: Iterable[ProcessUse], proc: Path = _PROC) -> "Reading":
        """ProcessError if there is no control."""
        mine = [use for use in uses if use.process == "control"]
        if not mine:
            raise ProcessError("the station has no control")
        pid = mine[0].pid
        try:
            memory = own_bytes(mine, proc)[pid]
            return cls(
                memory, _written_bytes(proc / f"{pid}/io"), waited_s(pid, proc), busy_s(proc)
            )
        except (OSError, KeyError):
            raise ProcessError("control has ended") from None


def waited_s(pid: int, proc: Path = _PROC) -> float:
    """How long the first thread of a process could have run and did not, since it began."""
    return int((proc / f"{pid}/schedstat").read_text(encoding="ascii").split()[1]) / _NS_PER_S


def busy_s(proc: Path = _PROC) -> float:
    """CPU seconds that were not idle, of all processors together."""
    first = (proc / "stat").read_text(encoding="ascii").splitlines()[0]
    ticks = [int(word) for word in first.split()[1 : 1 + _COUNTED]]
    return (sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT]) / _TICKS


def _written_bytes(io: Path) -> int:
    lines = (line.split(": ") for line in io.read_text(encoding="ascii").splitlines())
    return next(int(count) for name, count in lines if name == "write_bytes")
