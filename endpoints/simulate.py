"""A wrong clock and a wrong crystal, for tests, the demo and drills on one machine.

A loudspeaker's process has two oscillators of its own: the system clock and the sound card's.
On one machine all processes share one of each, and agreeing would prove nothing. So a simulated
loudspeaker reads its clock through `SimulatedClock` and is pulled by a `Crystal`; nothing in the
player, the time exchange or the servo knows of either.
"""

import json
import math
import random
from dataclasses import asdict, dataclass

from codec.format import SAMPLE_RATE
from transport.net.clocks import Clock

_PPM = 1e-6
_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}
# What a broken machine may do; beyond it a crystal's phase would have no inverse.
_MOST = {
    "clock_offset_s": 1e9,
    "clock_skew_ppm": 1e3,
    "dac_ppm": 1e3,
    "dac_wander_ppm": 1e2,
    "reading_noise_us": 1e5,
}


class SimulationError(Exception):
    """The text of --simulate is not understood; says what is wrong."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What is wrong with this loudspeaker's world. The default is a perfect one.

    `servo` and `time_exchange` switch off a part of Loa, to show what it is for.
    """

    clock_offset_s: float = 0.0
    clock_skew_ppm: float = 0.0
    dac_ppm: float = 0.0
    dac_wander_ppm: float = 0.0
    reading_noise_us: float = 0.0
    seed: int = 0
    servo: bool = True
    time_exchange: bool = True

    @classmethod
    def parse(cls, text: str) -> "Simulation":
        """From a JSON object; SimulationError for anything else."""
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            raise SimulationError('--simulate wants JSON such as {"dac_ppm": 30}')
        defaults = asdict(cls())
        for name, value in given.items():
            if name not in defaults:
                raise SimulationError(f"--simulate knows {', '.join(defaults)}; not {name}")
            _check(name, value, type(defaults[name]))
        return cls(**given)


def _check(name: str, value: object, kind: type) -> None:
    fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
    # For Python a truth value is a number, and so is NaN.
    if not fits or isinstance(value, bool) != (kind is bool) or value != value:  # noqa: PLR0124
        raise SimulationError(f"--simulate {name}: {value!r} is not {_KINDS[kind]}")
    most = _MOST.get(name)
    if most is not None and isinstance(value, int | float) and abs(value) > most:
        raise SimulationError(f"--simulate {name}: {value!r} is too much; at most {most:g}")


class SimulatedClock:
    """A clock that is off by `offset` and runs fast by `skew`, seen from a true one."""

    def __init__(self, true: Clock, simulation: Simulation) -> None:
        self._true = true
        self._born_ns = true.now_ns()
        self._offset_ns = round(simulation.clock_offset_s * 1e9)
        self._skew = simulation.clock_skew_ppm * _PPM

    def of_true(self, true_ns: int) -> int:
        """What this clock shows at a true moment."""
        return true_ns + self._offset_ns + round((true_ns - self._born_ns) * self._skew)

    def now_ns(self) -> int:
        """What this clock shows."""
        return self.of_true(self._true.now_ns())

    def of_kernel_stamp(self, realtime_ns: int) -> int | None:
        """A kernel stamp, as this clock would have made it."""
        true_ns = self._true.of_kernel_stamp(realtime_ns)
        return None if true_ns is None else self.of_true(true_ns)


class Crystal:
    """A sound card's oscillator: off by a constant and wandering slowly, in true time.

    The wander is two sines of unlike periods, so that phase has a closed form and the microphone
    that records this card can be exact.
    """

    def __init__(self, simulation: Simulation) -> None:
        draw = random.Random(simulation.seed)
        self._rate = simulation.dac_ppm * _PPM
        amplitude = simulation.dac_wander_ppm * _PPM / 2
        self._waves = [
            (amplitude, 2 * math.pi / draw.uniform(low, high), draw.uniform(0, 2 * math.pi))
            for low, high in ((20.0, 40.0), (60.0, 120.0))
        ]

    def samples_at(self, seconds: float) -> float:
        """Samples the card has played after `seconds` of true time."""
        wander = sum(
            amplitude / speed * (math.cos(phase) - math.cos(speed * seconds + phase))
            for amplitude, speed, phase in self._waves
        )
        return SAMPLE_RATE * (seconds * (1.0 + self._rate) + wander)

    def seconds_at(self, samples: float) -> float:
        """True time at which the card has played so many samples."""
        seconds = samples / SAMPLE_RATE
        for _ in range(4):  # a contraction by a factor of 10**3 or more each
            seconds -= (self.samples_at(seconds) - samples) / SAMPLE_RATE
        return seconds
