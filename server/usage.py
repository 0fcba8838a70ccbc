"""What the station's processes take of the machine, as Linux says in /proc (proc(5))."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
# Of /proc/PID/stat, behind the name, which may hold anything but ends at the last bracket.
_UTIME, _STIME, _RSS_PAGES = 11, 12, 21
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """One process: what it is, and its CPU time and memory; `shard` is that of a sender."""

    process: str
    shard: int | None
    pid: int
    cpu_s: float
    resident_bytes: int


def station_use(supervisor: int, proc: Path = _PROC) -> list[ProcessUse]:
    """The supervisor and those it has begun; none where there is no such /proc."""
    uses = [_use(supervisor, "supervisor", None, proc)]
    with suppress(OSError):
        children = (proc / f"{supervisor}/task/{supervisor}/children").read_text()
        uses += [_child_use(int(pid), proc) for pid in children.split()]
    return [use for use in uses if use is not None]


def _child_use(pid: int, proc: Path) -> ProcessUse | None:
    """None if it is gone, or is not yet what it shall be: `python -m server.sender BIRTH`."""
    try:
        arguments = (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        module, birth, *_ = arguments[arguments.index("-m") + 1 :]
    except (OSError, ValueError):
        return None
    room, _, process = module.partition(".")
    if room != "server":
        return None
    shard = _shard(birth) if process == "sender" else None
    return _use(pid, process or "control", shard, proc)


def _shard(birth: str) -> int | None:
    try:
        shard = json.loads(birth)["shard"]
    except (KeyError, TypeError, ValueError):
        return None
    return shard if isinstance(shard, int) else None


def _use(pid: int, process: str, shard: int | None, proc: Path) -> ProcessUse | None:
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()
    if len(fields) <= _RSS_PAGES:
        return None
    cpu_s = (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS
    return ProcessUse(process, shard, pid, cpu_s, int(fields[_RSS_PAGES]) * _PAGE_BYTES)
