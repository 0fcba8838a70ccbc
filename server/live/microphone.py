"""A microphone of this machine, as a live source."""

import queue
from collections.abc import Iterator
from typing import Any, Final, Protocol

import numpy as np

from codec import soundcard
from codec.errors import SourceError
from codec.format import Samples, bounded, samples_of_ms
from codec.soundcard import RECORDING, Callback, SoundCardError
from codec.sources.blocks import reblock

_BLOCK_SAMPLES: Final = samples_of_ms(10)
# Enough for a busy machine; what waits longer than this is late for live speech.
_LATENCY_S: Final = 0.02
# Pieces of a few milliseconds each.
_QUEUE_PIECES: Final = 50
# A sound server may take two seconds to begin, and none of them between two pieces.
_PATIENCE_S: Final = 4.0


class Stream(Protocol):
    """What is used of a `codec.soundcard.SoundStream` here."""

    def start(self) -> None:
        """Let the callback be called."""

    def close(self) -> None:
        """Give the device back."""


class Opener(Protocol):
    """Opens a microphone: `codec.soundcard.open_stream` does."""

    def __call__(self, name: str, latency_s: float, callback: Callback, finished: Any) -> Stream:
        """SoundCardError if there is none of that name, or it refuses."""


def _open(name: str, latency_s: float, callback: Callback, finished: Any) -> Stream:
    return soundcard.open_stream(RECORDING, name, latency_s, callback, finished)


class MicrophoneSource:
    """Blocks of what is said, mono float32 at 48 kHz, as they are captured.

    Nothing is captured before the first block is asked for, so sound never waits for the station
    to grant a ticket. May be iterated once.
    """

    def __init__(self, name: str = "", opener: Opener = _open) -> None:
        """`name` as `codec.soundcard.find` takes it, empty for the default microphone.

        SourceError if there is no such device, it refuses, or PortAudio is not installed.
        """
        self._pieces: queue.Queue[Samples | None] = queue.Queue(_QUEUE_PIECES)
        self.dropped = 0  # pieces that nobody took in time; the oldest go first
        try:
            self._stream = opener(name, _LATENCY_S, self._captured, self._ended)
        except SoundCardError as error:
            raise SourceError(str(error)) from None

    def __iter__(self) -> Iterator[Samples]:
        """Blocks of 10 ms for ever; SourceError when the microphone vanishes."""
        return self.blocks(_BLOCK_SAMPLES)

    def blocks(self, samples: int) -> Iterator[Samples]:
        """Blocks of `samples` for ever; SourceError when the microphone vanishes."""
        return reblock(self._capture(), samples)

    def close(self) -> None:
        """Give the microphone back; whoever waits for a block gets SourceError."""
        self._stream.close()
        self._ended()

    def _capture(self) -> Iterator[Samples]:
        try:
            self._stream.start()
        except SoundCardError as error:
            raise SourceError(str(error)) from None
        while True:
            try:
                piece = self._pieces.get(timeout=_PATIENCE_S)
            except queue.Empty:
                raise SourceError(
                    f"the microphone has given nothing for {_PATIENCE_S:g} s: "
                    "look at its cable and start again"
                ) from None
            if piece is None:
                raise SourceError("the microphone is gone: connect it and start again")
            yield piece

    # ------------------------------------------------------------- PortAudio's thread
    def _captured(self, data: Any, _frames: int, _times: Any, _status: Any) -> None:
        # A copy: the buffer is the library's. Of two channels, what both hear.
        self._put(bounded(np.mean(data, axis=1, dtype=np.float32)))

    def _ended(self) -> None:
        self._put(None)

    def _put(self, piece: Samples | None) -> None:
        while True:
            try:
                return self._pieces.put_nowait(piece)
            except queue.Full:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        try:
            self._pieces.get_nowait()
            self.dropped += 1
        except queue.Empty:
            pass  # it was taken a moment ago
