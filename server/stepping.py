"""How far each loudspeaker is out of step with its neighbours, by when common packets came. Pure.

Neighbours are those of one unit that hear one stream by multicast: each packet comes to all of
them at the same moment, so what they make of its lateness differs by their clocks, and by the
little that the way to each is longer. Of who hears by unicast nothing is known.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from server.directory import Endpoint
from server.speakers import Speaker
from server.station import Station
from transport.clock.timeline import NS_PER_SECOND
from transport.control.lateness import Lateness

# Further from its neighbours than this a loudspeaker is heard beside them.
OUT_OF_STEP_US = 1000.0
# Of two that differ nobody knows which is wrong, and of three one that is spoils a median.
_ENOUGH = 3
# A window is of now for so many times its length after its end; clocks may differ by so much.
_FRESH, _AHEAD_S = 3, 2
# Of so many more loudspeakers a figure is so much older at most.
_REST_NS = NS_PER_SECOND // 1000

# A unit, and of a stream there a window: how long it is, and when it begins.
_Window = tuple[str, int, int, int]
# What was told of one, and by whom.
_Told = list[tuple[str, Lateness]]


@dataclass(frozen=True, slots=True)
class Step:
    """One loudspeaker against the median of its neighbours: ahead of them, if positive."""

    error_us: float
    neighbours: int

    @property
    def is_out(self) -> bool:
        """Whether it is far from its neighbours, and there are enough to know that it is wrong."""
        return self.neighbours >= _ENOUGH and abs(self.error_us) > OUT_OF_STEP_US

    @property
    def fault(self) -> str:
        """What is wrong, in one line; or nothing."""
        if not self.is_out:
            return ""
        where = "before" if self.error_us > 0 else "after"
        return (
            f"by its clock it sounds {abs(self.error_us) / 1e3:.1f} ms {where} its neighbours: "
            "is its way to the station like theirs?"
        )


@dataclass(frozen=True, slots=True)
class Steps:
    """All that can be compared, by name; `worst` names the two neighbours furthest apart."""

    by_name: Mapping[str, Step] = field(default_factory=dict)
    worst_us: float | None = None
    worst: tuple[str, str] | None = None

    @property
    def p95_us(self) -> float | None:
        """No further from its neighbours are 95 in 100; None if nobody can be compared."""
        if not self.by_name:
            return None
        away_us = [abs(step.error_us) for step in self.by_name.values()]
        return float(np.percentile(away_us, 95))

    @property
    def out(self) -> int:
        """How many are out of step."""
        return sum(step.is_out for step in self.by_name.values())

    @property
    def row(self) -> dict[str, Any]:
        """As the API shows it; nothing where nobody can be compared."""
        if self.worst is None:
            return {}
        return {
            "speakers": len(self.by_name),
            "p95_us": self.p95_us,
            "worst_us": self.worst_us,
            "worst": list(self.worst),
            "out_of_step": self.out,
        }


class Stepping:
    """All loudspeakers of a station; only who asks has it worked out, and not too often.

    Of 10,000 it takes a tenth of a second; and the more there are, the less often each tells.
    """

    def __init__(self, station: Station) -> None:
        self._station = station
        self._steps, self._due_ns = Steps(), 0

    def steps(self, now_ns: int) -> Steps:
        """As of now, or of a moment ago."""
        if now_ns >= self._due_ns:
            speakers, endpoints = self._station.speakers, self._station.directory.endpoints
            self._due_ns = now_ns + max(NS_PER_SECOND, len(speakers) * _REST_NS)
            self._steps = compare(speakers.values(), endpoints, now_ns)
        return self._steps


def compare(speakers: Iterable[Speaker], endpoints: Mapping[str, Endpoint], now_ns: int) -> Steps:
    """Those that are here, each in the window of now that most of its neighbours have told of."""
    now_s = now_ns // NS_PER_SECOND
    told: list[tuple[str, list[tuple[_Window, Lateness]]]] = []
    for speaker in speakers:
        endpoint = endpoints.get(speaker.name)
        if speaker.session is not None and endpoint is not None:
            of_now = [one for one in speaker.lateness if _is_of_now(one, now_s)]
            told.append((speaker.name, [(_window(endpoint, one), one) for one in of_now]))
    counts = Counter(window for _, windows in told for window, _ in windows)
    groups: defaultdict[_Window, _Told] = defaultdict(list)
    for name, windows in told:
        if windows:
            window, one = max(windows, key=lambda known: (counts[known[0]], known[0][-1]))
            groups[window].append((name, one))
    return _compared(group for group in groups.values() if len(group) > 1)


def _window(endpoint: Endpoint, told: Lateness) -> _Window:
    return endpoint.unit, told.stream, told.length_s, told.begin_s


def _is_of_now(told: Lateness, now_s: int) -> bool:
    age_s = now_s - (told.begin_s + told.length_s)
    return -_AHEAD_S <= age_s <= _FRESH * told.length_s


def _compared(groups: Iterable[_Told]) -> Steps:
    by_name: dict[str, Step] = {}
    worst_us, worst = None, None
    for group in groups:
        late = sorted(_late_us(group))
        late_us = [us for us, _ in late]
        for rank, (us, name) in enumerate(late):
            error_us = round(us - _median_without(late_us, rank), 1)
            by_name[name] = Step(error_us, len(group) - 1)
        apart_us = late_us[-1] - late_us[0]
        if worst_us is None or apart_us > worst_us:
            worst_us, worst = round(apart_us, 1), (late[0][1], late[-1][1])
    return Steps(by_name, worst_us, worst)


def _late_us(group: _Told) -> list[tuple[float, str]]:
    """How much later common packets come to each than to the most of this group.

    By those packets that enough of them have told of: what made one late at the station is the
    same for all. Where on Wi-Fi each has others that were fastest, by the fastest of each.
    """
    common: defaultdict[int, list[float]] = defaultdict(list)
    for _, told in group:
        for place, late_us in zip(told.places, told.late_us, strict=True):
            common[place].append(late_us)
    enough = min(_ENOUGH + 1, len(group))
    usual = {place: _median(late) for place, late in common.items() if len(late) >= enough}
    fastest = _median([min(told.late_us) for _, told in group])
    found = []
    for name, told in group:
        pairs = zip(told.places, told.late_us, strict=True)
        matched = [late_us - usual[place] for place, late_us in pairs if place in usual]
        found.append((_median(matched) if matched else min(told.late_us) - fastest, name))
    return found


def _median(values: list[float]) -> float:
    """As the library's, which takes three times as long."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _median_without(ordered: list[float], rank: int) -> float:
    """The median of all of these, in order, but for the one at this rank."""
    count = len(ordered) - 1
    low, high = (count - 1) // 2, count // 2
    return (ordered[low + (low >= rank)] + ordered[high + (high >= rank)]) / 2
