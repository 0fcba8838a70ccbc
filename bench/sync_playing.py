"""Which media position sounds at a loudspeaker, at any true time: the real playhead and servo.

The sound card pulls blocks by its own crystal and says, with the noise of such readings, when each
will sound. What is measured is where the playhead was, not the sound: sound is read there exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.network import MS, SECOND
from bench.sync_asking import Learnt
from bench.sync_clocks import MEDIA_EPOCH_NS, Oscillator, OwnTime
from codec.format import SAMPLE_RATE
from transport.clock.timeline import samples_of_ns
from transport.jitter.playout import DriftServo, Playhead

_BLOCK = SAMPLE_RATE // 50
# So long before it sounds, the card pulls a block.
_AHEAD_NS = 30 * MS
_MEDIA_EPOCH = samples_of_ns(MEDIA_EPOCH_NS)
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Card:
    """A sound card: its crystal, and how well it says when a sample will sound."""

    crystal: Oscillator
    reading_noise_us: float
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """The blocks that a card has played: arrays of one entry for each, in order.

    `positions` are media samples after the epoch; NaN before the time was known.
    """

    card: Card
    positions: _Floats
    ratios: _Floats
    reanchored: int

    def error_us(self, true_s: _Floats) -> _Floats:
        """How far ahead of the media clock it plays at these true times, all within the blocks."""
        played = self.card.crystal.samples_at(true_s)
        blocks = (played // _BLOCK).astype(np.int64)
        into = played - blocks * _BLOCK
        positions = self.positions[blocks] + into * self.ratios[blocks]
        error_us: _Floats = (positions / SAMPLE_RATE - true_s) * 1e6
        return error_us


def play(
    own: OwnTime,
    card: Card,
    learnt: Sequence[Learnt],
    length_s: float,
    sounds_from_s: float,
) -> Heard:
    """Play for so long by what is learnt; nothing sounds until `sounds_from_s`.

    Where nothing sounds, the playhead may jump.
    """
    blocks = int(length_s * SAMPLE_RATE / _BLOCK)
    sounds_s = card.crystal.seconds_at(np.arange(blocks, dtype=np.float64) * _BLOCK)
    sounds_ns = np.rint(sounds_s * SECOND).astype(np.int64).tolist()
    rng = np.random.default_rng(card.seed)
    noise_ns = np.rint(rng.normal(0.0, card.reading_noise_us * 1e3, blocks)).astype(int).tolist()
    positions, ratios = np.full(blocks, np.nan), np.ones(blocks)
    playhead, told, estimate, reanchored = Playhead(DriftServo()), 0, None, 0
    for block, at_ns in enumerate(sounds_ns):
        while told < len(learnt) and learnt[told].true_ns <= at_ns - _AHEAD_NS:
            estimate = learnt[told].estimate
            if learnt[told].forgot:
                playhead.forget()
            told += 1
        if estimate is not None:
            media_ns = estimate.theirs(own.of_true(at_ns) + noise_ns[block])
            pause = at_ns < sounds_from_s * SECOND
            segment = playhead.advance(_BLOCK, media_ns, pause=pause)
            positions[block] = segment.start - _MEDIA_EPOCH + segment.fraction
            ratios[block] = segment.ratio
            reanchored += segment.reanchored
    return Heard(card, positions, ratios, reanchored)
