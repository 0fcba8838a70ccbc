"""A station for those who speak: HTTP, time and ingest, each a thread on loopback, with TLS."""

import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typing_extensions import override

from server.ingest import ObjectStream
from server.usher.timekeeper import TimeKeeper
from tests.support.tls import station_tls
from transport.net.clocks import MediaClock, media_epoch_ns
from transport.net.stamped import udp_socket

# Never waited for unless something is broken.
PATIENCE_S = 5.0


class FakeStation:
    """Grants whatever is asked for; what it does with sound is `ingest`'s to say.

    `ingest` is called with each connection's ObjectStream, in the order in which they come.
    """

    def __init__(self, held: ExitStack) -> None:
        self.asked: list[Any] = []
        self.shown: list[str | None] = []  # what stood in the head of each request
        self.reply: tuple[int, bytes] | None = None
        self.ingest: list[Callable[[ObjectStream, Any], None]] = []
        self.playout_delay_ms = 40.0  # D of what is granted
        self.broke_off = threading.Event()  # a connection of a source is over
        self.clock = MediaClock(media_epoch_ns())
        self._over = threading.Event()
        self._time = held.enter_context(udp_socket("127.0.0.1", 0))
        self.time_port = int(self._time.getsockname()[1])
        self._listening = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.ingest_port = int(self._listening.getsockname()[1])
        self._tls = station_tls().accepting()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.socket = self._tls.wrap_socket(
            self._http.socket, server_side=True, do_handshake_on_connect=False
        )
        self.address = f"127.0.0.1:{self._http.server_address[1]}"
        self._threads = [
            threading.Thread(target=act)
            for act in (self._tell_time, self._take_sound, self._answer_http)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Every thread ends."""
        self._over.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._http.shutdown()
        self._http.server_close()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    def grant(self) -> dict[str, Any]:
        """What the true station answers."""
        return {
            "programme": "live-1",
            "ticket": "ticket",
            "ingest_port": self.ingest_port,
            "time_port": self.time_port,
            "playout_delay_ms": self.playout_delay_ms,
            "listening": ["a"],
            "not_listening": ["b"],
            "sdp": None,
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        station = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                station.shown.append(self.headers["Authorization"])
                length = int(self.headers["Content-Length"])
                station.asked.append(json.loads(self.rfile.read(length)))
                status, body = station.reply or (201, json.dumps(station.grant()).encode())
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            @override
            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

    def _answer_http(self) -> None:
        self._http.serve_forever(poll_interval=0.01)

    def _tell_time(self) -> None:
        keeper = TimeKeeper(self._time, self.clock, bytes(32))
        while not self._over.is_set():
            if select.select([self._time], [], [], 0.01)[0]:
                keeper.serve()

    def _take_sound(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE_S)
            # Chosen only now: a test may still be saying what shall happen while this thread waits.
            act = self._next_ingest()
            with (
                suppress(OSError),
                connection,
                self._tls.wrap_socket(connection, server_side=True) as secured,
            ):
                stream = ObjectStream(secured)
                if act is not None:
                    act(stream, stream.receive())
            self.broke_off.set()

    def _next_ingest(self) -> Callable[[ObjectStream, Any], None] | None:
        # Once all that was foreseen has happened, the last behaviour is repeated.
        while not self.ingest:
            if self._over.wait(0.001):
                return None
        return self.ingest.pop(0) if len(self.ingest) > 1 else self.ingest[0]


@pytest.fixture
def station(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStation]:
    """See FakeStation; it grants, tells the time, and takes sound as `ingest` says.

    The environment holds what it takes to be let in.
    """
    for name, value in station_tls().environment.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as held:
        station = FakeStation(held)
        try:
            yield station
        finally:
            station.end()
