"""Ctrl-C while `loa live` waits for a server: it ends at once, and says so in a line at most."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest

from bench.processes import Bench, wait_until

pytestmark = pytest.mark.realtime
PATIENCE_S = 3.0
Answer = Callable[[socket.socket, threading.Event], None]


def silent(_: socket.socket, over: threading.Event) -> None:
    """It takes the call, and says nothing."""
    over.wait()


def trickling(call: socket.socket, over: threading.Event) -> None:
    """It is never quiet for long, and there is no sound."""
    call.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n")
    while not over.wait(0.1):
        call.sendall(b"x")


class Server:
    """One caller, answered as it is told to."""

    def __init__(self, answer: Answer) -> None:
        self.asked = threading.Event()
        self._answer = answer
        self._over = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            call, _ = self._listening.accept()
            with call:
                call.recv(4096)
                self.asked.set()
                self._answer(call, self._over)

    def close(self) -> None:
        self._over.set()
        self._listening.close()


@pytest.fixture
def servers() -> Iterator[Callable[[Answer], Server]]:
    started: list[Server] = []

    def start(answer: Answer) -> Server:
        started.append(Server(answer))
        return started[-1]

    yield start
    for server in started:
        with closing(server):
            pass


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("answer", [silent, trickling])
def test_ctrl_c_while_connecting(
    station: Bench, servers: Callable[[Answer], Server], scheme: str, answer: Answer
) -> None:
    server = servers(answer)
    words = [f"{scheme}://{server.address}/", "--server", station.address, "--to", "all"]
    live = station.start("live", *words, log="live", env={"no_proxy": "*"})
    wait_until(server.asked.is_set, "a call", 30)
    if live.poll() is None:
        live.send_signal(signal.SIGINT)
    assert live.wait(PATIENCE_S) in {0, 1, 130, -signal.SIGINT}
    said = station.log("live")
    assert len(said.splitlines()) <= 1
    assert "Traceback" not in said
