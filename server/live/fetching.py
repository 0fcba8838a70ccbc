"""What an address has, fetched for FFmpeg: by HTTP and nothing else.

Python's own `ssl` verifies whoever is called, against the system's authorities, for every segment
of an HLS stream too.
"""

import http.client
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol
from weakref import WeakSet

from typing_extensions import override

from codec.errors import SourceError

# A connection that gives nothing for so long has stopped.
QUIET_SOCKET_S: Final = 5.0
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


class Network:
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

    def __init__(self, network: Network, response: _Response | None) -> None:
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
        response: _Response = opener.open(request, timeout=QUIET_SOCKET_S)
        return response

    return fetch
