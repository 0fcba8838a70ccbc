"""The control process: uvicorn on uvloop over TLS, until the supervisor is gone."""

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import uvicorn
import uvloop
from fastapi import WebSocket
from starlette.types import ASGIApp, Receive, Scope, Send

from server.api.routes import build_api
from server.app import Control
from server.clienthello import alpn_of
from server.data import DataError, DataFolder
from server.door import MAX_TOGETHER, Door
from server.entrance import Entrance, Manners
from server.garbage import collect_for_ever
from server.halls import Halls
from server.keys.folder import KeysError
from server.keys.tls import TlsError, server_context
from server.keys.token import AccessError
from server.limits import (
    HttpConnection,
    Limits,
    connections,
    give_back_what_is_freed,
    give_up_on_the_deaf,
    limits_here,
    wait_for_words,
)
from server.memory import numbers_on_air
from server.processes.child import Birth, adopt, ignore_interrupts, read_database
from server.processes.notebook import Notebook
from server.store.engine import StoreError
from server.store.store import Store
from transport.control.messages import SUBPROTOCOL

# Whoever comes when control has so many connections is a hall's, if there are halls.
_OWN_PLACES = 10_000


def _is_no_loudspeaker(hello: bytes) -> bool:
    """A person's command or page does not wait for a fleet that comes at once."""
    return SUBPROTOCOL not in alpn_of(hello)


class _Server(uvicorn.Server):
    """uvicorn over TLS, and without signal handlers: the lifeline says when to stop.

    With its own, Ctrl-C would stop the serving and leave a control that hears nobody.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        context: ssl.SSLContext,
        manners: Manners | None = None,
        hand_on: Callable[[socket.socket, bytes], bool] = lambda *_: False,
    ) -> None:
        super().__init__(config)
        self._context = context
        self._manners = manners
        self._hand_on = hand_on
        self._entrances: list[Entrance] = []

    @property
    def handshakes(self) -> int:
        """How many connections are not through TLS."""
        return sum(map(len, self._entrances))

    async def startup(  # type: ignore[explicit-override]
        self, sockets: list[socket.socket] | None = None
    ) -> None:
        """Listen; uvicorn's own counts nobody before TLS, and waits for it for a minute."""
        self.servers = []
        self._entrances = [self._entrance(listening) for listening in sockets or []]
        self.started = True

    async def shutdown(  # type: ignore[explicit-override]
        self, sockets: list[socket.socket] | None = None
    ) -> None:
        """Listen no more, and end what there is."""
        for entrance in self._entrances:
            entrance.close()
        await super().shutdown(sockets)

    def _entrance(self, listening: socket.socket) -> Entrance:
        together = min(MAX_TOGETHER, self._protocol.limits.together)
        entrance = Entrance(
            listening,
            self._context,
            self._connection,
            manners=self._manners,
            door=Door(together=together),
            hand_on=self._hand_on,
            is_urgent=_is_no_loudspeaker,
            most_waiting=self._protocol.limits.together,
        )
        listening.listen(self.config.backlog)
        entrance.open()
        return entrance

    @property
    def _protocol(self) -> type[HttpConnection]:
        return cast("type[HttpConnection]", self.config.http_protocol_class)

    def _connection(self, _: str) -> asyncio.Protocol:
        return self._protocol(config=self.config, server_state=self.server_state, app_state={})

    @contextmanager
    def capture_signals(  # type: ignore[explicit-override]  # typing.override is of Python 3.12
        self,
    ) -> Generator[None, None, None]:
        """Leave the signals alone."""
        yield


def _server(
    control: Control,
    context: ssl.SSLContext,
    limits: Limits | None = None,
    halls_ends: tuple[int, ...] = (),
) -> _Server:
    halls = Halls(
        halls_ends,
        control.sessions.serve,
        _OWN_PLACES,
        lambda: server.handshakes + len(server.server_state.connections),
    )
    application = _application(control, lambda: server.handshakes)
    server = _Server(
        connections(application, limits or limits_here()), context, hand_on=halls.offer
    )
    return server


def _application(control: Control, handshakes: Callable[[], int]) -> ASGIApp:
    """The API, and the sessions beside it: its layers would cost each of those 12 KB."""
    api = build_api(control, handshakes)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"] == "/control":
            await control.sessions.serve(WebSocket(scope, receive, send))
        else:
            await api(scope, receive, send)

    return application


def _open_store(birth: Birth) -> Store:
    """The store; control may have been born again in the middle of programmes."""
    try:
        place = DataFolder(Path(birth.data)).place(read_database(birth.database))
        return Store.open(place, _on_air(birth))
    except (DataError, StoreError) as error:
        sys.exit(f"loa serve: {error}")


def _on_air(birth: Birth) -> list[int]:
    """The numbers of the programmes in the notebook."""
    _, record = Notebook(birth.notebook).read()
    return numbers_on_air(record)


async def _serve(birth: Birth) -> None:
    try:
        context = server_context(Path(birth.tls_certificate), Path(birth.tls_key))
        control = Control(birth, _open_store(birth))
    except (AccessError, KeysError, TlsError) as error:
        sys.exit(f"loa serve: {error}")
    context.num_tickets = 0  # nobody comes back by them, and each handshake would make two
    server = _server(control, context, halls_ends=birth.halls)
    asyncio.get_running_loop().add_reader(birth.lifeline, lambda: os._exit(0))
    listening: socket.socket = adopt(birth.http)
    give_up_on_the_deaf(listening)
    wait_for_words(listening)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(control.run())
        tasks.create_task(collect_for_ever())
        tasks.create_task(server.serve(sockets=[listening]))
        await control.discovery.start()
        await control.ready.wait()
        os.write(birth.ready, b"!")


def main() -> None:
    """Serve until the lifeline is cut."""
    ignore_interrupts()
    give_back_what_is_freed()
    uvloop.run(_serve(Birth.from_arguments()))


if __name__ == "__main__":
    main()
