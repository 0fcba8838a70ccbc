"""Sound cards and microphones through PortAudio, where it is installed.

Imported late, because Loa runs without it: nothing here touches the library before it is asked
for a device. Callbacks run on PortAudio's own thread; what they may touch is their owner's duty.
"""

import atexit
import importlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from codec.errors import CodecError
from codec.format import SAMPLE_RATE

_INVALID_RATE: Final = -9997
# What PortAudio calls with: the buffer (n, channels), n, the times, the flags.
Callback = Callable[[Any, int, Any, Any], None]


class SoundCardError(CodecError):
    """No such card, or it refuses: one line for a person, with what to do about it."""


@dataclass(frozen=True, slots=True)
class Direction:
    """One of the two ways sound goes through a card, and how a person says which card."""

    kind: str
    noun: str
    option: str


PLAYING: Final = Direction("output", "sound card", "--output device:NAME")
RECORDING: Final = Direction("input", "microphone", "mic:NAME")


class SoundStream:
    """An open stream of PortAudio's."""

    def __init__(self, stream: Any) -> None:
        """Takes a stream of the `sounddevice` module, not started."""
        self._stream = stream

    @property
    def latency_s(self) -> float:
        """How long samples take through the card, as it states."""
        return float(self._stream.latency)

    @property
    def time_s(self) -> float:
        """PortAudio's clock: on most systems, but not on all, that of a callback's times.

        0 if it cannot be read.
        """
        try:
            return float(self._stream.time)
        except library().PortAudioError:
            return 0.0

    def start(self) -> None:
        """Let the callback be called; SoundCardError if the device refuses."""
        try:
            self._stream.start()
        except library().PortAudioError as error:
            raise SoundCardError(f"the device cannot be started: {_reason(error)}") from None

    def close(self) -> None:
        """Stop at once and give the device back; hangs as long as a sound server that hangs."""
        self._stream.abort()
        self._stream.close()


def library() -> Any:
    """The `sounddevice` module; SoundCardError where it or PortAudio is not installed."""
    try:
        return importlib.import_module("sounddevice")
    except (ImportError, OSError):
        raise SoundCardError(
            "sound cards need PortAudio: install Debian's libportaudio2, then `make sound` "
            "(or pip install 'loa[sound]')"
        ) from None


def refresh() -> None:
    """Look at the machine's devices anew: PortAudio lists them once, when it is initialised.

    No stream may be open. SoundCardError if PortAudio does not come back.
    """
    module = library()
    # It is not initialised if the last attempt has failed.
    with suppress(module.PortAudioError):
        module._terminate()  # noqa: SLF001 - there is no public name for it
    try:
        module._initialize()  # noqa: SLF001
    except module.PortAudioError as error:
        raise SoundCardError(f"PortAudio cannot start: {_reason(error)}") from None


def forsake() -> None:
    """A stream hangs and will for ever: PortAudio must not wait for it when the process ends."""
    atexit.unregister(library()._exit_handler)  # noqa: SLF001


def listing(direction: Direction) -> list[str]:
    """One line for each device: its number, which may be used for its name, and its name."""
    default = _default(direction)
    return [
        f"{index} {name}{' (default)' if index == default else ''}"
        for index, name in _devices(direction).items()
    ]


def find(direction: Direction, name: str) -> int:
    """PortAudio's number of a device: of the default one if `name` is empty.

    Otherwise `name` is a number, a whole name or part of one, in any case. SoundCardError with
    the names there are if that is none of them, or more than one.
    """
    devices = _devices(direction)
    if not devices:
        raise SoundCardError(f"this machine has no {direction.noun}")
    if not name:
        return _default(direction)
    if name.isascii() and name.isdigit() and int(name) in devices:
        return int(name)
    sought = name.casefold()
    whole = [index for index, known in devices.items() if known.casefold() == sought]
    part = [index for index, known in devices.items() if sought in known.casefold()]
    found = whole or part
    if len(found) != 1:
        fault = f"{len(found)} {direction.noun}s are" if found else f"no {direction.noun} is"
        raise SoundCardError(f"{fault} called {name}; {_choice(direction, devices)}")
    return found[0]


def open_stream(
    direction: Direction,
    name: str,
    latency_s: float,
    callback: Callback,
    finished: Callable[[], None],
) -> SoundStream:
    """A stream at 48 kHz, float32, of one channel, or two where the device has no less.

    It is not started. `callback` and `finished` are called on PortAudio's thread. SoundCardError
    if there is no such device or it refuses.
    """
    module = library()
    index = find(direction, name)
    maker = module.OutputStream if direction is PLAYING else module.InputStream
    error = None
    for channels in (1, 2):
        try:
            stream = maker(
                device=index,
                samplerate=SAMPLE_RATE,
                channels=channels,
                dtype="float32",
                blocksize=0,  # the card's own: fixed blocks would go through one more buffer
                latency=latency_s,
                callback=callback,
                finished_callback=finished,
            )
        except module.PortAudioError as refusal:
            error = error or refusal
        else:
            return SoundStream(stream)
    devices = _devices(direction)
    what = f"the {direction.noun} {devices.get(index, name)} "
    if error is not None and error.args[1:2] == (_INVALID_RATE,):
        raise SoundCardError(f"{what}refuses 48 kHz; {_choice(direction, devices)}") from None
    raise SoundCardError(
        f"{what}cannot be opened: {_reason(error)}; {_choice(direction, devices)}"
    ) from None


def hush_libraries() -> None:
    """Silence what PortAudio and ALSA write to standard error, for the rest of the process.

    They explain there, in many lines, what Loa says in one. Python's own standard error moves to
    a descriptor of its own; descriptor 2 leads nowhere.
    """
    sys.stderr.flush()
    # It lives as long as the process.
    own = open(  # noqa: SIM115
        os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = own


def _devices(direction: Direction) -> dict[int, str]:
    return {
        index: str(device["name"])
        for index, device in enumerate(library().query_devices())
        if device[f"max_{direction.kind}_channels"] > 0
    }


def _default(direction: Direction) -> int:
    return int(library().default.device[direction is PLAYING])


def _choice(direction: Direction, devices: dict[int, str]) -> str:
    return f"choose by {direction.option} from: {', '.join(devices.values())}"


def _reason(error: Exception | None) -> str:
    """What PortAudio says, without the name of its function: 'Device unavailable'."""
    details = error.args if error is not None else ()
    if len(details) > 2:  # the system's own words
        return str(details[2][2])
    return str(details[0] if details else error).rpartition(": ")[2]
