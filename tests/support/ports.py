"""Ports for a station that is started again at the same ones, and where there is none."""

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

# Below what Linux takes for whoever calls: one that has just been left might be somebody's by then.
_FIRST, _BEHIND = 20_000, 32_000
# As many as a station has in a row.
_IN_A_ROW = 5


def port_of_its_own() -> int:
    """The first of some TCP and UDP ports in a row that nobody has."""
    while True:
        port = random.randrange(_FIRST, _BEHIND, 2 * _IN_A_ROW)
        with ExitStack() as opened:
            try:
                for number in range(port, port + _IN_A_ROW):
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        one = opened.enter_context(socket.socket(socket.AF_INET, kind))
                        one.bind(("127.0.0.1", number))
            except OSError:
                continue
        return port


@contextmanager
def nobodys_port() -> Iterator[int]:
    """A TCP port where nobody listens, nor can while this lasts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
