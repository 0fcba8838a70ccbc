"""A live source to the media clock: its sound is resampled as it comes in.

A microphone, a radio station, another machine's RTP: each has a crystal of its own, 100 ppm from
ours and more. Blocks are pushed as they arrive and pulled as the media clock advances. What lies
between has a target length, and a slow servo reads a little faster or slower to keep it.

What the servo looks at is the margin: how much was left unread when the next block arrived, at
worst, over a window. Arrivals in bursts leave it alone, and it is measured between the blocks of
either side, so that their beat (a block's length every hundred seconds at 100 ppm) is not seen.
"""

import math
from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt

from codec.dsp.resample import HALF_TAPS, interpolate
from codec.format import SAMPLE_RATE, Samples, samples_of_ms
from transport.jitter.playout import DriftServo

# Enough for a crystal of 300 ppm, with something left to mend a fill; under a hundredth of a
# semitone.
_MAX_SLEW: Final = 500e-6
# Radians a second: quick at first, so that an unknown crystal of 300 ppm does not empty a
# microphone's 20 ms; then slow, so that 1 ms of jitter on the margin moves the pitch by 10 ppm.
# Where more is kept, because jitter and bursts are larger, slower by the root of it.
_BANDWIDTH_FIRST: Final = 0.02
_BANDWIDTH_LAST: Final = 0.005
_BANDWIDTH_TARGET_MS: Final = 20.0
_SETTLING_SAMPLES: Final = 100 * SAMPLE_RATE
# The least margin jumps when an arrival was later than others; the pitch shall not.
_SMOOTHING_SAMPLES: Final = 10 * SAMPLE_RATE
# Over how long the least margin is looked for: some bursts of the source, which are the longer
# the more of it is kept.
_WINDOW_TARGETS: Final = 10
_WINDOW_MS: Final = 2_000.0
_DROP_AT_MS: Final = 1_000.0
# A source that had to wait for us is no clock, for so long; and before a source that could wait
# has been heard for so long, nobody knows what it is.
_HELD_BACK_SAMPLES: Final = 10 * SAMPLE_RATE
_UNDECIDED_SAMPLES: Final = 2 * SAMPLE_RATE
# What arrives within a millisecond arrives together.
_SAME_BURST_SAMPLES: Final = samples_of_ms(1)
# Where the sound begins, stops or jumps, it is faded.
_FADE_SAMPLES: Final = samples_of_ms(5)
# What the resampler must see behind the last sample it gives.
_BEHIND: Final = HALF_TAPS + 1


class LiveBuffer:
    """Between a source's clock and the media clock, both given in media samples by the caller.

    `target_ms` is kept unread when a block arrives. More than `bound_ms` (the target and a second
    unless given) is too much: what is above the target is then dropped, and counted. With
    `patient` nothing is dropped: the caller does not push while the buffer is `full`, so the
    source has to wait. A source that has to wait is not live, and is read exactly as it is; one
    that never has to is, and is followed. Thus nobody need say what a pipe is.

    Not for two threads at once. ValueError for targets, bounds or channels that cannot be.
    """

    def __init__(
        self,
        target_ms: float = 20.0,
        bound_ms: float | None = None,
        *,
        channels: int = 1,
        patient: bool = False,
    ) -> None:
        self._target = samples_of_ms(target_ms)
        self._bound = self._target + samples_of_ms(_DROP_AT_MS)
        if bound_ms is not None:
            self._bound = samples_of_ms(bound_ms)
        if self._target < _BEHIND or self._bound <= self._target or channels not in {1, 2}:
            msg = (
                "target_ms of at least 1, bound_ms above it, 1 or 2 channels, "
                f"not {target_ms}, {bound_ms}, {channels}"
            )
            raise ValueError(msg)
        self.holes = 0
        self.dropped_samples = 0
        self._patient = patient
        self._tape = _Tape(channels)
        self._margins = _Least(samples_of_ms(max(_WINDOW_MS, _WINDOW_TARGETS * target_ms)))
        self._slowness = math.sqrt(min(1.0, _BANDWIDTH_TARGET_MS / target_ms))
        self._servo = DriftServo(_BANDWIDTH_FIRST * self._slowness, _MAX_SLEW)
        self._ratio = 1.0
        self._running = self._finished = False
        self._pulled = 0  # samples given while running
        self._followed = 0  # of these, with a servo that was not at its limit
        self._level = float(self._target)  # the least margin, smoothed
        self._follow_from = _UNDECIDED_SAMPLES if patient else 0
        # The last pull: at which media sample, and how long.
        self._pull_at = self._pull_samples = 0
        self._gathering = _Gathering()
        # What is faded out under the next samples; silence where sound begins.
        self._seam = self._silence(0)

    @property
    def fill_samples(self) -> int:
        """What is held unread."""
        return self._tape.ahead

    @property
    def full(self) -> bool:
        """A patient buffer shall be given nothing now."""
        return self._patient and self._tape.ahead >= self._bound

    @property
    def drained(self) -> bool:
        """All has been pulled that ever was pushed; only after `finish`."""
        return self._finished and self._tape.ahead <= _BEHIND

    @property
    def rate_ppm(self) -> float:
        """How much faster than the media clock the source is read."""
        return (self._ratio - 1.0) * 1e6

    def push(self, block: Samples, now: int) -> None:
        """Take what has arrived, (n,) or (n, 2) as `channels` says; `now` is the media sample."""
        if self._running:
            passed = (now - self._pull_at) * self._ratio
            self._margins.add(now, self._tape.ahead - passed)
        else:
            self._gathering.add(now, self._tape.ahead)
        self._tape.append(block)
        if self._tape.ahead < self._bound:
            return
        if self._patient:
            self._follow_from = self._pulled + _HELD_BACK_SAMPLES
        else:
            self._drop(self._tape.ahead)

    def finish(self) -> None:
        """Nothing more will come: what is held is still to be pulled."""
        self._finished = True
        self._tape.append(self._silence(_BEHIND))

    def skip(self, samples: int) -> None:
        """The media clock has gone on without us: so shall a live source, as far as it is late."""
        if self._pulled >= self._follow_from:
            self._drop(samples)

    def pull(self, samples: int, now: int) -> Samples:
        """The next `samples` for the media clock, of which the last is media sample `now`.

        Always so many: silence until the target has been reached, and again after a hole.
        """
        if not self._running and not self._begin(samples, now):
            return self._silence(samples)
        self._pull_at, self._pull_samples = now, samples
        self._ratio = 1.0 + self._slew(samples)
        heard = self._tape.read(samples, self._ratio)
        self._pulled += samples
        missing = samples - len(heard)
        if missing:
            heard = np.concatenate([_faded_out(heard), self._silence(missing)])
            self._running = False
            self._gathering = _Gathering()
            self.holes += not self._finished
        return self._joined(heard)

    def _begin(self, samples: int, now: int) -> bool:
        margin = self._gathering.margin(now) - samples
        readable = self._tape.ahead - samples >= _BEHIND
        self._running = (margin >= self._target and readable) or self.full or self._finished
        if not self._running:
            return False
        if not (self._patient or self._finished):
            # Nobody hears the beginning that is lost, but everybody the delay it would cost.
            self._tape.advance(round(min(margin - self._target, self._tape.ahead - _BEHIND)))
        self._seam = self._silence(_FADE_SAMPLES)
        self._margins.clear()
        return True

    def _slew(self, samples: int) -> float:
        least = self._margins.least
        if self._finished or self._pulled < self._follow_from:
            return 0.0
        if least is None:
            return self._ratio - 1.0
        slowing = _SETTLING_SAMPLES / (_SETTLING_SAMPLES + self._followed)
        bandwidth = max(_BANDWIDTH_LAST, _BANDWIDTH_FIRST * slowing)
        self._servo.bandwidth = bandwidth * self._slowness
        self._level += (least - self._level) * min(1.0, samples / _SMOOTHING_SAMPLES)
        slew = self._servo.update(self._level - self._target, samples)
        # At the limit nothing is learnt about the crystal.
        self._followed += samples * (abs(slew) < _MAX_SLEW)
        return slew

    def _drop(self, at_most: int) -> None:
        surplus = min(at_most, self._tape.ahead - self._target - self._pull_samples)
        if surplus <= 0:
            return
        if self._running and not len(self._seam):
            self._seam = self._tape.peek(_FADE_SAMPLES, self._ratio)
        self._tape.advance(surplus)
        self._gathering = _Gathering()
        self._margins.clear()
        self._level = float(self._target)
        self.dropped_samples += surplus

    def _joined(self, heard: Samples) -> Samples:
        count = min(len(self._seam), len(heard))
        if count:
            left = len(self._seam)
            weights = np.linspace(left, left - count, count, endpoint=False) / _FADE_SAMPLES
            old = _weighted(self._seam[:count] - heard[:count], weights)
            heard = np.concatenate([heard[:count] + old, heard[count:]])
            self._seam = self._seam[count:]
        return heard

    def _silence(self, samples: int) -> Samples:
        return self._tape.silence(samples)


def _weighted(sound: Samples, weights: npt.NDArray[np.float64]) -> Samples:
    along = weights.astype(np.float32)
    weighted: Samples = sound * (along if sound.ndim == 1 else along[:, np.newaxis])
    return weighted


def _faded_out(sound: Samples) -> Samples:
    """The same, its end (all of it, if it is short) falling to nought."""
    count = min(len(sound), _FADE_SAMPLES)
    weights = np.ones(len(sound))
    weights[len(sound) - count :] = np.linspace(1, 0, count)
    return _weighted(sound, weights)


class _Gathering:
    """What the margin would be if reading began now, from how sound has come in so far.

    At what is pushed first the margin is nought, and it grows as time goes by: so much of a live
    source lies unread before each arrival, be its blocks of 10 ms or of 125. Fill alone would
    tell the two apart only when the first had run dry.
    """

    def __init__(self) -> None:
        self._since: int | None = None
        self._before = 0
        self._last = 0
        self._least: int | None = None

    def add(self, now: int, ahead: int) -> None:
        """Something arrives, and `ahead` lies there already."""
        if self._since is None:
            self._since, self._before = now, ahead
        elif now - self._last >= _SAME_BURST_SAMPLES:
            # More than time has passed if the source began with a backlog; less if it stalled.
            extra = (ahead - self._before) - (now - self._since)
            self._least = extra if self._least is None else min(self._least, extra)
        self._last = now

    def margin(self, now: int) -> float:
        """In samples; less than any target while nothing has come."""
        if self._since is None:
            return -math.inf
        return now - self._since + (self._least or 0)


class _Least:
    """The least of the values of the last `window` samples of time."""

    def __init__(self, window: int) -> None:
        self._window = window
        # Rising values: those that a later and lower one has made irrelevant are gone.
        self._values: deque[tuple[int, float]] = deque()

    def add(self, now: int, value: float) -> None:
        """`now` does not go back by more than it matters."""
        while self._values and self._values[-1][1] >= value:
            self._values.pop()
        self._values.append((now, value))
        while self._values[0][0] < now - self._window:
            self._values.popleft()

    def clear(self) -> None:
        """Nothing is known any more."""
        self._values.clear()

    @property
    def least(self) -> float | None:
        """None if nothing is known."""
        return self._values[0][1] if self._values else None


class _Tape:
    """Samples from a little before the reading position on, read between samples."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._sound = np.zeros((channels, SAMPLE_RATE), np.float32)
        # Before the first sample there was silence, which the resampler looks at.
        self._at = self._end = HALF_TAPS
        self._fraction = 0.0

    @property
    def ahead(self) -> int:
        """Samples not yet read."""
        return self._end - self._at

    def silence(self, samples: int) -> Samples:
        """So many samples of nothing, in the shape of a block."""
        return np.zeros(samples if self._channels == 1 else (samples, 2), np.float32)

    def append(self, block: Samples) -> None:
        """Blocks of any length; ValueError if the channels are others."""
        if block.shape != self.silence(len(block)).shape:
            msg = f"a block of {self._channels} channels was expected, not {block.shape}"
            raise ValueError(msg)
        if self._end + len(block) > self._sound.shape[1]:
            self._make_room(len(block))
        self._sound[:, self._end : self._end + len(block)] = block.T
        self._end += len(block)

    def _make_room(self, samples: int) -> None:
        begin = self._at - HALF_TAPS
        kept = self._sound[:, begin : self._end]
        # Twice what is needed, so that each sample is moved about once.
        self._sound = np.zeros((self._channels, 2 * (kept.shape[1] + samples)), np.float32)
        self._sound[:, : kept.shape[1]] = kept
        self._at, self._end = HALF_TAPS, kept.shape[1]

    def read(self, samples: int, ratio: float) -> Samples:
        """The next `samples`, or as many as there are, `ratio` apart."""
        heard = self.peek(samples, ratio)
        self._fraction += len(heard) * ratio
        whole = int(self._fraction)
        self._fraction -= whole
        self.advance(whole)
        return heard

    def advance(self, samples: int) -> None:
        """Leave out so many."""
        self._at += samples

    def peek(self, samples: int, ratio: float) -> Samples:
        """What `read` would give, without moving."""
        readable = max(0, self.ahead - _BEHIND)
        count = min(samples, int(np.ceil((readable - self._fraction) / ratio)))
        if count <= 0:
            return self.silence(0)
        if ratio == 1.0 and self._fraction == 0.0:
            heard = self._sound[:, self._at : self._at + count].copy()
        else:
            begin = self._at - HALF_TAPS
            offsets = HALF_TAPS + self._fraction + ratio * np.arange(count, dtype=np.float64)
            history = self._sound[:, begin : self._end]
            heard = np.stack([interpolate(channel, offsets) for channel in history])
        return heard[0] if self._channels == 1 else np.ascontiguousarray(heard.T)
