"""How far apart two loudspeakers sound, from one recording of both playing sweeps in turn.

Farina's exponential sweep ("Simultaneous measurement of impulse response and distortion with a
swept-sine technique", AES 108, 2000): the recording, put through the sweep's inverse filter,
becomes the room's response to a click, and what a loudspeaker distorts comes before it, out of the
way. One sweeps after the other, several times in turn: the repetitions tell the recorder's clock
from the loudspeakers', and how sure the result is. Times are in seconds unless named otherwise.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from codec.errors import SourceError
from codec.format import SAMPLE_RATE, Samples

Response: TypeAlias = npt.NDArray[np.complex128]
Reals: TypeAlias = npt.NDArray[np.floating]

# What horns can sound and telephones hear.
LOW_HZ: Final = 250.0
HIGH_HZ: Final = 12_000.0
SWEEP_S: Final = 1.2
# When each loudspeaker begins to sweep. The one's intervals are not the other's, and none occurs
# between the two: which sweeps are whose shows in a recording that begins and ends anywhere.
SLOTS_S: Final = ((0.0, 4.0, 8.6), (2.0, 6.3, 10.6))
SCHEDULE_S: Final = 12.0
MAX_RECORDING_S: Final = 180.0
# The farthest apart that they can be and still be told from other sweeps.
MAX_APART_S: Final = 0.25

_LEVEL: Final = 0.5
_FADE_S: Final = 0.02
# Bins in which sweeps are looked for, and by how many of them a recorder's clock may lead astray:
# 300 ppm in 9 s.
_BIN: Final = SAMPLE_RATE // 1000
_SLACK_BINS: Final = 3
# A sweep's click above the loudest of 1 ms of noise.
_LEAST_SNR_DB: Final = 15.0
# The direct sound is within so much before the loudest echo, and no weaker than so much below it.
_DIRECT_S: Final = 0.05
_DIRECT_DB: Final = -10.0
# What of a response is compared: the noise before it, the sound, and its echoes.
_BEFORE: Final = SAMPLE_RATE // 10
_AFTER: Final = SAMPLE_RATE // 20
# How much finer than the samples repetitions are compared.
_FINER: Final = 64
# Loudspeakers in step do not come and go by more than this from sweep to sweep.
_MOST_UNEVEN_S: Final = 200e-6
# What an echo close behind the direct sound may do to a click and not show, of the time in which it
# rises: measured in rooms of dense echoes as loud as the direct sound (tests/codec/test_sweep.py).
_DOUBT: Final = 0.12
# Student's t of 95 %, of six times that three numbers explain.
_T_95: Final = 3.18


class SweepError(SourceError):
    """The recording does not tell; one line that says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The second loudspeaker is heard `later_s` after the first (before it, if negative).

    `uncertainty_s` is meant as two standard deviations; `snr_db` is the weaker one's click above
    the noise; `drift_ppm` by how much too fast the recorder's clock is.
    """

    later_s: float
    uncertainty_s: float
    snr_db: float
    drift_ppm: float


def sweep(rate: float = SAMPLE_RATE) -> Reals:
    """One sweep as a recorder of `rate` Hz would hold it; its beginning and end are faded."""
    time = np.arange(int(SWEEP_S * rate)) / rate
    scale = SWEEP_S / np.log(HIGH_HZ / LOW_HZ)
    wave = np.sin(2 * np.pi * LOW_HZ * scale * np.expm1(time / scale))
    edge = np.minimum(1.0, np.minimum(time, SWEEP_S - time) / _FADE_S)
    faded: Reals = _LEVEL * wave * np.sin(np.pi / 2 * np.maximum(edge, 0.0)) ** 2
    return faded


def schedule() -> Samples:
    """What the two loudspeakers play at the same time: (n, 2), a column for each."""
    played = np.zeros((round(SCHEDULE_S * SAMPLE_RATE), 2), np.float32)
    one = sweep().astype(np.float32)
    for column, starts in enumerate(SLOTS_S):
        for start in starts:
            at = round(start * SAMPLE_RATE)
            played[at : at + len(one), column] = one
    return played


def measure(recording: Samples) -> Measured:
    """What a recording of `schedule` says, mono at 48 kHz; SweepError if it says nothing."""
    if recording.ndim != 1:
        msg = f"a recording is one-dimensional, not {recording.ndim}"
        raise ValueError(msg)
    if len(recording) > MAX_RECORDING_S * SAMPLE_RATE:
        raise SweepError(f"it is longer than {MAX_RECORDING_S:.0f} s: cut it to the sweeps")
    if len(recording) < (SLOTS_S[1][-1] + SWEEP_S / 2) * SAMPLE_RATE:
        raise SweepError(f"it is shorter than the sweeps, {SCHEDULE_S:.0f} s: record all of them")
    if not np.any(recording):
        raise SweepError("it is silent throughout: is it the right microphone?")
    # The first sweep may begin where the recording does, and the last end there.
    recording = np.pad(recording, (2 * _BEFORE, _AFTER))
    response = _response(recording, SAMPLE_RATE)
    first = _measure(response)
    # A sweep in another clock's time smears a little; that is taken back.
    response = _response(recording, SAMPLE_RATE * (1 + first.drift_ppm * 1e-6))
    return _measure(response)


def _response(recording: Samples, rate: float) -> Response:
    """The recording through the inverse filter of a sweep; analytic, so its size is its envelope.

    A sweep that began at sample n has become a click at sample n.
    """
    reference = sweep(rate)
    count = 1 << (len(recording) + len(reference) - 1).bit_length()
    spectrum = np.fft.rfft(recording, count)
    swept = np.fft.rfft(reference, count)
    hertz = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    # A smooth passband, for the edges of a hard one would sound before each click.
    along = np.clip((hertz - LOW_HZ) / (HIGH_HZ - LOW_HZ), 0.0, 1.0)
    passed = np.sin(np.pi * along) ** 2
    inside = passed > 1e-4
    spectrum[~inside] = 0.0
    spectrum[inside] *= passed[inside] * np.conj(swept[inside]) / np.abs(swept[inside]) ** 2
    both = np.zeros(count, np.complex128)
    both[: len(spectrum)] = 2 * spectrum
    response: Response = np.fft.ifft(both)[: len(recording)]
    return response


def _measure(response: Response) -> Measured:
    starts, snr_db = _find(np.abs(response))
    begins, arrivals = [], []
    for mine in starts:
        begun, mean = _average(response, mine)
        begins.append(begun)
        arrivals.append(_first_arrival(np.abs(mean)))
    return _compare(np.array(begins), np.array(arrivals), snr_db)


# ------------------------------------------------------------------ finding the sweeps
def _find(size: Reals) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], float]:
    """About when each one's sweeps began, in samples, and the weaker one's SNR in dB."""
    bins = len(size) // _BIN
    loudest = size[: bins * _BIN].reshape(bins, _BIN).max(axis=1)
    noise = max(float(np.median(loudest)), float(loudest.max()) * 1e-5)
    scores = [_score(loudest, slots) for slots in SLOTS_S]
    least = noise * 10 ** (_LEAST_SNR_DB / 20)
    apart = _bins(MAX_APART_S)
    behind = _bins(SLOTS_S[1][0] - SLOTS_S[0][0])
    best, where = 0.0, (0, 0)
    # Both at once: what looks most like the one may be something else.
    for begin in np.flatnonzero(scores[0] >= least):
        lowest = max(int(begin) + behind - apart, 0)
        near = scores[1][lowest : int(begin) + behind + apart + 1]
        if len(near) and (both := min(scores[0][begin], near.max())) > best:
            best, where = both, (int(begin), int(lowest + near.argmax()))
    if best < least:
        raise SweepError(_why(scores, least))
    begins = tuple(_sharpen(size, at, slots) for at, slots in zip(where, SLOTS_S, strict=True))
    return (begins[0], begins[1]), float(20 * np.log10(best / noise))


def _why(scores: list[Reals], least: float) -> str:
    heard = [bool(len(score)) and float(score.max()) >= least for score in scores]
    if all(heard):
        return "the two are more than 0.25 s apart, or something else sweeps: play and record again"
    if any(heard):
        which = ("first", "second")[heard.index(False)]
        return f"the {which} loudspeaker's sweeps are not found: turn it up, or record nearer to it"
    return "no sweeps stand out of the noise: turn them up, and record all of them nearer"


def _score(loudest: Reals, slots: tuple[float, ...]) -> Reals:
    """For each bin in which the first sweep may have begun, the weakest of all that then follow."""
    width = 2 * _SLACK_BINS + 1
    around = np.lib.stride_tricks.sliding_window_view(np.pad(loudest, _SLACK_BINS), width).max(
        axis=1
    )
    steps = [_bins(slot - slots[0]) for slot in slots]
    count = len(loudest) - steps[-1]
    score: Reals = np.min([around[step : step + count] for step in steps], axis=0)
    return score


def _bins(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / _BIN)


def _sharpen(size: Reals, begin_bin: int, slots: tuple[float, ...]) -> tuple[int, ...]:
    found = []
    for slot in slots:
        middle = (begin_bin * _BIN) + round((slot - slots[0]) * SAMPLE_RATE)
        low = max(middle - _SLACK_BINS * _BIN, 0)
        found.append(low + int(size[low : middle + (_SLACK_BINS + 1) * _BIN].argmax()))
    return tuple(found)


# ------------------------------------------------------------------ when they were heard
def _average(response: Response, starts: tuple[int, ...]) -> tuple[Reals, Response]:
    """When each repetition began, in samples, as the first did; and the mean response to them.

    Its sample `_BEFORE` is the first one's start. The repetitions differ by noise alone, so each is
    laid over the first with all that there is in it, echoes included.
    """
    windows = np.array([response[at - _BEFORE : at + _AFTER] for at in starts])
    spectra = np.fft.fft(windows, axis=1)
    turns = np.fft.fftfreq(windows.shape[1])
    lags = np.array([_lag(one * np.conj(spectra[0]), turns) for one in spectra])
    aligned = spectra * np.exp(2j * np.pi * lags[:, np.newaxis] * turns)
    return np.array(starts) + lags, np.fft.ifft(aligned.mean(axis=0))


def _lag(product: Response, turns: Reals) -> float:
    """By how many samples the one response is behind the other, of their cross spectrum."""
    correlation = np.fft.ifft(product).real
    whole = int(correlation.argmax())
    whole -= len(product) if whole > len(product) // 2 else 0
    fine = whole + np.arange(-_FINER, _FINER + 1) / _FINER
    # The positive frequencies are all that there are.
    there = turns > 0
    finer = (np.exp(2j * np.pi * np.outer(fine, turns[there])) @ product[there]).real
    at = int(finer.argmax())
    return float(fine[at]) + _vertex(finer, at) / _FINER


def _first_arrival(size: Reals) -> tuple[float, float]:
    """Where the direct sound is at its loudest, and where it has risen to half of that.

    Not the loudest of all: a wall that throws the sound of a whole street back may be that.
    """
    loudest = int(size[_BEFORE // 2 :].argmax()) + _BEFORE // 2
    early = max(loudest - round(_DIRECT_S * SAMPLE_RATE), 1)
    noise = float(size[: max(early - _BIN, 1)].max())
    least = max(float(size[loudest]) * 10 ** (_DIRECT_DB / 20), 2 * noise)
    risen = np.flatnonzero(size[early : loudest + 1] >= least)
    at = early + int(risen[0]) if len(risen) else loudest
    while at + 1 < len(size) and size[at + 1] > size[at]:
        at += 1
    half = at
    while half > 0 and size[half] > size[at] / 2:
        half -= 1
    step = (size[at] / 2 - size[half]) / (size[half + 1] - size[half])
    return at + _vertex(size, at), half + float(step)


def _vertex(values: Reals, at: int) -> float:
    """How far beside its largest value a curve is at its highest, by a parabola."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, here, after = values[at - 1 : at + 2]
    bend = before - 2 * here + after
    return 0.0 if bend == 0 else float((before - after) / (2 * bend))


def _compare(begins: Reals, arrivals: Reals, snr_db: float) -> Measured:
    """Of each one's beginnings (2, 3) and arrivals (2: peak and rise), all in samples."""
    slots = np.array(SLOTS_S) * SAMPLE_RATE
    whose = np.repeat(np.eye(2), slots.shape[1], axis=0)
    terms = np.column_stack((whose, slots.ravel()))
    found, _, _, _ = np.linalg.lstsq(terms, begins.ravel(), rcond=None)
    pace = float(found[2])
    left = begins.ravel() - terms @ found
    variance = float(left @ left) / (len(left) - terms.shape[1])
    spread = float(np.sqrt(variance * np.linalg.inv(terms.T @ terms)[:2, :2].trace()))
    apart = found[1] - found[0] + arrivals[1] - arrivals[0]
    second = SAMPLE_RATE * pace
    if np.sqrt(variance) > _MOST_UNEVEN_S * SAMPLE_RATE:
        uneven = np.sqrt(variance) / SAMPLE_RATE * 1e6
        raise SweepError(
            f"the sweeps do not keep time by {uneven:.0f} us: wait until both loudspeakers are in "
            "step, then play and record again"
        )
    # Peak and rise of a click say the same, were it not for echoes, and for two unlike horns.
    shape = 2 * abs(float(apart[1] - apart[0]))
    doubt = _DOUBT * float(np.mean(arrivals[:, 0] - arrivals[:, 1]))
    uncertainty_s = float(np.linalg.norm((_T_95 * spread, shape, doubt))) / second
    return Measured(float(apart[0]) / second, uncertainty_s, snr_db, (pace - 1) * 1e6)
