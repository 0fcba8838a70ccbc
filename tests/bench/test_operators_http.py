"""A console's connection, against a peer that says what the test has it say."""

import asyncio
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bench.operators_http import Answer, BrokenError, Line, trusting

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-subj", "/CN=bench", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    return certificate, key


def played(pem: tuple[Path, Path], peer: Peer, client: Callable[[Line], Awaitable[None]]) -> None:
    """Client against peer, to the client's end."""

    async def run() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pem)
        server = await asyncio.start_server(peer, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        line = Line("127.0.0.1", port, trusting(pem[0]), "127.2.0.9")
        async with asyncio.timeout(20):
            await client(line)
            await line.close()
            server.close()
            await server.wait_closed()
            # Transports are let go of a turn after they are closed.
            await asyncio.sleep(0.01)

    asyncio.run(run())


def saying(*answers: bytes) -> Peer:
    """One answer to each request, all on one connection."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for answer in answers:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        writer.close()

    return peer


async def ask(line: Line, timeout_s: float = 5.0) -> Answer:
    return await line.call("GET", "/x", None, "loa-session-1", timeout_s)


def test_a_connection_is_used_again(pem: tuple[Path, Path]) -> None:
    async def client(line: Line) -> None:
        assert await line.ready() is not None
        assert (await ask(line)).done == []
        assert await line.ready() is None
        assert (await ask(line)).status == 200

    played(pem, saying(OK, OK), client)


def test_one_that_was_closed_is_made_anew(pem: tuple[Path, Path]) -> None:
    async def client(line: Line) -> None:
        for _ in range(2):
            assert await line.ready() is not None
            assert (await ask(line)).done == []
            await asyncio.sleep(0.05)

    played(pem, saying(OK), client)


def test_what_comes_in_chunks_is_put_together(pem: tuple[Path, Path]) -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n2;a=b\r\n1]\r\n0\r\n\r\n"
    )

    async def client(line: Line) -> None:
        await line.ready()
        assert (await ask(line)).done == [1]
        assert (await ask(line)).done == []

    played(pem, saying(chunked, OK), client)


def test_a_refusal_is_an_answer_that_did_nothing(pem: tuple[Path, Path]) -> None:
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}"

    async def client(line: Line) -> None:
        await line.ready()
        answer = await ask(line)
        assert (answer.status, answer.done, answer.body) == (403, None, b"{}")

    played(pem, saying(refusal), client)


def test_no_body_is_waited_for_where_there_is_none(pem: tuple[Path, Path]) -> None:
    async def client(line: Line) -> None:
        await line.ready()
        assert (await ask(line)).status == 204

    played(pem, saying(b"HTTP/1.1 204 No Content\r\n\r\n"), client)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (OK[:-1], "broken off"),
        (b"", "broken off"),
        (b"nonsense\r\n\r\n", "ValueError"),
    ],
)
def test_what_is_no_whole_answer_is_no_crash(
    pem: tuple[Path, Path], answer: bytes, why: str
) -> None:
    async def client(line: Line) -> None:
        await line.ready()
        with pytest.raises(BrokenError, match=why):
            await ask(line)
        assert await line.ready() is not None

    played(pem, saying(answer), client)


def test_whoever_does_not_answer_is_given_up(pem: tuple[Path, Path]) -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def client(line: Line) -> None:
        await line.ready()
        with pytest.raises(BrokenError, match="timed out"):
            await ask(line, 0.05)

    played(pem, mute, client)


def test_nobody_there_is_no_crash() -> None:
    async def run() -> None:
        line = Line("127.0.0.1", 1, ssl.create_default_context(), "127.2.0.9")
        with pytest.raises(BrokenError, match="ConnectionRefusedError"):
            await line.ready()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("link", "path"),
    [
        ('</api/v1/speakers?after=a>; rel="next"', "/api/v1/speakers?after=a"),
        ("<https://h:1/x?after=a>; rel=next", "/x?after=a"),
        ('</a>; rel="prev", </b>; rel="next"', "/b"),
        ('</a>; rel="prev"', None),
        ("", None),
    ],
)
def test_the_next_page_is_where_the_answer_says(link: str, path: str | None) -> None:
    assert Answer(200, {"link": link}, b"", 1.0).next_page == path
