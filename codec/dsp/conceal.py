"""Where sound is missing: what is invented fades out, and what returns fades in, without a step.

A decoder goes on plausibly for some 60 ms; after that its vowel has become a machine's drone. One
gain moves along both what is invented and what was sent, so there is no corner between them: 1
for 60 ms, down to silence at 120 ms, and from wherever it is back to 1 within 5 ms of sound.
"""

from typing import Final, NamedTuple

import numpy as np

from codec.dsp.fade import FADE_SAMPLES
from codec.dsp.meter import amplitude_of
from codec.format import Samples, samples_of_ms


class _Turn(NamedTuple):
    """Towards gain `after`, from sample `begins` of the turn on; there at sample `ends`."""

    after: float
    begins: int
    ends: int


HOLD_SAMPLES: Final = samples_of_ms(60)
SILENT_SAMPLES: Final = samples_of_ms(120)
_RETURN: Final = _Turn(1.0, 0, FADE_SAMPLES)
_VOICE: Final = _Turn(0.0, HOLD_SAMPLES, SILENT_SAMPLES)
# A gap that begins in what is quieter than this is a pause of discontinuous transmission, as far
# as anybody can tell. The decoder fills it with the room's own noise, and were that to fade away
# between the frames that come every 400 ms, the pause would throb.
_PAUSE_RMS: Final = amplitude_of(-40.0)
_PAUSE: Final = _Turn(0.0, samples_of_ms(440), samples_of_ms(500))


class Mender:
    """The gain of one stream's blocks, mono, in the order in which they are heard.

    Blocks that need none are passed on as they are, to the bit.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """What comes next follows nothing: it is not faded."""
        self._turn, self._at = _RETURN, FADE_SAMPLES
        self._before = 1.0
        self._last = np.zeros(0, np.float32)

    def sent(self, block: Samples) -> Samples:
        """A block that was decoded from what the sender said."""
        if self._turn is not _RETURN:
            self._begin_turn(_RETURN)
        self._last = block
        return self._faded(block)

    def invented(self, block: Samples) -> Samples:
        """A block that nobody sent."""
        if self._turn is _RETURN:
            self._begin_turn(_PAUSE if _is_quiet(self._last) else _VOICE)
        return self._faded(block)

    def _begin_turn(self, turn: _Turn) -> None:
        """The gain goes on from where it is."""
        self._before = float(self._gains(self._at, 1)[0])
        self._turn, self._at = turn, 0

    def _faded(self, block: Samples) -> Samples:
        begin, self._at = self._at, self._at + len(block)
        settled = begin >= self._turn.ends and self._turn.after == 1.0
        if settled or (self._before == 1.0 and (self._at <= self._turn.begins or self._turn.after)):
            return block
        faded: Samples = block * self._gains(begin, len(block))
        return faded

    def _gains(self, begin: int, count: int) -> Samples:
        """Along a raised cosine, as in `codec.dsp.fade`."""
        turn = self._turn
        along = (begin - turn.begins + np.arange(count)) / (turn.ends - turn.begins)
        ramp = np.sin(np.clip(along, 0.0, 1.0) * (np.pi / 2)) ** 2
        gains: Samples = (self._before + (turn.after - self._before) * ramp).astype(np.float32)
        return gains


def _is_quiet(block: Samples) -> bool:
    """Whether no voice is in it; of nothing at all that cannot be said."""
    return len(block) > 0 and float(np.mean(block * block)) < _PAUSE_RMS**2
