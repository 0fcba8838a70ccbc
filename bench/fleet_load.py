"""What a station's processes took of the machine in a while, and how late its senders were.

Two readings are compared, taken at the two ends of the while; what takes one reads /proc (proc(5)).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bench.fleet_figures import Histogram
from server.usage import ProcessUse

_PROC = Path("/proc")
_MS_PER_S = 1e3
_LATENESS = "loa_sender_lateness_seconds_bucket"
_COUNTERS = {
    "datagrams": "loa_sender_datagrams_total",
    "errors": "loa_sender_errors_total",
    "stale": "loa_sender_stale_total",
    "overruns": "loa_sender_overruns_total",
}


def cpu_seconds(before: Iterable[ProcessUse], after: Iterable[ProcessUse]) -> dict[str, float]:
    """CPU seconds that each kind of process took between two readings; those of a kind together.

    A process that began in between counts from its beginning, one that ended not at all.
    """
    had = {use.pid: use.cpu_s for use in before}
    took: dict[str, float] = defaultdict(float)
    for use in after:
        took[use.process] += use.cpu_s - had.get(use.pid, 0.0)
    return dict(took)


def grown_bytes(
    uses: Iterable[ProcessUse], before: Mapping[int, int], after: Mapping[int, int]
) -> dict[str, int]:
    """By how much the memory of each kind of process grew, of those that are in both readings."""
    grown: dict[str, int] = defaultdict(int)
    for use in uses:
        if use.pid in before and use.pid in after:
            grown[use.process] += after[use.pid] - before[use.pid]
    return dict(grown)


def own_bytes(uses: Iterable[ProcessUse], proc: Path = _PROC) -> dict[int, int]:
    """The memory of each process that is no file's and not shared, as the ring is; by number."""
    found = {}
    for use in uses:
        with suppress(OSError):  # it has ended
            status = (proc / str(use.pid) / "status").read_text()
            lines = (line.split() for line in status.splitlines())
            found[use.pid] = next(int(line[1]) << 10 for line in lines if line[0] == "RssAnon:")
    return found


@dataclass(frozen=True, slots=True)
class SenderCounts:
    """What all senders together have done so far; `late` is of datagrams, against their slots."""

    datagrams: int
    errors: int
    stale: int
    overruns: int
    late: Histogram

    @classmethod
    def parse(cls, exposition: str) -> "SenderCounts":
        """From the station's metrics; ValueError if they have no senders in them."""
        totals: dict[str, int] = defaultdict(int)
        below: dict[float, int] = defaultdict(int)
        for family in text_string_to_metric_families(exposition):
            for sample in family.samples:
                if sample.name == _LATENESS:
                    below[float(sample.labels["le"]) * _MS_PER_S] += int(sample.value)
                else:
                    totals[sample.name] += int(sample.value)
        if not below:
            raise ValueError("the station says nothing of its senders")
        # Prometheus' buckets have in them what is in those before.
        steps = pairwise([(0.0, 0), *sorted(below.items())])
        late = Histogram.of((bound_ms, count - less) for (_, less), (bound_ms, count) in steps)
        return cls(**{field: totals[name] for field, name in _COUNTERS.items()}, late=late)

    def since(self, before: "SenderCounts") -> "SenderCounts":
        """What was done between `before` and this."""
        return SenderCounts(
            self.datagrams - before.datagrams,
            self.errors - before.errors,
            self.stale - before.stale,
            self.overruns - before.overruns,
            self.late.minus(before.late),
        )


def holders(locks: str, candidates: Sequence[int]) -> list[int]:
    """Which of these processes hold a lock of a file's bytes, by the text of /proc/locks.

    A line of a process that waits has an arrow behind its number (proc_locks(5)).
    """
    held = set()
    for line in locks.splitlines():
        words = line.split()
        if len(words) > 4 and words[1] == "POSIX":
            held.add(words[4])
    return [pid for pid in candidates if str(pid) in held]


def senders_on_duty(uses: Iterable[ProcessUse]) -> list[int]:
    """The senders that send, by their process numbers; the others are their warm spares."""
    senders = [use.pid for use in uses if use.process == "sender"]
    return holders(Path("/proc/locks").read_text(), senders)


def microseconds_each(cpu_s: float, count: float) -> float:
    """CPU time for one of `count`; infinite where there were none."""
    return cpu_s * 1e6 / count if count else inf


def shares(cpu_s: Mapping[str, float], seconds: float) -> dict[str, float]:
    """CPU seconds a second, by kind of process: 1.0 is one whole core."""
    return {name: used / seconds for name, used in sorted(cpu_s.items())}
