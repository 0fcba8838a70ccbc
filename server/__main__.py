"""The control process: uvicorn on uvloop over TLS, until the supervisor is gone."""

import asyncio
import os
import socket
import ssl
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import uvicorn
import uvloop

from server.api.routes import build_api
from server.app import Control
from server.data import DataFolder
from server.door import MAX_TOGETHER, Door
from server.entrance import Entrance, Manners
from server.keys.folder import KeysError
from server.keys.tls import TlsError, server_context
from server.keys.token import AccessError
from server.limits import (
    HttpConnection,
    Limits,
    SessionConnection,
    give_up_on_the_deaf,
    http_connection,
    limits_here,
)
from server.processes.child import Birth, adopt, ignore_interrupts
from server.processes.notebook import Notebook
from server.store.engine import StoreError
from server.store.store import Store


class _Server(uvicorn.Server):
    """uvicorn over TLS, and without signal handlers: the lifeline says when to stop.

    With its own, Ctrl-C would stop the serving and leave a control that hears nobody.
    """

    def __init__(
        self, config: uvicorn.Config, context: ssl.SSLContext, manners: Manners | None = None
    ) -> None:
        super().__init__(config)
        self._context = context
        self._manners = manners
        self._entrances: list[Entrance] = []

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
    control: Control, context: ssl.SSLContext, limits: Limits | None = None
) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            build_api(control),
            lifespan="off",
            log_level="error",
            access_log=False,
            http=http_connection(limits or limits_here()),
            ws=SessionConnection,
            # Deflate would cost 87 KB a session for messages of a hundred bytes.
            ws_per_message_deflate=False,
            ws_max_size=1 << 16,
            ws_ping_interval=5.0,
            ws_ping_timeout=10.0,
            timeout_graceful_shutdown=1,
        ),
        context,
    )


def _open_store(birth: Birth) -> Store:
    """The store; control may have been born again in the middle of programmes."""
    try:
        return Store.open(DataFolder(Path(birth.data)).database, _on_air(birth))
    except StoreError as error:
        sys.exit(f"loa serve: {error}")


def _on_air(birth: Birth) -> list[int]:
    """The numbers of the programmes in the notebook; of what makes no sense, none."""
    try:
        plain = Notebook(birth.notebook).read()
        return [int(row["number"]) for row in plain["programmes"]]
    except (KeyError, TypeError, ValueError):
        return []


async def _serve(birth: Birth) -> None:
    try:
        context = server_context(Path(birth.tls_certificate), Path(birth.tls_key))
        control = Control(birth, _open_store(birth))
    except (AccessError, KeysError, TlsError) as error:
        sys.exit(f"loa serve: {error}")
    server = _server(control, context)
    asyncio.get_running_loop().add_reader(birth.lifeline, lambda: os._exit(0))
    listening: socket.socket = adopt(birth.http)
    give_up_on_the_deaf(listening)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(control.run())
        tasks.create_task(server.serve(sockets=[listening]))
        await control.discovery.start()
        await control.ready.wait()
        os.write(birth.ready, b"!")


def main() -> None:
    """Serve until the lifeline is cut."""
    ignore_interrupts()
    uvloop.run(_serve(Birth.from_arguments()))


if __name__ == "__main__":
    main()
