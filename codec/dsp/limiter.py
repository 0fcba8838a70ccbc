"""Louder without clipping: a gain, and a peak limiter that sees what is coming.

The gain needed by each sample is known a look-ahead early. Its minimum over the look-ahead,
released slowly and then averaged over the same span, has come all the way down when the peak
arrives: a mean of values none of which is above what the peak allows. So no sample passes the
ceiling, and the gain moves without a corner that could be heard as a click.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from codec.dsp.meter import amplitude_of
from codec.format import SAMPLE_RATE, Samples, samples_of_ms

_Gains = npt.NDArray[np.float64]

# How fast the gain comes back, as a time constant in decibels: fast enough that the next
# sentence is as loud again, slow enough that a bass note is not bent within its own cycle.
_RELEASE_S: Final = 0.15
_DECAY: Final = math.exp(-1 / (_RELEASE_S * SAMPLE_RATE))
# A reduction below this (nepers: 0.001 dB) is none, so that transparency returns exactly.
_NOTHING: Final = 1e-4
# Input is clipped here, 20 dB above full scale: one wild sample of a broken source must not
# hold the gain down for seconds.
_WILD: Final = 10.0
# Powers of the decay stay far from overflow in pieces of this length.
_PIECE_SAMPLES: Final = SAMPLE_RATE


class Limiter:
    """A gain of `gain_db`, with peaks kept at or below `ceiling_dbfs`; delays by the look-ahead.

    Blocks are (n,) or (n, 2), of any length, float32; stereo is turned down together, so that
    nothing moves in the room. Where the gained sound stays below the ceiling it is passed on
    exactly. What comes out is finite whatever comes in. ValueError for a ceiling above 0 dBFS, a
    gain that is not finite, and blocks that change their number of channels.
    """

    def __init__(
        self, gain_db: float = 0.0, ceiling_dbfs: float = -1.0, lookahead_ms: float = 5
    ) -> None:
        if not (math.isfinite(gain_db) and math.isfinite(ceiling_dbfs) and ceiling_dbfs <= 0):
            msg = f"gain_db finite and ceiling_dbfs <= 0, not {gain_db}, {ceiling_dbfs}"
            raise ValueError(msg)
        self.delay_samples: Final = samples_of_ms(lookahead_ms)
        self._gain = np.float32(amplitude_of(gain_db))
        # Rounded towards nought: the float32 next to the ceiling may lie above it.
        ceiling = amplitude_of(ceiling_dbfs)
        nearest = np.float32(ceiling)
        above = float(nearest) > ceiling
        self._ceiling = np.nextafter(nearest, np.float32(0)) if above else nearest
        self._begin_anew()

    def _begin_anew(self) -> None:
        # Before the first sample there was silence, which needs nothing.
        self._held: Samples | None = None
        self._needed = np.ones(self.delay_samples)
        self._released = np.ones(self.delay_samples)
        self._reduction = 0.0

    def process(self, block: Samples) -> Samples:
        """The next `len(block)` samples of the output: the input `delay_samples` ago."""
        if len(block) > _PIECE_SAMPLES:
            cuts = range(_PIECE_SAMPLES, len(block), _PIECE_SAMPLES)
            return np.concatenate([self._process(piece) for piece in np.split(block, cuts)])
        return self._process(block)

    def flush(self) -> Samples:
        """The last `delay_samples`; the limiter then begins anew."""
        silence = np.zeros(0, np.float32) if self._held is None else np.zeros_like(self._held)
        tail = self._process(silence)
        self._begin_anew()
        return tail

    def _process(self, block: Samples) -> Samples:
        wild = np.nan_to_num(block, nan=0.0, posinf=_WILD, neginf=-_WILD)
        loud = np.clip(wild, -_WILD, _WILD) * self._gain
        if self._held is None:
            self._held = np.zeros((self.delay_samples, *block.shape[1:]), np.float32)
        if self._held.shape[1:] != block.shape[1:]:
            msg = f"blocks of shape (n, *{self._held.shape[1:]}) were begun, not {block.shape}"
            raise ValueError(msg)
        delayed = np.concatenate([self._held, loud])
        self._held = delayed[len(block) :].copy()
        return self._turn_down(delayed[: len(block)], self._gains(loud))

    def _turn_down(self, sound: Samples, gains: _Gains | None) -> Samples:
        if gains is None:
            return sound
        shaped = gains.astype(np.float32)
        turned = sound * (shaped if sound.ndim == 1 else shaped[:, np.newaxis])
        # Above the ceiling by rounding only.
        limited: Samples = np.clip(turned, -self._ceiling, self._ceiling)
        return limited

    def _gains(self, loud: Samples) -> _Gains | None:
        """The gain of each sample that leaves now; None for 1 throughout."""
        peaks = np.abs(loud) if loud.ndim == 1 else np.abs(loud).max(axis=1)
        resting = self._reduction == 0.0 and bool(np.all(self._released == 1.0))
        if resting and bool(np.all(self._needed == 1.0)) and not np.any(peaks > self._ceiling):
            return None
        span = self.delay_samples
        # float64, or a needed gain would be rounded up.
        fresh = float(self._ceiling) / np.maximum(peaks, self._ceiling, dtype=np.float64)
        needed = np.concatenate([self._needed, fresh])
        self._needed = needed[len(fresh) :].copy()
        released = np.concatenate([self._released, self._release(_windowed_minimum(needed, span))])
        self._released = released[len(fresh) :].copy()
        sums = np.concatenate([[0.0], np.cumsum(released)])
        gains: _Gains = (sums[span + 1 :] - sums[: -span - 1]) / (span + 1)
        return gains

    def _release(self, gains: _Gains) -> _Gains:
        """The same gains where they fall; where they rise, they rise slowly."""
        if len(gains) == 0:
            return gains
        # The recursion e[n] = max(d[n], decay * e[n-1]) is a running maximum of d[n] / decay**n.
        powers = _DECAY ** np.arange(1, len(gains) + 1)
        scaled = np.maximum(-np.log(gains) / powers, self._reduction)
        reductions = np.maximum.accumulate(scaled) * powers
        reductions[reductions < _NOTHING] = 0.0
        self._reduction = float(reductions[-1])
        # The round trip through the logarithm may end a hair above where it began.
        slow: _Gains = np.minimum(np.exp(-reductions), gains)
        return slow


def _windowed_minimum(values: _Gains, span: int) -> _Gains:
    """The minimum of each value and the `span` after it, by doubling windows."""
    width, count = 1, len(values) - span
    while width * 2 <= span + 1:
        values = np.minimum(values[:-width], values[width:])
        width *= 2
    rest = span + 1 - width
    return np.minimum(values[:count], values[rest : rest + count])
