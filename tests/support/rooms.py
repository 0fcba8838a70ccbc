"""Rooms, horns and telephones, made of numbers: what is heard between two loudspeakers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codec.dsp import sweep
from codec.dsp.resample import HALF_TAPS, interpolate
from codec.format import SAMPLE_RATE, Samples

Reals = npt.NDArray[np.floating]

_ROOM = int(0.7 * SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class Room:
    """The way from a loudspeaker to the microphone.

    The direct sound is at sample 0 with size 1. Six early reflections of up to `echo_db` come from
    `first_ms` on; a tail of noise that decays by 60 dB in `decay_s` begins at once, and has all
    together the energy of the direct sound less `direct_db`.
    """

    echo_db: float = 3.0
    direct_db: float = 6.0
    decay_s: float = 0.6
    first_ms: float = 1.0

    def response(self, draw: np.random.Generator) -> Reals:
        """Another such room."""
        time = np.arange(_ROOM) / SAMPLE_RATE
        tail = draw.standard_normal(_ROOM) * 10 ** (-3 * time / self.decay_s)
        tail[0] = 0
        tail *= 10 ** (-self.direct_db / 20) / np.sqrt(tail @ tail)
        tail[0] += 1
        for _ in range(6):
            at = draw.uniform(self.first_ms, 20) * SAMPLE_RATE / 1000
            size = 10 ** (draw.uniform(-12, self.echo_db) / 20) * draw.choice([-1, 1])
            tail += size * delayed(np.ones(1), at, _ROOM)
        return tail


def horn(low_hz: float, high_hz: float) -> Reals:
    """A loudspeaker that sounds between these alone, 12 dB an octave less beyond."""
    s = 1j * np.fft.rfftfreq(8192, 1 / SAMPLE_RATE)
    low = (s / low_hz) ** 2 / (1 + s / low_hz + (s / low_hz) ** 2)
    return np.fft.irfft(low / (1 + s / high_hz / 0.7 + (s / high_hz) ** 2), 8192)[:2048]


def delayed(sound: Reals, samples: float, length: int) -> Reals:
    """So many samples later, and any part of one."""
    count = 1 << (length + len(sound)).bit_length()
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(count) * samples)
    return np.fft.irfft(np.fft.rfft(sound, count) * turn, count)[:length]


def through(sound: Reals, response: Reals) -> Reals:
    """A sound as it is heard by such a way."""
    count = 1 << (len(sound) + len(response)).bit_length()
    heard = np.fft.irfft(np.fft.rfft(sound, count) * np.fft.rfft(response, count), count)
    return heard[: len(sound) + len(response)]


def recorded(
    draw: np.random.Generator,
    later_s: float,
    ways: tuple[Reals, Reals],
    *,
    snr_db: float = 60.0,
    recorder_ppm: float = 0.0,
    start_s: float = 0.5,
    late_by_s: tuple[float, ...] = (),
) -> Samples:
    """What a microphone records of the schedule, 14 s; the second sounds `later_s` later.

    `late_by_s` is by how much later still each of the second one's sweeps is.
    """
    once = sweep.sweep()
    total = 14 * SAMPLE_RATE
    air = np.zeros(total + 2 * len(once) + _ROOM)
    for number, (slots, way) in enumerate(zip(sweep.SLOTS_S, ways, strict=True)):
        heard = through(once, way)
        lates = late_by_s if number and late_by_s else (0.0,) * len(slots)
        for slot, late_s in zip(slots, lates, strict=True):
            begin = (start_s + slot + number * later_s + late_s) * SAMPLE_RATE
            part = delayed(heard, begin % 1, len(heard) + 64)
            low = int(begin)
            end = min(low + len(part), len(air))
            air[max(low, 0) : end] += part[max(-low, 0) : end - low]
    sound = air[:total]
    if recorder_ppm:
        # A quick clock takes more samples of the same.
        places = np.arange(total) / (1 + recorder_ppm * 1e-6)
        context = np.pad(air, (HALF_TAPS, 0)).astype(np.float32)
        sound = interpolate(context, places + HALF_TAPS).astype(np.float64)
    level = np.sqrt(sound @ sound / len(sound))
    sound = sound + draw.standard_normal(len(sound)) * level * 10 ** (-snr_db / 20)
    return np.asarray(sound / np.abs(sound).max() * 0.7, np.float32)
