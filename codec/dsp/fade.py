"""Change-over between sounds: a gain that turns at stated moments, without a click.

The gain is a function of position alone, so every loudspeaker that is told to turn at the same
media sample does so alike, however its sound card cuts time into blocks.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from codec.format import Samples, samples_of_ms

FADE_SAMPLES: Final = samples_of_ms(5)


class _Turn(NamedTuple):
    """From position `at` on the gain goes from `before` to `after`."""

    at: int
    before: float
    after: float


class Fader:
    """Gain 0 to begin with; each turn takes 5 ms, along a raised cosine.

    Two faders that turn against each other at one moment sum to 1 throughout, so a change-over is
    never louder than the louder of the two.
    """

    def __init__(self) -> None:
        self._settled = 0.0
        self._turns: list[_Turn] = []

    @property
    def target(self) -> float:
        """The gain that the newest turn leads to."""
        return self._turns[-1].after if self._turns else self._settled

    def turn(self, target: float, at: int) -> None:
        """From position `at` on go to `target`; turns come in order of their positions."""
        self._turns.append(_Turn(at, float(self.gains(at, np.zeros(1))[0]), target))

    def is_silent(self, begin: int, end: int) -> bool:
        """Whether the gain is 0 in all of [begin, end); nobody asks for what lies before again."""
        while self._turns and self._turns[0].at + FADE_SAMPLES <= begin:
            self._settled = self._turns.pop(0).after
        begun = (turn for turn in self._turns if turn.at < end)
        return self._settled == 0.0 and all(turn.before == turn.after == 0.0 for turn in begun)

    def gains(self, origin: int, offsets: npt.NDArray[np.float64]) -> Samples:
        """The gain at each position `origin + offsets`."""
        gains = np.full(len(offsets), self._settled)
        for turn in self._turns:
            along = offsets - (turn.at - origin)
            ramp = np.sin(np.clip(along / FADE_SAMPLES, 0.0, 1.0) * (np.pi / 2)) ** 2
            gains = np.where(along >= 0, turn.before + (turn.after - turn.before) * ramp, gains)
        return gains.astype(np.float32)
