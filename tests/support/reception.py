"""A process with the sessions of a station, over real TLS, and nothing else of it.

`python -m tests.support.reception COUNT` knows loudspeakers "0" to COUNT-1, prints its port, and
for each line on its standard input one with how many sessions are open, its resident memory in KB,
and its CPU time in seconds. It ends with its standard input.
"""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop
from fastapi import WebSocket
from starlette.types import Receive, Scope, Send

from server.__main__ import _Server
from server.data import DataFolder
from server.limits import (
    connections,
    give_back_what_is_freed,
    give_up_on_the_deaf,
    limits_here,
    wait_for_words,
)
from tests.support.sessions import Room, credentials
from tests.support.tls import station_tls

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Figures:
    """What such a process says of itself."""

    sessions: int
    memory_kb: int
    cpu_s: float


class Reception:
    """Such a process, as whoever started it sees it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.port = int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def figures(self) -> Figures:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        sessions, memory_kb, cpu_s = self._line().split()
        return Figures(int(sessions), int(memory_kb), float(cpu_s))


@contextmanager
def reception(count: int) -> Iterator[Reception]:
    """One that runs while the block does."""
    words = [sys.executable, "-m", "tests.support.reception", str(count)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Reception(process)
        finally:
            process.kill()


def _memory_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


async def _serve(count: int) -> None:
    folder = DataFolder(Path(tempfile.mkdtemp(prefix="loa-reception-")) / "station")
    folder.create("Tân Phú")
    tls = station_tls()
    room = Room(folder.database, joined=lambda: None)
    room.sessions.credentials = replace(credentials(1), tls_hash=tls.hash)
    for number in range(count):
        room.register(f"{number}")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        await room.sessions.serve(WebSocket(scope, receive, send))

    def tell() -> None:
        if not sys.stdin.readline():
            os._exit(0)
        print(len(room.sessions._open), _memory_kb(), time.process_time(), flush=True)

    listening = socket.create_server(("127.0.0.1", 0))
    give_up_on_the_deaf(listening)
    wait_for_words(listening)
    asyncio.get_running_loop().add_reader(0, tell)
    context = tls.accepting()
    context.num_tickets = 0
    gc.freeze()
    print(listening.getsockname()[1], flush=True)
    await _Server(connections(application, limits_here()), context).serve(sockets=[listening])


if __name__ == "__main__":
    give_back_what_is_freed()
    uvloop.run(_serve(int(sys.argv[1])))
