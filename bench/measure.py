"""What a microphone recording with true time says: offsets, delays, levels.

Two recordings are compared where they overlap in absolute time. Sub-sample figures come from the
cross spectrum, which is the band-limited interpolation of the correlation: no parabola, no bias.
"""

import json
import math
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Signal = NDArray[np.float64]

NS_PER_SECOND = 1_000_000_000
SILENCE_DBFS = -90.0
MARKER_CORRELATION = 0.5

# A rival this near to the best peak could win by noise alone.
_RIVAL = 0.95
# What is this near to the best without a dip between is the same peak.
_LOBE = 0.9
# Where a sound is softer than this, nobody can tell when it stops.
_AUDIBLE_DBFS = -50.0
# The share of a recording's energy that two sounds may leave unexplained.
_UNEXPLAINED = 0.1
# A moment is as good as the best if it costs no more than so long of the sounds' difference there;
# along a ramp of 5 ms that is 0.1 ms to either side.
_DOUBT_S = 3e-6
_INAUDIBLE = 1e-7
# Peaks at the very ends of a search need a shoulder on the far side.
_SHOULDER = 4
# From an eighth of a sample away, each step doubles the number of right digits.
_NEWTON_STEPS = 5


class MeasureError(ValueError):
    """The recordings cannot answer what was asked of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Samples from an absolute time on; `start_ns` lies `remainder` samples (0..1) after [0]."""

    samples: Samples
    remainder: float


@dataclass(frozen=True, slots=True)
class Offset:
    """How much later one recording sounds, and the normalised correlation there (at most 1)."""

    seconds: float
    correlation: float


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Mono float32 samples in -1..1 at `rate`, the first of them taken at an absolute time."""

    samples: Samples
    rate: int
    first_sample_time_ns: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 1 or self.samples.dtype != np.float32:
            raise MeasureError("a recording is one channel of float32")
        if self.rate <= 0:
            raise MeasureError(f"a sample rate of {self.rate}")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a 16-bit mono WAV and the JSON beside it (the WAV's name with .json added).

        MeasureError if either is missing, malformed, or they disagree.
        """
        try:
            with wave.open(str(path), "rb") as wav:
                shape, rate = (wav.getnchannels(), wav.getsampwidth()), wav.getframerate()
                pcm = wav.readframes(wav.getnframes())
            sidecar = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
            first_ns, sidecar_rate = sidecar["first_sample_time_ns"], sidecar["sample_rate"]
        except (OSError, EOFError, wave.Error, ValueError, KeyError, TypeError) as error:
            raise MeasureError(f"{path}: {error!r}") from error
        if shape != (1, 2) or sidecar_rate != rate or not isinstance(first_ns, int):
            raise MeasureError(f"{path}: not 16-bit mono, or its .json says another rate")
        whole = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2")
        return cls(whole.astype(np.float32) / np.float32(32768), rate, first_ns)

    def index_at(self, time_ns: int) -> tuple[int, float]:
        """Return the sample at or before an absolute time, and how far after it in samples."""
        index, rest = divmod((time_ns - self.first_sample_time_ns) * self.rate, NS_PER_SECOND)
        return index, rest / NS_PER_SECOND

    def window(self, start_ns: int, length_ns: int) -> Window:
        """Cut out an absolute stretch of time; MeasureError if it is not wholly recorded."""
        start, remainder = self.index_at(start_ns)
        count = round(length_ns * self.rate / NS_PER_SECOND)
        if count <= 0 or start < 0 or start + count > len(self.samples):
            raise MeasureError(f"{start_ns} ns + {length_ns} ns is not in the recording")
        return Window(self.samples[start : start + count], remainder)


def offset_seconds(
    a: Recording, b: Recording, start_ns: int, length_ns: int, search_s: float = 0.05
) -> Offset:
    """By how much b sounds later than a does within the window, in absolute time.

    MeasureError if the rates differ, a has no sound there, or within `search_s` either way no
    peak stands out: a steady tone, for one, cannot be placed.
    """
    if a.rate != b.rate:
        raise MeasureError(f"{a.rate} Hz against {b.rate} Hz")
    template = _centred(a.window(start_ns, length_ns).samples)
    from_a, from_b = a.index_at(start_ns)[0], b.index_at(start_ns)[0]
    reach = max(1, round(search_s * a.rate))
    sound = _padded(b.samples, from_b - reach, len(template) + 2 * reach)
    curve = _sliding_correlation(template, sound)
    best = _only_peak(curve)
    lag, correlation = _refine(template, sound[best : best + len(template)])
    # Each index counts from its own first sample, so the first samples' times come in again.
    apart_ns = b.first_sample_time_ns - a.first_sample_time_ns
    samples = from_b - reach + best - from_a + lag
    return Offset(apart_ns / NS_PER_SECOND + samples / a.rate, correlation)


def spread_ms(recordings: Sequence[Recording], windows: Sequence[tuple[int, int]]) -> float:
    """Return the largest offset between any two, in any window of (start_ns, length_ns)."""
    if len(recordings) < 2 or not windows:
        raise MeasureError("a spread needs two recordings and a window")
    first, *others = recordings
    worst = 0.0
    for start_ns, length_ns in windows:
        offsets = [offset_seconds(first, other, start_ns, length_ns).seconds for other in others]
        worst = max(worst, max(0.0, *offsets) - min(0.0, *offsets))
    return worst * 1e3


def find_markers(
    recording: Recording, marker: Samples, start_times_ns: Sequence[int], search_ns: int
) -> list[float | None]:
    """How long after each emission the marker is heard, in ms; None where it is not.

    `marker` has the recording's rate. It counts as heard from a normalised correlation of 0.5;
    the search goes from the emission to `search_ns` later, so emissions lie further apart.
    """
    template = _centred(marker)
    reach = round(search_ns * recording.rate / NS_PER_SECOND) + 2 * _SHOULDER
    delays: list[float | None] = []
    for start_ns in start_times_ns:
        start, remainder = recording.index_at(start_ns)
        sound = _padded(recording.samples, start - _SHOULDER, len(template) + reach)
        curve = _sliding_correlation(template, sound)
        best = int(np.argmax(curve))
        # Decided without the taper, which leaves so little of a chirp that speech resembles it.
        if curve[best] < MARKER_CORRELATION:
            delays.append(None)
            continue
        lag, _ = _refine(template, sound[best : best + len(template)])
        delays.append((best - _SHOULDER + lag - remainder) * 1e3 / recording.rate)
    return delays


def level_dbfs(samples: Samples) -> float:
    """RMS level; 0 dBFS is a full-scale square wave, so a full-scale sine has -3.01."""
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    return 10 * math.log10(power) if power else -math.inf


def is_silent(recording: Recording) -> bool:
    """Tell whether no sample reaches -90 dBFS, which the last bit of 16 does not."""
    peak = float(np.max(np.abs(recording.samples), initial=0.0))
    return peak < 10 ** (SILENCE_DBFS / 20)


def _centred(samples: Samples) -> Signal:
    signal = samples.astype(np.float64)
    signal -= signal.mean()
    return signal


def _padded(samples: Samples, start: int, count: int) -> Signal:
    """`count` samples from an index that may lie outside; silence is where nothing is."""
    signal = np.zeros(count)
    inside = samples[max(0, start) : max(0, start + count)]
    at = max(0, -start)
    signal[at : at + len(inside)] = inside
    return signal


def _sliding_correlation(template: Signal, sound: Signal) -> Signal:
    """Normalised correlation (-1..1) of the template with each stretch of sound of its length."""
    size = 1 << (len(sound) - 1).bit_length()
    spectrum = np.fft.rfft(sound, size) * np.fft.rfft(template, size).conj()
    products = np.fft.irfft(spectrum, size)[: len(sound) - len(template) + 1]
    running = np.concatenate(([0.0], np.cumsum(np.square(sound))))
    energy = running[len(template) :] - running[: -len(template)]
    # What counts as silence is not heard: rounding errors there would resemble anything.
    floor = len(template) * 10 ** (SILENCE_DBFS / 10)
    template_energy = np.sum(np.square(template))
    heard = (energy > floor) & (template_energy > floor)
    return np.where(heard, products / np.sqrt(np.where(heard, energy * template_energy, 1.0)), 0.0)


def _only_peak(curve: Signal) -> int:
    """Where the curve is highest; MeasureError if it is not clear where that is."""
    best = int(np.argmax(curve))
    low = np.flatnonzero(curve < _LOBE * curve[best])
    left = low[low < best].max(initial=-1)
    right = low[low > best].min(initial=len(curve))
    rivals = np.concatenate((curve[: left + 1], curve[right:]))
    if curve[best] > 0 and rivals.max(initial=-1.0) > _RIVAL * curve[best]:
        raise MeasureError("the sound repeats itself: more than one offset fits")
    if curve[best] <= 0 or best in {0, len(curve) - 1}:
        raise MeasureError("the recordings have no common sound within the search")
    return best


def _refine(template: Signal, sound: Signal) -> tuple[float, float]:
    """By what part of a sample `sound` is later, and the normalised correlation there.

    They are within a sample of each other already, so one taper serves both: its own motion over
    so little is negligible. Newton's method climbs the band-limited correlation, from the best of
    a few points: started far down a steep peak it would overshoot.
    """
    taper = np.hanning(len(template))
    first, second = (np.fft.rfft(taper * signal) for signal in (template, sound - sound.mean()))
    omega = np.fft.rfftfreq(len(template)) * 2 * np.pi
    weight = np.full(len(omega), 2.0)  # a one-sided spectrum holds every bin once
    weight[0] = 1.0
    weight[-1] = 1.0 if len(template) % 2 == 0 else 2.0
    energy = math.sqrt(_power(first, weight) * _power(second, weight))
    if energy == 0:
        return 0.0, 0.0
    cross = first.conj() * second * weight / energy

    def height(lag: float) -> float:
        return float(np.sum((cross * np.exp(1j * omega * lag)).real))

    lag = max(np.linspace(-1.0, 1.0, 9).tolist(), key=height)
    for _ in range(_NEWTON_STEPS):
        turned = cross * np.exp(1j * omega * lag)
        slope, bend = -np.sum(omega * turned.imag), -np.sum(omega**2 * turned.real)
        lag = float(np.clip(lag - slope / bend, -1.0, 1.0)) if bend < 0 else lag
    return lag, height(lag)


def _power(spectrum: NDArray[np.complex128], weight: Signal) -> float:
    return float(np.sum(weight * np.abs(spectrum) ** 2))


def change_over_ns(
    recording: Recording, before: Recording, after: Recording, near_ns: int, reach_s: float = 0.05
) -> tuple[int, int]:
    """When, within `reach_s` of `near_ns`, a recording turns from one sound to another, ns.

    `before` and `after` are recordings of the two sounds alone. The moment is the one that leaves
    the least unexplained: each sound up to it, or from it on, with a raised cosine of 5 ms between.
    Given are the earliest and the latest that leave hardly more, for speech has pauses in which
    nobody can tell. MeasureError if one of the sounds is silent throughout, or they cannot explain
    what was recorded.
    """
    reach = round(reach_s * recording.rate)
    start_ns = near_ns - round(2 * reach_s * NS_PER_SECOND)
    length_ns = round(4 * reach_s * NS_PER_SECOND)
    heard = recording.window(start_ns, length_ns).samples.astype(np.float64)
    first, second = (_aligned(one, recording, start_ns, len(heard)) for one in (before, after))
    if min(np.std(first[:reach]), np.std(second[-reach:])) < 10 ** (_AUDIBLE_DBFS / 20):
        raise MeasureError("one of the two sounds is silent there")
    ramp = np.sin(np.linspace(0, np.pi / 2, recording.rate * 5 // 1000)) ** 2
    unexplained = _unexplained(heard, first, second, ramp)[reach : 3 * reach]
    best = int(np.argmin(unexplained))
    if unexplained[best] > _UNEXPLAINED * float(np.sum(np.square(heard))):
        raise MeasureError("what was recorded is not the one sound and then the other")
    near = recording.rate // 50
    around = slice(max(0, reach + best - near), reach + best + near)
    power = max(float(np.mean(np.square(first - second)[around])), _INAUDIBLE)
    slack = _DOUBT_S * recording.rate * power
    doubtful = np.flatnonzero(unexplained > unexplained[best] + slack)
    earliest = int(doubtful[doubtful < best].max(initial=-1)) + 1
    latest = int(doubtful[doubtful > best].min(initial=len(unexplained))) - 1
    begin = recording.index_at(start_ns)[0] + reach
    times = (
        recording.first_sample_time_ns + (begin + at) * NS_PER_SECOND // recording.rate
        for at in (earliest, latest)
    )
    return next(times), next(times)


def apart_ns(spans: Sequence[tuple[int, int]]) -> int:
    """How far apart these moments are at least, each being somewhere between two times."""
    return max(0, max(earliest for earliest, _ in spans) - min(latest for _, latest in spans))


def _unexplained(heard: Signal, first: Signal, second: Signal, ramp: Signal) -> Signal:
    """For a turn at each sample, the energy that the two sounds and the ramp between do not have.

    Along the ramp g the rest is e + g d, where e is the rest beside the first sound alone and d
    what the first has more than the second.
    """
    rest, other = heard - first, heard - second
    more = first - second
    before, after = np.cumsum(np.square(rest)), np.cumsum(np.square(other))
    along = 2 * np.correlate(rest * more, ramp, "valid")
    along += np.correlate(np.square(more), np.square(ramp), "valid")
    ends = np.arange(len(along)) + len(ramp) - 1
    total: Signal = along + before[ends] + after[-1] - after[ends]
    return total


def _aligned(sound: Recording, recording: Recording, start_ns: int, count: int) -> Signal:
    """The samples that a recording in step would have made of a sound, over the same window."""
    _, remainder = recording.index_at(start_ns)
    index, rest = sound.index_at(start_ns)
    stretch = _padded(sound.samples, index, count + 1)
    part = rest - remainder
    if part < 0:
        stretch, part = _padded(sound.samples, index - 1, count + 1), part + 1
    # Less than a sample apart: linear is enough beside what speakers may be apart.
    return (1 - part) * stretch[:-1] + part * stretch[1:]
