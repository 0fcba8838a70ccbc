"""Neighbours on one network: what each learns and plays, and how far any two are apart.

Every scheme is given the same exchanges, the same clocks and sound cards, and Loa's playhead and
servo: only what is made of the exchanges differs. One of them hears the programme's packets as
well, which begin when all have settled.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bench.network import SECOND, Link, Profile
from bench.sync_asking import Asking, Learnt, Station, relearn, relearn_by_ear, sound
from bench.sync_clocks import Oscillator, draw_oscillator
from bench.sync_peers import Best5Of30, BurstKalman, MedianOf200
from bench.sync_playing import Card, play
from endpoints.fleet.timing import Estimator
from transport.clock.estimator import ClockEstimator

# What a loudspeaker does that hears by unicast, and what it does that hears a group.
OURS, BY_EAR = "loa", "loa + arrivals"
# Networks on which a group is heard.
_BY_GROUP = ("L0", "L1", "L2")
PEERS: Mapping[str, Callable[[], Estimator]] = {
    "median of 200": MedianOf200,
    "best 5 of 30": Best5Of30,
    "burst + Kalman": BurstKalman,
}
SCHEMES = (OURS, BY_EAR, *PEERS)
# A loudspeaker has been on for so long before it is measured, and plays from then on.
SETTLE_S = 60.0
# A trim is what a microphone finds in so long, right after that.
TRIM_S = 10.0
CRYSTAL_PPM = 20.0
_READING_NOISE_US = 30.0
_LOOK_S = 0.1
# A packet leaves the station so late on average, for everybody.
_SENDER_LATE_NS, _SENDER_PACKETS = 200_000, 10_007
_Floats = NDArray[np.float64]


def headline(network: str) -> str:
    """The scheme whose figures are the bench's own: what a loudspeaker there does."""
    return BY_EAR if network in _BY_GROUP else OURS


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is measured: for `minutes` after settling, and after one trim if `trim`."""

    profile: Profile
    endpoints: int = 2
    minutes: float = 10.0
    seed: int = 1
    every_s: float = 1.0
    trim: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.endpoints <= 100:
            raise ValueError(f"{self.endpoints} loudspeakers: use 2 to 100")
        if not 0.5 <= self.minutes <= 600:
            raise ValueError(f"{self.minutes:g} minutes: use 0.5 to 600")
        if not 0.05 <= self.every_s <= 60:
            raise ValueError(f"a question every {self.every_s:g} s: use 0.05 to 60")

    @property
    def length_s(self) -> float:
        """Simulated seconds in all; the last one is played, and not looked at."""
        return self.begins_s + self.minutes * 60 + 1

    @property
    def begins_s(self) -> float:
        """When measuring begins."""
        return SETTLE_S + (TRIM_S if self.trim else 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Apart:
    """Of one scheme: how far any two were apart, and what a trim has taken away.

    `signed_us` is (pairs, moments); `untrimmed_us` the most that two were apart before the trim,
    None without one.
    """

    signed_us: _Floats
    untrimmed_us: float | None

    @property
    def distances_us(self) -> _Floats:
        """Of all pairs at all moments."""
        return np.abs(self.signed_us).ravel()

    @property
    def spread_us(self) -> float:
        """How wide the middle nine tenths of a pair's own moments lie, for the worst pair."""
        low, high = np.percentile(self.signed_us, (5.0, 95.0), axis=1)
        return float(np.max(high - low))


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Of one plan: each scheme's figures, and the questions that all of them rest on."""

    apart: dict[str, Apart]
    questions: int
    exchanges: int


@dataclass(frozen=True, slots=True)
class _Member:
    own: Oscillator
    card: Card
    learnt: dict[str, list[Learnt]]


def measure(plan: Plan, passed: Callable[[float], None] = lambda _: None) -> Outcome:
    """Simulate it; `passed` is told the share that is done (0 to 1) now and then."""
    steps = plan.endpoints * (1 + len(SCHEMES))
    done = 0
    members, questions = [], 0
    street = np.random.default_rng(plan.seed)
    late_ns = street.exponential(_SENDER_LATE_NS, _SENDER_PACKETS).astype(np.int64)
    for rng in street.spawn(plan.endpoints):
        member, asked = _learn(plan, rng, late_ns)
        members.append(member)
        questions += asked
        done += 1
        passed(done / steps)
    apart = {}
    for scheme in SCHEMES:
        errors_us = []
        for member in members:
            errors_us.append(_errors_us(plan, member, scheme))
            done += 1
            passed(done / steps)
        apart[scheme] = _apart(plan, np.array(errors_us))
    return Outcome(apart, questions, sum(len(member.learnt[OURS]) for member in members))


def _learn(plan: Plan, rng: np.random.Generator, late_ns: NDArray[np.int64]) -> tuple[_Member, int]:
    own = draw_oscillator(rng, CRYSTAL_PPM)
    crystal = draw_oscillator(rng, CRYSTAL_PPM)
    card = Card(
        Oscillator(0.0, crystal.ppm, crystal.waves), _READING_NOISE_US, int(rng.integers(2**31))
    )
    links = plan.profile.anywhere(rng).links(rng)
    asking = Asking(own, links, Station(), rng, ClockEstimator(), plan.every_s)
    learnt = {OURS: asking.advance(round(plan.length_s * SECOND))}
    programme = sound(Link(plan.profile.path, rng), SETTLE_S, plan.length_s, late_ns)
    learnt[BY_EAR] = relearn_by_ear(learnt[OURS], own, programme)
    for name, make in PEERS.items():
        learnt[name] = relearn(learnt[OURS], make())
    return _Member(own, card, learnt), asking.questions


def _errors_us(plan: Plan, member: _Member, scheme: str) -> _Floats:
    """How far ahead of the media clock it plays, from the end of the settling time on."""
    heard = play(member.own, member.card, member.learnt[scheme], plan.length_s, SETTLE_S)
    return heard.error_us(np.arange(SETTLE_S, plan.length_s - 1, _LOOK_S))


def _apart(plan: Plan, errors_us: _Floats) -> Apart:
    trimming = round((plan.begins_s - SETTLE_S) / _LOOK_S)
    kept_us, untrimmed_us = errors_us[:, trimming:], None
    if plan.trim:
        # The first of them is what the others are held against.
        trims_us = np.median(errors_us[:, :trimming] - errors_us[0, :trimming], axis=1)
        kept_us, untrimmed_us = kept_us - trims_us[:, np.newaxis], float(np.ptp(trims_us))
    pairs = combinations(range(plan.endpoints), 2)
    return Apart(np.array([kept_us[a] - kept_us[b] for a, b in pairs]), untrimmed_us)
