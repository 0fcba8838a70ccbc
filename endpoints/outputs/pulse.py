"""PulseAudio (and PipeWire in its place), spoken to in its own way.

Through PortAudio, a card of PulseAudio's is heard of only by way of ALSA, which passes on a guess
that the client library makes between two looks at the server, 1.5 s apart: wrong by a millisecond
and more in the first ten seconds of a stream. Here the server is asked again and again which
sample it has reached and how far that is from sounding.

libpulse runs a thread of its own, on which the callbacks are called; what others do to its
objects, they do with the lock of its main loop held.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import trio

from codec.format import SAMPLE_RATE
from codec.soundcard import SoundCardError
from endpoints.outputs.card import OpenCard
from endpoints.outputs.dac import Reading
from transport.net.clocks import Clock

_BYTES: Final = 4
_FLOAT32LE: Final = 5
_ADJUST_LATENCY: Final = 0x2000
_NO_AUTOSPAWN: Final = 1
_READY: Final = {"context": 4, "stream": 2}
_FAILED: Final = {"context": (5, 6), "stream": (3, 4)}
_UNSET: Final = 0xFFFF_FFFF
_ASK_EVERY_NS: Final = 40_000_000
# The server read its clock at some moment between question and answer.
_PROMPT_NS: Final = 2_000_000
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
_SIZED = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
_SUCCESS = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class _Spec(ctypes.Structure):
    _fields_ = (
        ("format", ctypes.c_int),
        ("rate", ctypes.c_uint32),
        ("channels", ctypes.c_uint8),
    )


class _Buffering(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint32) for name in ("maxlength", "tlength", "prebuf", "minreq", "fragsize")
    )


class _Timing(ctypes.Structure):
    """`pa_timing_info`."""

    _fields_ = (
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("synchronized_clocks", ctypes.c_int),
        ("sink_usec", ctypes.c_uint64),
        ("source_usec", ctypes.c_uint64),
        ("transport_usec", ctypes.c_uint64),
        ("playing", ctypes.c_int),
        ("write_index_corrupt", ctypes.c_int),
        ("write_index", ctypes.c_int64),
        ("read_index_corrupt", ctypes.c_int),
        ("read_index", ctypes.c_int64),
    )


class PulseCard:
    """A sink of the sound server's, by its name; the default one if that is empty."""

    def __init__(self, name: str, latency_s: float, clock: Clock) -> None:
        """`latency_s` is how much the server buffers for the stream."""
        self._name = name
        self._latency_bytes = round(latency_s * SAMPLE_RATE) * _BYTES
        self._clock = clock
        self._connection: _Connection | None = None
        # What still opens must not be closed: a server that hangs is waited for.
        self._one_at_a_time = trio.CapacityLimiter(1)

    async def open(self, into: OpenCard, *, again: bool) -> None:  # noqa: ARG002
        """Start it; SoundCardError if there is no server or no sink of that name."""
        connection = self._connection = _Connection(into, self._clock)
        await trio.to_thread.run_sync(
            connection.open,
            self._name,
            self._latency_bytes,
            abandon_on_cancel=True,
            limiter=self._one_at_a_time,
        )

    async def close(self) -> None:
        """Give it back, if it is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await trio.to_thread.run_sync(
                connection.close, abandon_on_cancel=True, limiter=self._one_at_a_time
            )


class _Connection:
    """One stream on one connection to the server."""

    def __init__(self, into: OpenCard, clock: Clock) -> None:
        self._into = into
        self._clock = clock
        self._pulse = _library()
        self._piece = 1
        self._asked_ns = 0
        self._asking = False
        self._closing = False
        # They must live as long as libpulse may call them.
        self._on_change = _CALLBACK(self._changed)
        self._on_wanted = _SIZED(self._wanted)
        self._on_hole = _CALLBACK(self._hole)
        self._on_time = _SUCCESS(self._told_time)
        self._loop = self._pointer("pa_threaded_mainloop_new")
        self._context = ctypes.c_void_p()
        self._stream = ctypes.c_void_p()

    def _pointer(self, function: str, *arguments: Any) -> ctypes.c_void_p:
        return ctypes.c_void_p(getattr(self._pulse, function)(*arguments))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._pulse.pa_threaded_mainloop_lock(self._loop)
        try:
            yield
        finally:
            self._pulse.pa_threaded_mainloop_unlock(self._loop)

    # ------------------------------------------------------------- the loudspeaker's threads
    def open(self, name: str, latency_bytes: int) -> None:
        """Returns when the stream plays; SoundCardError if it will not."""
        pulse = self._pulse
        api = self._pointer("pa_threaded_mainloop_get_api", self._loop)
        self._context = self._pointer("pa_context_new", api, b"Loa")
        pulse.pa_context_set_state_callback(self._context, self._on_change, None)
        pulse.pa_threaded_mainloop_start(self._loop)
        with self._locked():
            pulse.pa_context_connect(self._context, None, _NO_AUTOSPAWN, None)
            self._wait_for("context", self._context)
            spec = _Spec(_FLOAT32LE, SAMPLE_RATE, 1)
            self._stream = self._pointer(
                "pa_stream_new", self._context, b"loudspeaker", ctypes.byref(spec), None
            )
            pulse.pa_stream_set_state_callback(self._stream, self._on_change, None)
            pulse.pa_stream_set_write_callback(self._stream, self._on_wanted, None)
            pulse.pa_stream_set_underflow_callback(self._stream, self._on_hole, None)
            self._piece = max(latency_bytes // 4 // _BYTES, 1)
            least = self._piece * _BYTES
            buffering = _Buffering(_UNSET, latency_bytes, _UNSET, least, _UNSET)
            sink = name.encode() or None
            pulse.pa_stream_connect_playback(
                self._stream, sink, ctypes.byref(buffering), _ADJUST_LATENCY, None, None
            )
            self._wait_for("stream", self._stream)

    def _wait_for(self, what: str, thing: ctypes.c_void_p) -> None:
        pulse = self._pulse
        while (state := getattr(pulse, f"pa_{what}_get_state")(thing)) != _READY[what]:
            if state in _FAILED[what]:
                why = pulse.pa_strerror(pulse.pa_context_errno(self._context)).decode()
                if what == "context":
                    raise SoundCardError(
                        f"no PulseAudio answers: {why}; is it running, as this user?"
                    )
                raise SoundCardError(
                    f"the sound server refuses: {why}; `pactl list short sinks` names its cards"
                )
            pulse.pa_threaded_mainloop_wait(self._loop)

    def close(self) -> None:
        """Forget the stream and the server."""
        self._closing = True
        pulse = self._pulse
        with self._locked():
            if self._stream.value:
                pulse.pa_stream_disconnect(self._stream)
                pulse.pa_stream_unref(self._stream)
            if self._context.value:
                pulse.pa_context_disconnect(self._context)
                pulse.pa_context_unref(self._context)
        pulse.pa_threaded_mainloop_stop(self._loop)
        pulse.pa_threaded_mainloop_free(self._loop)

    # ------------------------------------------------------------- libpulse's thread
    def _changed(self, _thing: int | None, _data: object) -> None:
        self._pulse.pa_threaded_mainloop_signal(self._loop, 0)
        if self._stream.value and not self._closing:
            stream = self._pulse.pa_stream_get_state(self._stream)
            context = self._pulse.pa_context_get_state(self._context)
            if stream in _FAILED["stream"] or context in _FAILED["context"]:
                self._into.finished()

    def _wanted(self, _stream: int | None, size: int, _data: object) -> None:
        block = np.empty(size // _BYTES, np.float32)
        # At first it wants all that it buffers: that is no measure of what it wants at once.
        for start in range(0, len(block), self._piece):
            self._into.take(block[start : start + self._piece])
        self._pulse.pa_stream_write(
            self._stream,
            ctypes.c_void_p(block.ctypes.data),
            ctypes.c_size_t(block.nbytes),
            None,
            ctypes.c_int64(0),
            0,
        )
        now_ns = self._clock.now_ns()
        if not self._asking and now_ns - self._asked_ns >= _ASK_EVERY_NS:
            self._asking, self._asked_ns = True, now_ns
            asked = self._pointer("pa_stream_update_timing_info", self._stream, self._on_time, None)
            if asked.value:
                self._pulse.pa_operation_unref(asked)

    def _hole(self, _stream: int | None, _data: object) -> None:
        self._into.missed()

    def _told_time(self, _stream: int | None, success: int, _data: object) -> None:
        now_ns, self._asking = self._clock.now_ns(), False
        told = self._pulse.pa_stream_get_timing_info(self._stream)
        if not success or not told or now_ns - self._asked_ns > _PROMPT_NS:
            return
        timing = _Timing.from_address(told)
        if timing.playing and not timing.read_index_corrupt:
            taken_ns = (self._asked_ns + now_ns) // 2
            sounds_ns = taken_ns + timing.sink_usec * 1_000
            self._into.note(Reading(timing.read_index // _BYTES, sounds_ns, taken_ns))


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libpulse.so.0")
    except OSError:
        raise SoundCardError(
            "PulseAudio's library is missing: install Debian's libpulse0"
        ) from None
    for name in (
        "pa_threaded_mainloop_new",
        "pa_threaded_mainloop_get_api",
        "pa_context_new",
        "pa_stream_new",
        "pa_stream_get_timing_info",
        "pa_stream_update_timing_info",
    ):
        getattr(library, name).restype = ctypes.c_void_p
    library.pa_strerror.restype = ctypes.c_char_p
    return library
