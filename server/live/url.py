"""Internet radio and other sound behind an address: HTTP, Icecast, HLS.

FFmpeg demuxes and decodes, but opens nothing: every byte it wants is fetched here. Left to itself
(as PyAV builds it) it would verify no certificate, and if told to, still none of an HLS stream's
segments; and a playlist could name files. Here Python's own `ssl` verifies all of them, against
the system's authorities, and there is nothing but HTTP. No ICY metadata is asked for, so none can
be mistaken for sound.
"""

import http.client
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import urlsplit
from weakref import WeakSet

import av
import av.error
from typing_extensions import override

from codec.dsp.silence import SilenceDetector
from codec.errors import SourceError
from codec.format import SAMPLE_RATE, Samples
from codec.sources.blocks import reblock
from codec.sources.convert import Converter

_QUIET_SOCKET_S: Final = 5.0
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
# Some servers turn "Python-urllib" away.
_HEADERS: Final = {"User-Agent": "Loa", "Accept": "*/*"}


class _Response(Protocol):
    """What is used of an HTTP response."""

    def read1(self, size: int, /) -> bytes:
        """At most `size` bytes, as they come; b"" at the end."""

    def close(self) -> None:
        """Nothing more is wanted."""


Fetch = Callable[[str], _Response]
Taken = Callable[[socket.socket], None]


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
        network = _Network(self._tls)
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


def _begun(begin: Callable[[], "_Stream"], network: "_Network", limit_s: float) -> "_Stream":
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


def _leave(future: "Future[_Stream]", network: "_Network") -> None:
    if future.cancel():
        network.abandon()
    elif future.exception() is None:
        future.result().close()


class _Stream:
    """One opening of the address; it closes the network."""

    def __init__(self, url: str, channels: int, network: "_Network") -> None:
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


def _open(url: str, network: "_Network") -> Any:
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
        return av.open(url, options=options, timeout=_QUIET_SOCKET_S, metadata_errors="replace")
    return container


class _Network:
    """FFmpeg's way out.

    The first failure is kept, and FFmpeg sees the end of the data instead: an exception in its
    callbacks reaches us well, but PyAV prints it if a second one comes before, and passes on none
    that is no Exception, such as Ctrl-C, but goes on with what it has not got.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.failure: BaseException | None = None
        self._fetch = _fetcher(tls, self._taken)
        self._responses: set[_Response] = set()
        # To be cut from another thread: that of the reader hangs in them.
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._abandoned = False
        self._lock = threading.Lock()

    def abandon(self) -> None:
        """From another thread: nobody waits any more, so nothing more shall be waited for."""
        with self._lock:
            self._abandoned = True
            taken = list(self._sockets)
        self.fail(SourceError("it is not waited for any more"))
        for connection in taken:
            with suppress(OSError):
                # TLS's own would forget its state, under the hands of whoever reads.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def _taken(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.add(connection)
            if self._abandoned:
                raise SourceError("it is not waited for any more")

    def fail(self, error: BaseException) -> None:
        """The first is kept. An address we were led to may be one that cannot be."""
        if isinstance(error, ValueError | http.client.InvalidURL):
            error = SourceError(f"an address in it cannot be ({error}); check the address")
        self.failure = self.failure or error

    def close(self) -> None:
        """Whatever FFmpeg has not closed: what it never got to use, it forgets."""
        for response in self._responses:
            response.close()
        self._responses.clear()

    def closed(self, response: _Response) -> None:
        """One is not wanted any more."""
        response.close()
        self._responses.discard(response)

    def check(self) -> None:
        """Raise what failed, if anything did."""
        if self.failure is not None:
            raise self.failure

    def check_interrupt(self) -> None:
        """Raise what is no failure of the network, such as Ctrl-C."""
        if not isinstance(self.failure, Exception | None):
            raise self.failure

    @property
    def speaks_icy(self) -> bool:
        """Whether the server is older than its protocol."""
        answer = self.failure
        return isinstance(answer, http.client.BadStatusLine) and str(answer).startswith("ICY")

    def open(self, url: str, _flags: int, _options: dict[str, str]) -> "_Pipe":
        """As av.open's io_open."""
        if self.failure is None:
            try:
                response = self._fetch(url)
                self._responses.add(response)
                return _Pipe(self, response)
            except BaseException as error:  # noqa: BLE001 - raised when FFmpeg has returned
                self.fail(error)
        return _Pipe(self, None)


class _Pipe:
    """A response as FFmpeg wants it: what has come, without waiting for more."""

    def __init__(self, network: _Network, response: _Response | None) -> None:
        self._network = network
        self._response = response

    def read(self, size: int) -> bytes:
        """At most `size` bytes; b"" at the end."""
        if self._response is None or self._network.failure is not None:
            return b""
        try:
            return self._response.read1(size)
        except BaseException as error:  # noqa: BLE001 - raised when FFmpeg has returned
            self._network.fail(error)
            return b""

    def close(self) -> None:
        """Nothing more is wanted."""
        if self._response is not None:
            self._network.closed(self._response)


class _Plain(http.client.HTTPConnection):
    """A connection that shows its socket."""

    def __init__(self, taken: Taken, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self._taken = taken

    @override
    def connect(self) -> None:
        super().connect()
        self._taken(self.sock)


class _Secure(_Plain, http.client.HTTPSConnection):
    """The same with TLS."""


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """HTTP with and without TLS, over connections that show their sockets."""

    def __init__(self, tls: ssl.SSLContext, taken: Taken) -> None:
        super().__init__()
        self._tls = tls
        self._taken = taken

    @override
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Plain, self._taken), req)

    @override
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Secure, self._taken), req, context=self._tls)


def _fetcher(tls: ssl.SSLContext, taken: Taken) -> Fetch:
    """A fetch of addresses by HTTP, redirections followed, and by nothing else: no file, no FTP.

    `taken` sees every socket that is connected.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Handler(tls, taken),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)

    def fetch(url: str) -> _Response:
        request = urllib.request.Request(url, headers=_HEADERS)  # noqa: S310 - see the handlers
        response: _Response = opener.open(request, timeout=_QUIET_SOCKET_S)
        return response

    return fetch


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
