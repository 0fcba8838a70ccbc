"""What looks like a listening socket to an entrance."""

import select
import socket

import pytest

from server.hall.hall import HandedOn


def is_readable(handed: HandedOn) -> bool:
    return bool(select.select([handed], [], [], 0)[0])


def connected(listening: socket.socket) -> tuple[socket.socket, socket.socket]:
    caller = socket.create_connection(listening.getsockname())
    return caller, listening.accept()[0]


def test_it_is_readable_as_long_as_somebody_waits() -> None:
    with HandedOn() as handed, socket.create_server(("127.0.0.1", 0)) as listening:
        for _ in range(2):
            pairs = [connected(listening) for _ in range(2)]
            assert not is_readable(handed)
            for _, connection in pairs:
                handed.put(connection)
            for left, (caller, connection) in zip((1, 0), pairs, strict=True):
                assert is_readable(handed)
                assert handed.accept() == (connection, caller.getsockname())
                assert len(handed) == left
                caller.close()
                connection.close()
            assert not is_readable(handed)
            with pytest.raises(BlockingIOError):
                handed.accept()


def test_who_has_gone_meanwhile_is_closed_and_not_accepted() -> None:
    never_connected = socket.socket()
    with HandedOn() as handed:
        handed.put(never_connected)
        with pytest.raises(ConnectionError):
            handed.accept()
        assert never_connected.fileno() < 0


def test_closed_it_closes_whoever_waits() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        handed = HandedOn()
        handed.put(ours)
        handed.close()
        assert theirs.recv(1) == b""
