"""Internet radio and other sound behind an address: HTTP, Icecast, HLS.

FFmpeg demuxes and decodes, but opens nothing: `fetching` fetches every byte it wants. Left to
itself (as PyAV builds it) it would verify no certificate, and if told to, still none of an HLS
stream's segments; and a playlist could name files. No ICY metadata is asked for, so none can be
mistaken for sound.
"""

import http.client
import ssl
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import av
import av.error

from codec.dsp.silence import SilenceDetector
from codec.errors import SourceError
from codec.format import SAMPLE_RATE, Samples
from codec.sources.blocks import reblock
from codec.sources.convert import Converter
from server.live.fetching import QUIET_SOCKET_S, Network

# An HLS stream is quiet between segments of ten seconds and more; beyond this it has stopped.
_QUIET_STREAM_S: Final = 30.0
# A server that sends a byte a second is never quiet: so much for all of an opening.
_BEGIN_S: Final = 15.0
# A thread whose connection has been cut ends at once; one that looks a name up may not.
_LEAVING_S: Final = 0.5
_LONGEST_HOST: Final = 253
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 8.0
# A connection that has carried so much was a good one: the next pause is a short one again.
_GOOD_SAMPLES: Final = 10 * SAMPLE_RATE
_OPTIONS: Final = {
    "protocol_whitelist": "none",
    "analyzeduration": "200000",
    # Connections that FFmpeg keeps open must be its own: it stops the process over ours.
    "http_persistent": "0",
    "http_multiple": "0",
}


def _ignore(_: str) -> None:
    pass


class UrlSource:
    """The sound at an http or https address, as 48 kHz blocks of any length, for ever.

    `channels` is 1 or 2: blocks are (n,) or (n, 2). Where the stream ends, breaks or gives nothing
    for 5 s it is opened again and again, after pauses of 0.5 to 8 s. `on_event` gets a line when
    it is lost, back, silent for as long as `silence` says, and heard again. An opening that has
    found no sound after `begin_s` has failed.

    SourceError if it cannot be opened in the first place; ValueError for what is no such address.
    `pause` and `tls` are for tests.
    """

    def __init__(
        self,
        url: str,
        channels: int = 1,
        *,
        on_event: Callable[[str], None] = _ignore,
        silence: SilenceDetector | None = None,
        begin_s: float = _BEGIN_S,
        pause: Callable[[float], object] = time.sleep,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if not _is_address(url):
            msg = f"{url!r} is no address of a stream, as in https://radio.example/live.mp3"
            raise ValueError(msg)
        if channels not in {1, 2}:
            msg = f"channels must be 1 or 2, not {channels}"
            raise ValueError(msg)
        self.name = url
        self._channels = channels
        self._say = on_event
        self._silence = silence or SilenceDetector()
        self._pause = pause
        self._begin_s = begin_s
        self._tls = tls or ssl.create_default_context()
        self._opened: _Stream | None = None

    def connect(self) -> None:
        """Open it now, so that whoever is to listen is not called for nothing; SourceError."""
        try:
            self._opened = self._open()
        except _FAILURES as error:
            raise SourceError(f"{self.name}: {_explain(error)}") from error

    def blocks(self, samples: int) -> Iterator[Samples]:
        """Blocks of exactly `samples`."""
        return reblock(self, samples)

    def __iter__(self) -> Iterator[Samples]:
        """Blocks as they come; waits where there are none."""
        if self._opened is None:
            self.connect()
        pause_s = _FIRST_PAUSE_S
        lost = False
        while True:
            heard = 0
            reason = "the stream ended"
            try:
                for block in self._read():
                    if lost:
                        self._say(f"{self.name} is back")
                        lost = False
                    heard += len(block)
                    self._listen(block)
                    yield block
            except _FAILURES as error:
                reason = _explain(error)
            if not lost:
                self._say(f"{self.name} lost: {reason}; trying again")
                lost = True
            pause_s = _FIRST_PAUSE_S if heard >= _GOOD_SAMPLES else pause_s
            self._pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _read(self) -> Iterator[Samples]:
        stream = self._opened or self._open()
        self._opened = None
        with closing(stream):
            yield from stream.blocks()

    def _open(self) -> "_Stream":
        network = Network(self._tls)
        return _begun(partial(_Stream, self.name, self._channels, network), network, self._begin_s)

    def _listen(self, block: Samples) -> None:
        match self._silence.feed(block):
            case "silence":
                self._say(f"silence for {self._silence.seconds:g} s from {self.name}")
            case "sound":
                self._say(f"sound again from {self.name}")
            case None:
                pass


def _is_address(url: str) -> bool:
    if not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        # Of a port that cannot be, and of a name that is too long, one hears only by asking.
        host, _ = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:
        return False
    sendable = f"{parts.path}{parts.query}".isascii() and 0 < len(host) <= _LONGEST_HOST
    return sendable and parts.scheme in {"http", "https"}


def _begun(begin: Callable[[], "_Stream"], network: Network, limit_s: float) -> "_Stream":
    """What `begin` gives, on a thread of its own: no signal shall arrive inside of FFmpeg.

    SourceError if it takes longer than `limit_s`. A thread that is not waited for any more finds
    its network gone, and throws away what it may have got.
    """
    future: Future[_Stream] = Future()
    thread = threading.Thread(target=_fulfil, args=(future, begin), name="opening", daemon=True)
    thread.start()
    try:
        wait([future], limit_s)
        if not future.cancel():
            return future.result()
        raise SourceError(f"it did not begin to send within {limit_s:g} s; check the address")
    except BaseException:
        _leave(future, network)
        thread.join(_LEAVING_S)
        raise


def _fulfil(future: "Future[_Stream]", begin: Callable[[], "_Stream"]) -> None:
    try:
        stream = begin()
    except BaseException as error:  # noqa: BLE001 - whoever waits is told
        with suppress(InvalidStateError):
            future.set_exception(error)
        return
    try:
        future.set_result(stream)
    except InvalidStateError:
        stream.close()


def _leave(future: "Future[_Stream]", network: Network) -> None:
    if future.cancel():
        network.abandon()
    elif future.exception() is None:
        future.result().close()


class _Stream:
    """One opening of the address; it closes the network."""

    def __init__(self, url: str, channels: int, network: Network) -> None:
        self._channels = channels
        self._network = network
        with ExitStack() as failing:
            failing.enter_context(closing(network))
            self._container = failing.enter_context(_open(url, self._network))
            network.check_interrupt()
            audio = self._container.streams.best("audio")
            if not isinstance(audio, av.AudioStream):
                raise SourceError("it has no audio in it; check the address")
            self._audio = audio
            self._held = failing.pop_all()

    def blocks(self) -> Iterator[Samples]:
        """Until it ends or breaks."""
        converter = Converter(self._channels)
        for packet in self._packets():
            # One damaged packet, as where we came in, costs its own sound only.
            frames = []
            with suppress(av.error.InvalidDataError):
                frames = packet.decode()
            for frame in frames:
                yield from converter.push(frame)
        yield from converter.flush()
        self._network.check()

    def _packets(self) -> Iterator[Any]:
        try:
            for packet in self._container.demux(self._audio):
                self._network.check_interrupt()
                yield packet
        except av.error.FFmpegError:
            # It has not seen why.
            self._network.check()
            raise

    def close(self) -> None:
        """The connections too."""
        self._held.close()


def _open(url: str, network: Network) -> Any:
    timeout = (_QUIET_STREAM_S, _QUIET_STREAM_S)
    try:
        container = av.open(
            url, io_open=network.open, options=_OPTIONS, timeout=timeout, metadata_errors="replace"
        )
    except av.error.FFmpegError:
        # Of what could not be fetched FFmpeg has seen only that it was empty.
        if not network.speaks_icy or not url.startswith("http:"):
            network.check()
            raise
        # SHOUTcast 1 says "ICY 200 OK", no HTTP, which FFmpeg understands; and knows no TLS.
        options = {**_OPTIONS, "protocol_whitelist": "http,tcp", "icy": "0"}
        options["format_whitelist"] = "mp3,aac,ogg"
        network.failure = None
        return av.open(url, options=options, timeout=QUIET_SOCKET_S, metadata_errors="replace")
    return container


# What a network, a server and its bytes can do to us. FFmpegError first among equals.
_FAILURES: Final = (
    av.error.FFmpegError,
    OSError,
    http.client.HTTPException,
    SourceError,
)


def _explain(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return _explain(error.reason)
    match error:
        case urllib.error.HTTPError():
            error.close()
            said = f"the server answered {error.code} ({error.reason}); check the address"
        case ssl.SSLCertVerificationError():
            said = f"its certificate is not trusted ({error.verify_message}); check the address"
        case TimeoutError() | av.error.ExitError():
            said = "it gives no data; check the address and the network"
        case SourceError():
            said = str(error)
        case av.error.FFmpegError() | http.client.HTTPException():
            said = "it is not sound we can read; give the stream itself, not a page about it"
        case _:
            why = getattr(error, "strerror", None) or error
            said = f"{why}; check the address and the network"
    # What the server and Python's own words say may have lines.
    return " ".join(said.split())
