"""What all commands share: the station's address, one line for an error, exit statuses."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest
from typing_extensions import override

from server.cli import commands, loudness, speakers, stop, top, zones
from server.remote import ApiError, call, path_of, rows
from tests.support.ports import nobodys_port
from tests.support.tls import TOKEN, station_tls


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it takes to be let in."""
    for name, value in station_tls().environment.items():
        monkeypatch.setenv(name, value)


class _Handler(http.server.BaseHTTPRequestHandler):
    reply = (200, b"[]")
    address = ""
    shown: ClassVar[list[str | None]] = []

    def _answer(self) -> None:
        self.shown.append(self.headers["Authorization"])
        status, body = self.reply
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_DELETE = _answer  # noqa: N815 - as http.server has it

    @override
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def answering() -> Iterator[type[_Handler]]:
    """Something that answers every request alike; `address` is where."""

    class Handler(_Handler):
        shown: ClassVar[list[str | None]] = []

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = station_tls().accepting().wrap_socket(server.socket, server_side=True)
        Handler.address = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Handler
        server.shutdown()
        thread.join()


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address where nobody listens, and nobody else can meanwhile."""
    with nobodys_port() as port:
        yield f"127.0.0.1:{port}"


def test_a_refusal_is_the_station_s_own_line(answering: type[_Handler]) -> None:
    answering.reply = (409, b'{"detail": "not now"}')
    with pytest.raises(ApiError, match=r"^not now$"):
        call(answering.address, "GET", "/")


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"title": "x"}', b""])
def test_a_refusal_without_a_line_is_a_number(answering: type[_Handler], body: bytes) -> None:
    answering.reply = (502, body)
    with pytest.raises(ApiError, match=r"^the station answered 502$"):
        call(answering.address, "GET", "/")


@pytest.mark.parametrize("reply", [(200, b"<html>"), (200, b""), (500, b"oh"), (200, b"[" * 10**5)])
def test_what_answers_something_else_is_no_station(
    answering: type[_Handler], reply: tuple[int, bytes]
) -> None:
    answering.reply = reply
    with pytest.raises(ApiError, match=f"^what answers at {answering.address} is not a station$"):
        call(answering.address, "GET", "/")


def test_a_token_that_is_not_taken_is_told_with_where_the_right_one_is(
    answering: type[_Handler],
) -> None:
    answering.reply = (401, b'{"detail": "no"}')
    with pytest.raises(ApiError, match=f"^{answering.address} does not take this token: .*LOA_TOK"):
        call(answering.address, "GET", "/")


def test_what_has_another_certificate_is_told_nothing(
    answering: type[_Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOA_FINGERPRINT", "ab" * 32)
    with pytest.raises(ApiError, match="has another certificate than the one trusted here"):
        call(answering.address, "GET", "/")
    assert answering.shown == []


def test_what_is_asked_is_asked_with_the_token(answering: type[_Handler]) -> None:
    call(answering.address, "GET", "/")
    assert answering.shown == [f"Bearer {TOKEN}"]


def test_what_speaks_no_tls_is_no_station_and_is_told_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        heard: list[bytes] = []

        def serve() -> None:
            caller, _ = listening.accept()
            with caller:
                heard.append(caller.recv(1 << 16))
                caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ApiError, match="is not a station"):
            call(f"127.0.0.1:{listening.getsockname()[1]}", "GET", "/")
        thread.join(5)
    assert TOKEN.encode() not in heard[0]


def test_what_is_done_without_a_word_is_none(answering: type[_Handler]) -> None:
    answering.reply = (204, b"")
    assert call(answering.address, "DELETE", "/") is None


@pytest.mark.parametrize("body", [b"{}", b"7", b"[7]"])
def test_what_is_no_list_where_one_is_due_comes_from_no_station(
    answering: type[_Handler], body: bytes
) -> None:
    answering.reply = (200, body)
    with pytest.raises(ApiError, match="is not a station"):
        rows(answering.address, "/")


def test_a_name_in_a_path_is_spelt_in_one_way_and_quoted() -> None:
    assert path_of("/x", "cho\u031b\u0323 ?#%") == "/x/ch%E1%BB%A3%20%3F%23%25"
    assert path_of("/x", "a/b", nested=True) == "/x/a/b"
    assert path_of("/x", "\udcff") == "/x/%3F"


@pytest.mark.parametrize("name", ["", "/", "a/b"])
def test_what_would_be_another_path_is_no_name(name: str) -> None:
    with pytest.raises(ApiError, match="is no name"):
        path_of("/x", name)


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (stop.main, []),
        (zones.main, ["show", "x"]),
        (speakers.main, []),
        (loudness.mute, ["--to", "a"]),
        (commands.restart, ["--to", "a"]),
        (top.main, ["--once"]),
    ],
)
def test_a_station_that_is_not_there_is_one_line(
    nowhere: str, capsys: pytest.CaptureFixture[str], verb: object, words: list[str]
) -> None:
    assert callable(verb)
    assert verb(["--server", nowhere, *words]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert f"station not found at {nowhere}: Connection refused (start it with" in said.err
    assert len(said.err.splitlines()) == 1


def test_a_station_of_another_version_is_one_line(
    answering: type[_Handler], capsys: pytest.CaptureFixture[str]
) -> None:
    answering.reply = (200, b'[{"name": "a"}]')
    assert speakers.main(["--server", answering.address]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("loa speakers: the station's answer is not understood: KeyError")
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("words", [["--server", "host:"], ["show", "x", "--server", ":1"]])
def test_what_is_no_address_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        zones.main(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "use host, host:port or [IPv6]" in said
    assert len(said.splitlines()) == 1


def test_the_environment_says_where_the_station_is(
    answering: type[_Handler], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering.reply = (200, json.dumps([]).encode())
    monkeypatch.setenv("LOA_SERVER", answering.address)
    assert zones.main(["--json"]) == 0
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize("before", [True, False])
def test_the_server_may_be_said_before_or_behind_a_verb(
    nowhere: str,
    answering: type[_Handler],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    before: bool,
) -> None:
    monkeypatch.setenv("LOA_SERVER", nowhere)
    answering.reply = (200, b'{"name": "x"}')
    where, verb = ["--server", answering.address, "--json"], ["show", "x"]
    assert zones.main([*where, *verb] if before else [*verb, *where]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "x"}
