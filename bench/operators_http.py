"""HTTP/1.1 over TLS as a console's browser speaks it: one connection, kept and used again."""

import asyncio
import json
import re
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Of a whole list; what is longer waits in the kernel until it is read.
_BUFFER = 1 << 20
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')


class BrokenError(Exception):
    """A call that got no whole answer; one word or two that say why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered, and how long after the question its last byte was here, in ms."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    took_ms: float

    @property
    def done(self) -> Any:
        """The JSON of an answer that is no refusal; None where there is none."""
        if not 200 <= self.status < 300 or not self.body:
            return None
        with suppress(ValueError):
            return json.loads(self.body)
        return None

    @property
    def next_page(self) -> str | None:
        """The path of the next page (RFC 8288), if the answer names one."""
        found = _NEXT.search(self.headers.get("link", ""))
        if found is None:
            return None
        path = found[1]
        # A whole URL is of the same station.
        return path if path.startswith("/") else "/" + path.partition("://")[2].partition("/")[2]


def trusting(certificate: Path) -> ssl.SSLContext:
    """For connections to the station of this certificate, by whatever address."""
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    return context


class Line:
    """One person's connection; made anew when the station has closed it."""

    def __init__(self, host: str, port: int, trust: ssl.SSLContext, local: str) -> None:
        """`local` is the address of this machine that calls."""
        self._there = host, port
        self._trust = trust
        self._local = local
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ready(self) -> float | None:
        """Have a connection; the milliseconds that took, None if there is one. BrokenError."""
        if self._reader is not None and not self._reader.at_eof():
            return None
        await self.close()
        began_s = time.perf_counter()
        try:
            self._reader, self._writer = await asyncio.open_connection(
                *self._there, ssl=self._trust, local_addr=(self._local, 0), limit=_BUFFER
            )
        except OSError as error:
            raise BrokenError(type(error).__name__) from None
        return (time.perf_counter() - began_s) * 1e3

    async def call(
        self, method: str, path: str, body: object, bearer: str, timeout_s: float
    ) -> Answer:
        """One call on a connection that is `ready`; BrokenError, and the connection is closed."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._call(_request(self._there[0], method, path, body, bearer))
        except TimeoutError:
            why = "timed out"
        except asyncio.IncompleteReadError:
            why = "broken off"
        except (OSError, ValueError, asyncio.LimitOverrunError) as error:
            why = type(error).__name__
        await self.close()
        raise BrokenError(why)

    async def _call(self, request: bytes) -> Answer:
        reader, writer = self._reader, self._writer
        if reader is None or writer is None:
            raise ConnectionError
        began_s = time.perf_counter()
        writer.write(request)
        await writer.drain()
        status, headers = _head(await reader.readuntil(b"\r\n\r\n"))
        body = await _body(reader, status, headers)
        took_ms = (time.perf_counter() - began_s) * 1e3
        if headers.get("connection", "").lower() == "close":
            await self.close()
        return Answer(status, headers, body, took_ms)

    async def close(self) -> None:
        """Hang up at once; nothing if there is no connection."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.transport.abort()


def _request(host: str, method: str, path: str, body: object, bearer: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Accept: application/json"]
    if bearer:
        lines.append(f"Authorization: Bearer {bearer}")
    data = b"" if body is None else json.dumps(body).encode()
    if data:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join([*lines, "", ""]).encode() + data


def _head(data: bytes) -> tuple[int, dict[str, str]]:
    """ValueError for what is no answer."""
    first, *lines = data.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("no answer of HTTP/1")
    fields = (line.partition(":") for line in lines if line)
    return int(rest[:3]), {n.strip().lower(): v.strip() for n, _, v in fields}


async def _body(reader: asyncio.StreamReader, status: int, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        parts = []
        while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            parts.append((await reader.readexactly(size + 2))[:-2])
        await reader.readuntil(b"\r\n")
        return b"".join(parts)
    if status in {204, 304}:
        return b""
    return await reader.readexactly(int(headers.get("content-length", 0)))
