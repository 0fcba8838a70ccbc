"""What the simulation makes of a bad network that real processes have met: intervals of figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.network import MS, SECOND, Impairments, Profile, profile
from bench.sync_asking import Asking, Station
from bench.sync_clocks import Oscillator, draw_oscillator
from bench.sync_pairs import CRYSTAL_PPM
from bench.sync_playing import Card, play
from bench.trace import Trace
from transport.clock.estimator import ClockEstimator

# Of so many loudspeakers each two are a pair.
NEIGHBOURS = 4
READING_NOISE_US = 30.0
# What two play is compared over stretches of so long.
WINDOW_S = 2.0
_LOOKS_A_WINDOW = 20
# Nothing sounds before, and until then a playhead may jump.
_SOUNDS_BEFORE_S = 6.0
_Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """Where 95 % of so many simulated runs lie, and all of them."""

    low: float
    middle: float
    high: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Interval":
        """Of one figure a run."""
        low, middle, high = np.percentile(figures, (2.5, 50.0, 97.5))
        return cls(float(low), float(middle), float(high), min(figures), max(figures))

    def holds(self, figure: float) -> bool:
        """Whether a figure is inside the 95 %."""
        return self.low <= figure <= self.high


def losses(name: str, packets: int, runs: int) -> list[float]:
    """The share that each of so many simulated paths loses of so many packets, every 20 ms."""
    rates = []
    for seed in range(runs):
        down, _ = profile(name).links(np.random.default_rng(seed))
        for index in range(packets):
            down.send(b"", index * 20 * MS)
        rates.append(down.lost / packets)
    return rates


@dataclass(frozen=True, slots=True)
class Met:
    """What one loudspeaker's exchanges for the time met: answers `down`, questions `up`.

    It asked for the first time at `began_s`, in the time of the `Watch`.
    """

    down: Trace
    up: Trace
    began_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Watch:
    """When neighbours are compared: for so many seconds, after so many to settle.

    They ask every `every_s` once they know it.
    """

    settle_s: float
    seconds: float
    every_s: float

    @property
    def windows(self) -> int:
        """How many stretches there are to compare."""
        return int(self.seconds / WINDOW_S)


def rms_us(apart_us: _Floats) -> float:
    """The root mean square of distances, which are (pairs, windows)."""
    return float(np.sqrt(np.mean(np.square(apart_us))))


def steps(
    met: Sequence[Met],
    watch: Watch,
    runs: int,
    *,
    in_order: bool = False,
    passed: Callable[[float], None] = lambda _: None,
) -> list[float]:
    """How far apart, as `rms_us`, neighbours are who meet these delays.

    Clocks, sound cards and how long the station holds a question are drawn anew for each run, and
    where in its traces each begins; but not that if `in_order`, so that they meet the very same
    delays one after the other.
    """
    figures = []
    for seed in range(runs):
        street = np.random.default_rng(seed)
        errors_us = np.array(
            [
                _error_us(one, watch, rng, in_order=in_order)
                for one, rng in zip(met, street.spawn(len(met)), strict=True)
            ]
        )
        pairs = [errors_us[a] - errors_us[b] for a, b in combinations(range(len(met)), 2)]
        figures.append(rms_us(np.array(pairs)))
        passed((seed + 1) / runs)
    return figures


def _error_us(met: Met, watch: Watch, rng: np.random.Generator, *, in_order: bool) -> _Floats:
    """How far ahead of the media clock one plays, in each window."""
    own, crystal = (draw_oscillator(rng, CRYSTAL_PPM) for _ in range(2))
    card = Card(
        Oscillator(0.0, crystal.ppm, crystal.waves), READING_NOISE_US, int(rng.integers(2**31))
    )
    path = Profile(Impairments(trace=met.down), uplink=Impairments(trace=met.up))
    path = path if in_order else path.anywhere(rng)
    asking = Asking(own, path.links(rng), Station(), rng, ClockEstimator(), watch.every_s)
    settle_s = watch.settle_s - met.began_s
    length_s = settle_s + watch.seconds + 1
    learnt = asking.advance(round(length_s * SECOND))
    heard = play(own, card, learnt, length_s, settle_s - _SOUNDS_BEFORE_S)
    looks = np.arange(watch.windows * _LOOKS_A_WINDOW, dtype=np.float64)
    errors_us = heard.error_us(settle_s + looks * (WINDOW_S / _LOOKS_A_WINDOW))
    windows: _Floats = errors_us.reshape(watch.windows, -1).mean(axis=1)
    return windows
