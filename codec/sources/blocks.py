"""Working on sound as it comes: an iterable of blocks of any length."""

import math
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from codec.dsp.meter import amplitude_of
from codec.format import Samples, samples_of_ms

_WINDOW_SAMPLES: Final = samples_of_ms(20)


def reblock(blocks: Iterable[Samples], samples: int) -> Iterator[Samples]:
    """Cut the same sound into blocks of exactly `samples`; only the last may be shorter.

    Holds less than one block beyond what came, so a live source is delayed by no more than that.
    """
    if samples <= 0:
        msg = f"a block has at least one sample, not {samples}"
        raise ValueError(msg)
    held: list[Samples] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count < samples:
            continue
        joined = np.concatenate(held)
        whole = count - count % samples
        for start in range(0, whole, samples):
            yield joined[start : start + samples]
        # A copy, or the view would keep the whole of `joined` alive.
        held = [joined[whole:].copy()]
        count -= whole
    if count:
        yield np.concatenate(held)


def first_sound(blocks: Iterable[Samples], threshold_dbfs: float = -60.0) -> int | None:
    """Find the index of the first 20 ms that are louder (RMS) than the threshold; None if none are.

    Stops there, so a long file costs nothing unless it is silent throughout, which is what the
    caller wants to know before going on air. A constant offset is not sound: an unplugged sound
    card gives one.
    """
    threshold = amplitude_of(threshold_dbfs)
    for number, block in enumerate(reblock(blocks, _WINDOW_SAMPLES)):
        centred = block - block.mean(axis=0, dtype=np.float64)
        if math.sqrt(float(np.mean(centred * centred))) > threshold:
            return number * _WINDOW_SAMPLES
    return None
