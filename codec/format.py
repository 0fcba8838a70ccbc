"""The one shape of sound inside Loa: 48 kHz, float32, in [-1, 1]."""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

# (n,) for mono, (n, 2) for stereo.
Samples: TypeAlias = npt.NDArray[np.float32]

SAMPLE_RATE: Final = 48_000

# The frame durations Opus can code, in milliseconds (RFC 6716 section 2.1.4).
FRAME_MS: Final = (2.5, 5.0, 10.0, 20.0, 40.0, 60.0)


def samples_of_ms(ms: float) -> int:
    """How many samples last `ms` milliseconds, exactly.

    Raises ValueError if that is negative or not a whole number: a rounded duration, repeated
    every frame, is drift.
    """
    samples = ms * (SAMPLE_RATE / 1000)
    if samples < 0 or not float(samples).is_integer():
        msg = f"{ms} ms is not a whole number of samples at {SAMPLE_RATE} Hz"
        raise ValueError(msg)
    return int(samples)


def bounded(block: npt.NDArray[np.floating]) -> Samples:
    """Copy `block` so that it keeps the promise of this file: finite float32 in [-1, 1].

    Lossy codecs overshoot full scale and float files may hold anything, NaN included.
    """
    finite = np.nan_to_num(block, nan=0.0, posinf=1.0, neginf=-1.0)
    clipped: Samples = np.clip(finite, -1.0, 1.0).astype(np.float32, copy=False)
    return clipped
