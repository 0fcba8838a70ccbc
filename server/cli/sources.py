"""What `loa live` can speak: a word of the command line into blocks of sound."""

import argparse
import io
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from codec.dsp.limiter import Limiter
from codec.errors import SourceError
from codec.format import Samples
from codec.soundcard import hush_libraries
from codec.sources.blocks import first_sound, reblock
from codec.sources.chime import ChimeSource
from codec.sources.file import FileSource
from codec.sources.raw import RawFormat
from codec.sources.tone import ToneSource
from server.live.microphone import MicrophoneSource
from server.live.pace import LiveBuffer
from server.live.rtp import RtpAddress, RtpSource
from server.live.url import UrlSource

# A source that says nothing for so long has stopped; one that comes back by itself never has.
_PATIENCE_S = 5.0
_FOR_EVER_S = threading.TIMEOUT_MAX
# How much of a live source is kept, against the unevenness with which it arrives.
_CAPTURE_MS = 20.0
_NETWORK_MS = 60.0
_RADIO_MS = 2_000.0
_RADIO_BURST_MS = 12_000.0


@dataclass(frozen=True, slots=True)
class Speech:
    """Blocks to speak; with `live` they come at the source's own pace."""

    blocks: Iterator[Samples]
    live: LiveBuffer | None = None
    patience_s: float = _PATIENCE_S


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """The source and how it is treated."""
    parser.add_argument(
        "source",
        help="an audio file; - for standard input; mic or mic:NAME; http(s)://... for a radio or "
        "HLS stream; rtp://ADDRESS:PORT?codec=opus|pcmu|pcma|g722|l16; or tone",
    )
    parser.add_argument("--chime", action="store_true", help="an attention chime first, 2 s")
    parser.add_argument(
        "--gain-db",
        type=float,
        default=0.0,
        help="louder or softer; peaks are limited, never clipped (%(default)s)",
    )
    parser.add_argument("--repeat", type=int, default=1, help="a file, so many times (%(default)s)")
    parser.add_argument(
        "--raw",
        metavar="FORMAT:RATE:CHANNELS",
        help="standard input is raw PCM, e.g. s16le:48000:1",
    )


def speech(options: argparse.Namespace, samples: int, say: Callable[[str], None]) -> Speech:
    """The source that was named, in blocks of `samples`; SourceError if it cannot be had.

    A file is known to hold sound before anybody is asked to listen. `say` is told what becomes of
    a source that comes and goes.
    """
    source: str = options.source
    _check(options)
    found = _streamed(source, samples, say) or _read(options, samples)
    return Speech(
        reblock(_limited(found.blocks, options.gain_db), samples), found.live, found.patience_s
    )


def chimed(samples: int) -> Iterator[Samples]:
    """The chime, in blocks."""
    return ChimeSource().blocks(samples)


def _check(options: argparse.Namespace) -> None:
    if options.raw and options.source != "-":
        raise SourceError("--raw describes standard input: give - as the source")
    if options.repeat < 1:
        raise SourceError(f"--repeat {options.repeat}: use 1 or more")
    if options.repeat > 1 and (options.source in {"-", "tone", "mic"} or ":" in options.source):
        raise SourceError("--repeat is for a file")
    if not -60 <= options.gain_db <= 40:
        raise SourceError(f"--gain-db {options.gain_db:g}: use -60 to 40")


def _streamed(source: str, samples: int, say: Callable[[str], None]) -> Speech | None:
    """A source with a clock of its own; None if it is none of these."""
    kind, colon, rest = source.partition(":")
    if kind == "mic":
        # PortAudio tells of every fault in lines of its own, beside ours.
        hush_libraries()
        return Speech(MicrophoneSource(rest).blocks(samples), LiveBuffer(_CAPTURE_MS))
    if colon and kind in {"http", "https"}:
        radio = UrlSource(source, on_event=say)
        radio.connect()
        # What a server sends at once at the beginning waits; it is not thrown away.
        buffer = LiveBuffer(_RADIO_MS, _RADIO_BURST_MS, patient=True)
        return Speech(iter(radio), buffer, _FOR_EVER_S)
    if colon and kind == "rtp":
        stream = RtpSource(RtpAddress.parse(source), on_event=say)
        stream.connect()
        return Speech(iter(stream), LiveBuffer(_NETWORK_MS), _FOR_EVER_S)
    return None


def _read(options: argparse.Namespace, samples: int) -> Speech:
    if options.source == "tone":
        return Speech(ToneSource().blocks(samples))
    if options.source == "-":
        raw = _raw(options.raw) if options.raw else None
        blocks = FileSource("-", stream=_standard_input(), raw=raw).blocks(samples)
        # A recorder speaks at its own pace, `cat` as fast as it is let: the buffer finds out.
        return Speech(blocks, LiveBuffer(_CAPTURE_MS, patient=True))
    if first_sound(FileSource(options.source)) is None:
        raise SourceError(f"{options.source} is silent throughout: nothing was sent")
    return Speech(_repeated(options.source, options.repeat, samples))


def _raw(text: str) -> RawFormat:
    try:
        return RawFormat.parse(text)
    except ValueError as error:
        raise SourceError(f"--raw {text}: {error}; as in s16le:48000:1") from None


def _standard_input() -> io.BufferedReader:
    """A reader of our own: a thread that hangs in `sys.stdin` would break Python's own exit."""
    return io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False))


def _repeated(path: str, times: int, samples: int) -> Iterator[Samples]:
    for _ in range(times):
        yield from FileSource(path).blocks(samples)


def _limited(blocks: Iterator[Samples], gain_db: float) -> Iterator[Samples]:
    """As long as it was: the silence with which a limiter that looks ahead begins is left out."""
    limiter = Limiter(gain_db)
    left = limiter.delay_samples
    for block in blocks:
        limited = limiter.process(block)
        begin, left = min(left, len(limited)), max(left - len(limited), 0)
        yield limited[begin:]
    yield limiter.flush()
