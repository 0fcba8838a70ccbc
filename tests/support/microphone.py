"""A microphone on a pipe: real speech in a room, written as fast as it is spoken and no faster.

The room's noise, at -45 dBFS, is what a microphone hears between words.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from codec.format import SAMPLE_RATE
from codec.pcm import pcm16
from codec.sources.file import FileSource

_BLOCK = SAMPLE_RATE // 100
_NOISE = 10 ** (-45 / 20)
# Dull, as rooms are: what Opus keeps at 24 kb/s.
_ROOM = np.hanning(32)


@contextmanager
def microphone(path: Path) -> Iterator[int]:
    """The reading end of its pipe, s16le at 48 kHz, mono; it repeats what is in the file."""
    speech = np.concatenate([*FileSource(path)])
    room = np.convolve(np.random.default_rng(len(speech)).normal(size=len(speech)), _ROOM, "same")
    pcm = pcm16((speech + _NOISE * room / np.std(room)).astype(np.float32))
    reading, writing = os.pipe()
    over = threading.Event()
    began_s = time.monotonic()

    def speak() -> None:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            for block in range(1_000_000):
                if over.wait(max(began_s + block / 100 - time.monotonic(), 0)):
                    return
                at = 2 * _BLOCK * block % len(pcm)
                try:
                    pipe.write(pcm[at : at + 2 * _BLOCK])
                except BrokenPipeError:
                    return

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield reading
    finally:
        over.set()
        os.close(reading)
        thread.join()
