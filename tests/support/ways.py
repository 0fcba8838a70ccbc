"""The station's end of a loudspeaker's ways, its media port and its gateway, as a test wants it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import trio
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.trio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from endpoints.station.tls import TlsPeer
from endpoints.way.relay import SUBPROTOCOL
from tests.support.certificate import server_tls
from tests.support.station import SECRET
from transport.control.messages import VERSION, Welcome
from transport.errors import MalformedPacket
from transport.net.stamped import family_of
from transport.recovery.request import REQUEST
from transport.security import stun
from transport.security.session_keys import check_gateway_token, session_key


class MediaPort:
    """Answers keep-alives as the sender does, as long as UDP is not `blocked`."""

    def __init__(self, udp: trio.socket.SocketType) -> None:
        self.udp = udp
        self.port = int(udp.getsockname()[1])
        self.blocked = False
        self.asked: list[tuple[float, stun.Request]] = []
        self.where: dict[int, tuple[str, int]] = {}
        # What asks for packets that were lost, and whence it came.
        self.requests: list[tuple[tuple[str, int], bytes]] = []

    async def run(self) -> None:
        while True:
            data, (host, port, *_) = await self.udp.recvfrom(2048)
            if data[:1] == bytes((REQUEST,)):
                self.requests.append(((host, port), data))
                continue
            request = stun.parse_request(data)
            self.asked.append((trio.current_time(), request))
            if not self.blocked:
                await self.udp.sendto(self._answer(request, (host, port)), (host, port))

    def _answer(self, request: stun.Request, address: tuple[str, int]) -> bytes:
        key = session_key(SECRET, request.session)
        stun.check_request(request, key)
        nonce = f"{address[1]}".encode()
        if self.where.get(request.session) != address and request.nonce != nonce:
            return stun.stale(request.transaction, nonce, key)
        self.where[request.session] = address
        return stun.success(request.transaction, *address, key)

    async def send(self, session: int, data: bytes) -> None:
        """Media by unicast."""
        await self.udp.sendto(data, self.where[session])


class Gateway:
    """Lets in who has a token of `SECRET`, keeps what it hears, says what a test wants."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open = True
        self.elsewhere = ""
        self.came: list[tuple[float, str]] = []
        self.heard: list[bytes | str] = []
        self.here: dict[int, ServerConnection] = {}
        self.left_s: list[float] = []

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse who has no token, and everybody while not `open`."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.came.append((trio.current_time(), token))
        try:
            check_gateway_token(token, SECRET)
        except MalformedPacket:
            return connection.respond(HTTPStatus.UNAUTHORIZED, "show a token\n")
        if self.elsewhere:
            response = connection.respond(HTTPStatus.FOUND, "elsewhere\n")
            response.headers["Location"] = self.elsewhere
            return response
        if not self.open:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "full\n")
        return None

    async def handle(self, connection: ServerConnection) -> None:
        session = check_gateway_token(self.came[-1][1], SECRET)
        self.here[session] = connection
        try:
            async for frame in connection:
                self.heard.append(frame)
        except ConnectionClosed:
            pass
        finally:
            self.left_s.append(trio.current_time())
            if self.here.get(session) is connection:
                del self.here[session]


@asynccontextmanager
async def gateway(which: str = "station") -> AsyncIterator[Gateway]:
    """One on loopback that runs while the block does."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    served = Gateway(int(listeners[0].socket.getsockname()[1]))

    async def run() -> None:
        await serve(
            served.handle,
            listeners=listeners,
            ssl=server_tls(which)[0],
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            process_request=served.admit,
            compression=None,
            ping_interval=None,
            close_timeout=1,
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield served
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def media_port(address: str = "127.0.0.1") -> AsyncIterator[MediaPort]:
    """One on loopback, of IPv4 or IPv6, that runs while the block does."""
    with trio.socket.socket(family_of(address), trio.socket.SOCK_DGRAM) as udp:
        await udp.bind((address, 0))
        port = MediaPort(udp)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port.run)
            yield port
            nursery.cancel_scope.cancel()


def welcome_to(
    session: int, *, media_port: int = 9, gateway_port: int = 9, time_port: int = 9
) -> Welcome:
    """What the station says to a session, its key by `SECRET`."""
    key = session_key(SECRET, session)
    return Welcome(VERSION, session, session, key, time_port, media_port, gateway_port)


def station_peer() -> TlsPeer:
    """Who the station proved to be."""
    return TlsPeer("127.0.0.1", server_tls("station")[1])
