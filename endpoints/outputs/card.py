"""One opened sound card: its own thread on one side, the loudspeaker's on the other.

PortAudio calls back on a thread of its own. There, samples are copied and times noted, no more:
the player belongs to the loudspeaker's thread.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import trio

from codec import soundcard
from codec.format import Samples
from codec.soundcard import PLAYING, SoundCardError
from endpoints.outputs.dac import DacClock, Reading
from endpoints.outputs.feed import Feed
from transport.clock.timeline import NS_PER_SECOND
from transport.net.clocks import Clock

# A processor taken away between two readings of two clocks would put one beside the other.
_TIGHT_NS = 50_000
_TRIES = 3
# Sound that is further away than this is told on another clock.
_SAME_CLOCK_S = 10.0
_READINGS = 256


class Stream(Protocol):
    """What is used of a `codec.soundcard.SoundStream` here; seconds."""

    @property
    def latency_s(self) -> float:
        """From the callback to the loudspeaker, as the card states."""

    @property
    def time_s(self) -> float:
        """The clock of the stream now, 0 if it cannot be read."""


class Times(Protocol):
    """What PortAudio says in a callback, in seconds: 0 for what it does not know."""

    outputBufferDacTime: float  # noqa: N815 - PortAudio's names
    currentTime: float  # noqa: N815


class OpenCard:
    """What the callback notes and the loudspeaker reads, for one stream."""

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        """`wake` is called on the card's thread after each callback."""
        self._clock = clock
        self._wake = wake
        self._readings: deque[Reading] = deque(maxlen=_READINGS)
        self._xruns = 0
        self.stream: Stream | None = None  # set before it is started
        self.feed = Feed()
        self.dac = DacClock()
        self.timeless = False  # the card does not say when samples sound
        self.ended = False

    @property
    def underruns(self) -> int:
        """Holes that were heard, whoever was late: the player or the system."""
        return self.feed.holes + self._xruns

    # ------------------------------------------------------------- the loudspeaker's thread
    def look(self) -> None:
        """Take in what has been noted since the last look."""
        while self._readings:
            self.dac.read(self._readings.popleft())

    # ------------------------------------------------------------- the card's thread
    def callback(self, out: Any, _frames: int, times: Times, status: Any) -> None:
        """As PortAudio calls it: fill `out` (n, channels), alike on every channel."""
        index = self.take(out[:, 0])
        out[:, 1:] = out[:, :1]
        if status.output_underflow:
            self.missed()
        reading = self._reading(index, times)
        if reading is not None:
            self.note(reading)

    def take(self, out: Samples) -> int:
        """Fill `out` (n,); the number of its first sample."""
        index = self.feed.take(out)
        self._wake()
        return index

    def note(self, reading: Reading) -> None:
        """When a sample sounds, as it seems now."""
        self._readings.append(reading)
        self._wake()

    def missed(self) -> None:
        """The system has played silence for want of samples."""
        self._xruns += 1

    def finished(self) -> None:
        """The stream has ended; nobody asked it to."""
        self.ended = True
        self._wake()

    def _reading(self, index: int, times: Times) -> Reading | None:
        if self.stream is None:
            return None
        for _ in range(_TRIES):
            before_ns = self._clock.now_ns()
            stream_s = self.stream.time_s
            after_ns = self._clock.now_ns()
            if after_ns - before_ns <= _TIGHT_NS:
                now_ns = (before_ns + after_ns) // 2
                ahead_s = self._ahead_s(times, stream_s)
                return Reading(index, now_ns + round(ahead_s * NS_PER_SECOND), now_ns)
        return None

    def _ahead_s(self, times: Times, stream_s: float) -> float:
        """How long until the first sample of this callback sounds."""
        dac_s = times.outputBufferDacTime
        # The stream's own time was read a moment ago; that of the callback is older by as long as
        # this thread waited for its turn, so it is second best. They may be different clocks.
        for now_s in (stream_s, times.currentTime):
            if dac_s > 0 and abs(dac_s - now_s) < _SAME_CLOCK_S:
                return dac_s - now_s
        self.timeless = True
        return self.stream.latency_s if self.stream is not None else 0.0


class Card(Protocol):
    """A device that can be opened, and opened again."""

    async def open(self, into: OpenCard, *, again: bool) -> None:
        """Start it; `again` looks anew at what devices there are. SoundCardError if it refuses."""

    async def close(self) -> None:
        """Give it back, if it is open; takes as long as the device hangs."""


class PortAudioCard:
    """A real one. PortAudio may block for long, so it is called on threads of trio's."""

    def __init__(self, name: str, latency_s: float) -> None:
        """`name` as `codec.soundcard.find` takes it; `latency_s` is how much the card buffers."""
        self._name = name
        self._latency_s = latency_s
        self._stream: soundcard.SoundStream | None = None
        # PortAudio is not made for two threads; one that hangs is waited for.
        self._one_at_a_time = trio.CapacityLimiter(1)

    async def open(self, into: OpenCard, *, again: bool) -> None:
        """Start it; SoundCardError if there is none of that name or it refuses."""
        await self._on_a_thread(lambda: self._open(into, again=again))

    def _open(self, into: OpenCard, *, again: bool) -> None:
        if again:
            soundcard.refresh()
        stream = soundcard.open_stream(
            PLAYING, self._name, self._latency_s, into.callback, into.finished
        )
        into.stream = self._stream = stream
        try:
            stream.start()
        except SoundCardError:
            self._close()
            raise

    async def close(self) -> None:
        """Give it back, if it is open."""
        await self._on_a_thread(self._close)

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    async def _on_a_thread(self, act: Callable[[], None]) -> None:
        try:
            await trio.to_thread.run_sync(act, abandon_on_cancel=True, limiter=self._one_at_a_time)
        except trio.Cancelled:
            # The thread may hang for as long as the sound server does.
            with suppress(SoundCardError):
                soundcard.forsake()
            raise
