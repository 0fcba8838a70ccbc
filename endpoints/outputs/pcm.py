"""Samples as files and pipes hold them."""

import numpy as np

from codec.format import Samples


def pcm16(samples: Samples) -> bytes:
    """Signed 16 bits, little-endian. Rounded: cut towards nought, a whisper would have a hole."""
    return np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
