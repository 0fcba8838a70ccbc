"""What operators' calls say put together: how many, how many in vain, and how long. Pure."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.operators_mix import CONNECT, GROUPS, SIGNING
from bench.report import percentiles

_MINUTE_S = 60.0
# What is as it should be: somebody else may have stopped or removed it meanwhile.
_EXPECTED = {("stop", 404), ("stop", 409), ("remove zone", 404)}


@dataclass(frozen=True, slots=True)
class Call:
    """One call: when it ended, what it was, its status or why there is none, how long, how much.

    `at_s` is of the monotonic clock; `took_ms` from sending to the last byte of the answer. A
    connection that had to be made first took `connect_ms`.
    """

    at_s: float
    kind: str
    status: int | str
    took_ms: float
    size: int
    connect_ms: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it was done, or refused for a reason that is to be expected."""
        if isinstance(self.status, str):
            return False
        return self.status < 400 or (self.kind, self.status) in _EXPECTED


def is_counted(call: Call) -> bool:
    """Whether it counts among all; signing in and connecting are told apart."""
    return call.kind != CONNECT and GROUPS.get(call.kind) != SIGNING


def took(calls: Iterable[Call]) -> NDArray[np.float64]:
    """How long each took, ms."""
    return np.array([call.took_ms for call in calls], dtype=np.float64)


def by_kind(calls: Iterable[Call]) -> dict[str, list[Call]]:
    """Of each kind; the most frequent first."""
    return _sorted_by(calls, lambda call: call.kind)


def by_group(calls: Iterable[Call]) -> dict[str, list[Call]]:
    """Those that read, those that change something, those that wait for loudspeakers."""
    return _sorted_by(calls, lambda call: GROUPS.get(call.kind, call.kind))


def _sorted_by(calls: Iterable[Call], key: Callable[[Call], str]) -> dict[str, list[Call]]:
    found: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        found[key(call)].append(call)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def row(calls: Sequence[Call]) -> dict[str, object]:
    """The figures of some calls; ReportError if there are none."""
    return {
        "calls": len(calls),
        "in_vain": sum(not call.ok for call in calls),
        **percentiles(took(calls), "ms"),
        # What it takes where nothing comes between.
        "min_ms": min(call.took_ms for call in calls),
        "bytes_mean": round(sum(call.size for call in calls) / len(calls)),
    }


def statuses(calls: Iterable[Call]) -> dict[str, int]:
    """How often each status came, or what came in its place."""
    counts = Counter(str(call.status) for call in calls if call.kind != CONNECT)
    return dict(sorted(counts.items()))


def in_vain(calls: Iterable[Call]) -> dict[str, int]:
    """What went wrong how often, as `kind: status`."""
    return dict(Counter(f"{call.kind}: {call.status}" for call in calls if not call.ok))


def by_minute(calls: Iterable[Call], began_s: float) -> list[dict[str, object]]:
    """Each minute's calls and how long they took; minutes in which nothing ended are left out."""
    found: dict[int, list[Call]] = defaultdict(list)
    for call in filter(is_counted, calls):
        found[int((call.at_s - began_s) // _MINUTE_S)].append(call)
    return [
        {"minute": minute, **{k: v for k, v in row(some).items() if k != "bytes_mean"}}
        for minute, some in sorted(found.items())
    ]
