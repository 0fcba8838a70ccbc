"""Whether what sounds at a loudspeaker is what should, or nothing, or of another time."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from bench.measure import Recording, level_dbfs, offset_seconds
from codec.format import SAMPLE_RATE, Samples

SECOND = 1_000_000_000
WINDOW_NS = SECOND // 10
NEAR_S = 0.001
LOUD_DBFS = -35.0
ALIKE = 0.8
# No two vowels are so alike; what was decoded from the same packets is.
THE_SAME = 0.9
PAST_S = 15.0


@dataclass(frozen=True, slots=True)
class Moment:
    """A tenth of a second in which either of two is loud.

    `likeness` is how alike they sound then, a millisecond to either side allowed; `staleness` how
    much what sounds is like what the calm one has sounded in the quarter of a minute before.
    """

    at_ns: int
    likeness: float
    staleness: float
    level_dbfs: float

    @property
    def is_in_step(self) -> bool:
        return self.likeness > ALIKE

    @property
    def is_stale(self) -> bool:
        return self.level_dbfs > LOUD_DBFS and self.likeness < 0.5 and self.staleness > THE_SAME


def likeness(sound: Samples, within: Samples) -> float:
    """The largest normalised correlation with any stretch of as many samples."""
    if len(within) < len(sound):
        return 0.0
    size = 1 << (len(within) + len(sound)).bit_length()
    spectrum = np.fft.rfft(within, size) * np.conj(np.fft.rfft(sound, size))
    products = np.fft.irfft(spectrum, size)[: len(within) - len(sound) + 1]
    energies = np.cumsum(np.pad(within.astype(np.float64) ** 2, (1, 0)))
    energies = (energies[len(sound) :] - energies[: -len(sound)]).clip(1e-3)
    return float((products / np.sqrt(energies * max(float(sound @ sound), 1e-3))).max())


def moments(calm: Recording, other: Recording, begin_ns: int, end_ns: int) -> Iterator[Moment]:
    """All of them between two times."""
    first, last = (round(s * SAMPLE_RATE) for s in (NEAR_S, PAST_S))
    for at_ns in range(begin_ns, end_ns - WINDOW_NS, WINDOW_NS):
        sound = other.window(at_ns, WINDOW_NS).samples
        level = level_dbfs(sound)
        here, _ = calm.index_at(at_ns)
        if max(level, level_dbfs(calm.samples[here : here + len(sound)])) < LOUD_DBFS:
            continue
        present = likeness(sound, calm.samples[here - first : here + first + len(sound)])
        past = 0.0
        if present < ALIKE:
            past = likeness(sound, calm.samples[max(here - last, 0) : here + len(sound) // 2])
        yield Moment(at_ns, present, past, level)


@dataclass(frozen=True, slots=True)
class Outcome:
    """After something happened: when sound was back, what was stale, how far apart in the end."""

    back_s: float
    stale_s: list[float]
    apart_s: float

    @override
    def __str__(self) -> str:
        stale = ", ".join(f"{at_s:.1f}" for at_s in self.stale_s) or "never"
        return (
            f"back after {self.back_s:.1f} s, {self.apart_s * 1e6:.0f} us apart then; "
            f"stale at (s): {stale}"
        )


def outcome(calm: Recording, other: Recording, since_ns: int, end_ns: int) -> Outcome:
    """What became of `other`, to which something happened.

    A frame that was late on a busy machine is no absence: three tenths of a second in a row are.
    """
    found = list(moments(calm, other, since_ns, end_ns))
    back_ns = found[0].at_ns
    for here, run in itertools.groupby(found, lambda m: m.is_in_step):
        absent = list(run)
        if not here and len(absent) >= 3:
            back_ns = absent[-1].at_ns + WINDOW_NS
    assert end_ns - back_ns > SECOND, "it is not back"
    stale = [(m.at_ns - since_ns) / SECOND for m in found if m.is_stale]
    apart = offset_seconds(calm, other, end_ns - SECOND, SECOND)
    return Outcome((back_ns - since_ns) / SECOND, stale, apart.seconds)


def longest_silence_s(recording: Recording, begin_ns: int, end_ns: int) -> float:
    """Between two times, in steps of 20 ms."""
    longest = run = 0
    for at_ns in range(begin_ns, end_ns - SECOND // 50, SECOND // 50):
        level = level_dbfs(recording.window(at_ns, SECOND // 50).samples)
        run = run + 1 if level < LOUD_DBFS - 20 else 0
        longest = max(longest, run)
    return longest / 50


def said_before(recording: Recording, ceased_ns: int, end_ns: int, delay_s: float) -> list[float]:
    """When something of before `ceased_ns` sounds, later than it should: seconds after that.

    What was said until then sounds until `delay_s` later, and is concealed for a moment.
    """
    late_ns = ceased_ns + round((delay_s + 0.2) * SECOND)
    last, _ = recording.index_at(late_ns)
    before = recording.samples[max(last - round(PAST_S * SAMPLE_RATE), 0) : last]
    found = []
    for at_ns in range(late_ns, end_ns - 2 * WINDOW_NS, WINDOW_NS):
        sound = recording.window(at_ns, 2 * WINDOW_NS).samples
        if level_dbfs(sound) > LOUD_DBFS and likeness(sound, before) > THE_SAME:
            found.append((at_ns - ceased_ns) / SECOND)
    return found
