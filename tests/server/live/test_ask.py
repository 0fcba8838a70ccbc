"""Asking for the right to speak, and what is said when there is no such right, or no station."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from server.keys.tls import Trust
from server.live.station import Grant, LiveError
from server.live.station import ask as ask_with
from server.remote import Credentials
from tests.support.ports import nobodys_port
from tests.support.tls import TOKEN, station_tls

Station = Any  # the fixture's; see conftest


def ask(server: str, request: dict[str, object]) -> Grant:
    return ask_with(server, request, station_tls().credentials)


def test_what_is_granted_is_what_the_station_said(station: Station) -> None:
    request: dict[str, object] = {"to": ["a", "b"], "bitrate": 32_000}
    assert ask(station.address, request) == Grant(
        host="127.0.0.1",
        programme="live-1",
        ticket="ticket",
        ingest_port=station.ingest_port,
        time_port=station.time_port,
        playout_delay_ms=40.0,
        listening=("a",),
        not_listening=("b",),
        sdp=None,
    )
    assert station.asked == [request]


def test_the_token_is_shown_to_the_station(station: Station) -> None:
    ask(station.address, {})
    assert station.shown == [f"Bearer {TOKEN}"]


def test_the_token_is_not_shown_to_whom_we_do_not_trust(station: Station) -> None:
    with pytest.raises(LiveError, match="has another certificate than the one trusted here"):
        ask_with(station.address, {}, Credentials(TOKEN, Trust(bytes(32))))
    assert station.shown == []


def test_a_description_is_given_with_its_whole_address(station: Station) -> None:
    station.reply = (201, json.dumps({**station.grant(), "sdp": "/programmes/x.sdp"}).encode())
    assert ask(station.address, {}).sdp == f"https://{station.address}/programmes/x.sdp"


@pytest.mark.parametrize("status", [404, 409, 422, 500])
def test_a_refusal_is_repeated_in_the_station_s_own_words(station: Station, status: int) -> None:
    station.reply = (status, b'{"detail": "no loudspeaker \'x\'; nearest: y"}')
    with pytest.raises(LiveError) as refused:
        ask(station.address, {})
    assert str(refused.value) == "no loudspeaker 'x'; nearest: y"


@pytest.mark.parametrize(
    ("status", "body"), [(500, b"{}"), (404, b'{"title": "x"}'), (502, b"[]"), (302, b"")]
)
def test_an_answer_without_words_is_told_by_its_number(
    station: Station, status: int, body: bytes
) -> None:
    station.reply = (status, body)
    with pytest.raises(LiveError, match=f"^the station answered {status}$"):
        ask(station.address, {})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>It works!</html>",
        b"\xff",
        b"{}",
        b"[]",
        b'{"programme": "x", "sdp": null}',
        b'{"sdp": null, "programme": "p", "ticket": "t", "ingest_port": 1, "listening": []}',
    ],
)
def test_something_else_that_answers_created_is_no_station(station: Station, body: bytes) -> None:
    station.reply = (201, body)
    with pytest.raises(LiveError, match=f"^what answers at {station.address} is not a station$"):
        ask(station.address, {})


@contextmanager
def saying(answer: bytes) -> Iterator[str]:
    """Something that listens and is no HTTP server."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 400 Bad\r\n\r\n"])
def test_what_speaks_no_tls_is_no_station(answer: bytes) -> None:
    with saying(answer) as address, pytest.raises(LiveError, match="is not a station"):
        ask(address, {})


def test_where_nobody_listens_no_station_is_found_and_the_reason_said() -> None:
    with nobodys_port() as port, pytest.raises(LiveError) as refused:
        ask(f"127.0.0.1:{port}", {})
    said = str(refused.value)
    assert said.startswith(f"station not found at 127.0.0.1:{port}: Connection refused (start it")


def test_a_host_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(LiveError, match=r"^station not found at nowhere\.invalid:7460: "):
        ask("nowhere.invalid", {})


@pytest.mark.parametrize("server", ["", ":", ":7460", "host:", "host:0", "host:65536", "host:x"])
def test_what_is_no_address_is_refused_before_anybody_is_asked(server: str) -> None:
    with pytest.raises(LiveError, match=r"use host, host:port or \[IPv6\]"):
        ask(server, {})
