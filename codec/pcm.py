"""Samples as files, pipes and sockets hold them: signed 16 bits, little-endian."""

import numpy as np

from codec.format import Samples

_FULL_SCALE = np.float32(32767)


def pcm16(samples: Samples) -> bytes:
    """Clipped and rounded: cut towards nought, a whisper would have a hole in its middle."""
    data: bytes = np.rint(np.clip(samples, -1, 1) * _FULL_SCALE).astype("<i2").tobytes()
    return data


def samples_of_pcm16(data: bytes) -> Samples:
    """The samples again, in [-1, 1]; ValueError for half a sample."""
    # -32768 alone has no counterpart above.
    samples: Samples = np.frombuffer(data, "<i2").astype(np.float32) / _FULL_SCALE
    return np.maximum(samples, np.float32(-1.0))
