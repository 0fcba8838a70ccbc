"""A recording of what a microphone before this loudspeaker would hear, in true time.

The sound card's crystal is not the microphone's, so samples are resampled from the one to the
other by the exact phase. Beside `FILE` lies `FILE.json`, which holds the true time of sample 0
(CLOCK_BOOTTIME of the machine, which all its processes share).
"""

import errno
import json
import wave
from pathlib import Path

import numpy as np

from codec.dsp.resample import HALF_TAPS, interpolate
from codec.format import SAMPLE_RATE, Samples
from codec.pcm import pcm16
from endpoints.simulate import Crystal

# The header is rewritten with each flush, so that the file is whole whenever the process dies.
_FLUSH_SAMPLES = SAMPLE_RATE // 5


# The header counts bytes in 32 bits.
_MAX_BYTES = (1 << 32) - (1 << 20)


class WavSink:
    """Writes 16-bit mono; OSError when the disk refuses."""

    def __init__(self, path: Path, crystal: Crystal) -> None:
        self._path = path
        self._crystal = crystal
        # close() closes it; there is no block of code for it to span.
        self._stream = path.open("wb")
        self._wave = wave.open(self._stream, "wb")  # noqa: SIM115
        self._wave.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        # The interpolator wants context before the first sample: the silence before the start.
        self._history = np.zeros(HALF_TAPS, np.float32)
        self._history_index = -HALF_TAPS
        self._written = 0
        self._pending: list[Samples] = []

    def start(self, true_ns: int) -> None:
        """The card's sample 0 sounds at `true_ns`; so does the recording's."""
        sidecar = {
            "sample_rate": SAMPLE_RATE,
            "first_sample_time_ns": true_ns,
            "clock": "CLOCK_BOOTTIME",
        }
        self._path.with_name(self._path.name + ".json").write_text(json.dumps(sidecar) + "\n")
        self._flush()  # the header, and no samples yet

    def write(self, samples: Samples) -> None:
        """Record what the card plays next."""
        self._history = np.concatenate((self._history, samples))
        end = self._history_index + len(self._history) - HALF_TAPS - 1
        # How many of the microphone's samples fall before the card's sample `end`.
        count = int(self._crystal.seconds_at(end) * SAMPLE_RATE) - self._written
        if count > 0:
            self._record(count)
        if sum(map(len, self._pending)) >= _FLUSH_SAMPLES:
            self._flush()

    def _record(self, count: int) -> None:
        first, last = self._written, self._written + count - 1
        # Within one period the crystal is straight to 1e-12.
        begin = self._crystal.samples_at(first / SAMPLE_RATE)
        finish = self._crystal.samples_at(last / SAMPLE_RATE)
        positions = np.linspace(begin, finish, count) - self._history_index
        self._pending.append(interpolate(self._history, positions))
        self._written += count
        keep_from = int(finish) - HALF_TAPS - self._history_index
        self._history = self._history[keep_from:]
        self._history_index += keep_from

    def _flush(self) -> None:
        pcm = np.concatenate(self._pending) if self._pending else np.zeros(0, np.float32)
        self._pending.clear()
        if 2 * self._written > _MAX_BYTES:
            raise OSError(errno.EFBIG, "a WAV file ends at 4 GiB, 12.4 hours")
        self._wave.writeframes(pcm16(pcm))
        self._stream.flush()

    def close(self) -> None:
        """Write what is left."""
        try:
            self._flush()
            self._wave.close()
        finally:
            self._stream.close()
