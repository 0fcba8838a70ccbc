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
from server.child import Birth, adopt, ignore_interrupts
from server.data import DataFolder
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
from server.notebook import Notebook
from server.store.engine import StoreError
from server.store.store import Store

# For the whole of TLS' handshake; uvicorn would wait for a minute.
_HANDSHAKE_S = 5.0


class _Server(uvicorn.Server):
    """uvicorn over TLS, and without signal handlers: the lifeline says when to stop.

    With its own, Ctrl-C would stop the serving and leave a control that hears nobody.
    """

    def __init__(
        self, config: uvicorn.Config, context: ssl.SSLContext, handshake_s: float = _HANDSHAKE_S
    ) -> None:
        super().__init__(config)
        self._context = context
        self._handshake_s = handshake_s

    async def startup(  # type: ignore[explicit-override]
        self, sockets: list[socket.socket] | None = None
    ) -> None:
        """Listen; uvicorn's own knows no timeouts of TLS."""
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                self._connection,
                sock=listening,
                backlog=self.config.backlog,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_s,
                ssl_shutdown_timeout=self._handshake_s,
            )
            for listening in sockets or []
        ]
        self.started = True

    def _connection(self) -> asyncio.Protocol:
        config = self.config
        make = cast("type[HttpConnection]", config.http_protocol_class)
        return make(config=config, server_state=self.server_state, app_state={})

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
