"""The control process: uvicorn on uvloop, until the supervisor is gone."""

import asyncio
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
import uvloop

from server.api.routes import build_api
from server.app import Control
from server.child import Birth, adopt, ignore_interrupts


class _Server(uvicorn.Server):
    """uvicorn without signal handlers: the lifeline says when to stop.

    With its own, Ctrl-C would stop the serving and leave a control that hears nobody.
    """

    @contextmanager
    def capture_signals(  # type: ignore[explicit-override]  # typing.override is of Python 3.12
        self,
    ) -> Generator[None, None, None]:
        """Leave the signals alone."""
        yield


def _server(control: Control) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            build_api(control),
            lifespan="off",
            log_level="error",
            access_log=False,
            # Deflate would cost 87 KB a session for messages of a hundred bytes.
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            ws_max_size=1 << 16,
            ws_ping_interval=5.0,
            ws_ping_timeout=10.0,
            timeout_graceful_shutdown=1,
        )
    )


async def _serve(birth: Birth) -> None:
    control = Control(birth)
    server = _server(control)
    asyncio.get_running_loop().add_reader(birth.lifeline, lambda: os._exit(0))
    listening: socket.socket = adopt(birth.http)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(control.run())
        tasks.create_task(server.serve(sockets=[listening]))
        await control.ready.wait()
        os.write(birth.ready, b"!")


def main() -> None:
    """Serve until the lifeline is cut."""
    ignore_interrupts()
    uvloop.run(_serve(Birth.from_arguments()))


if __name__ == "__main__":
    main()
