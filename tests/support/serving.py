"""Control, served over TLS on a real socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from server.__main__ import _server
from server.keys.tls import server_context
from server.limits import Limits
from server.processes.child import adopt

Room = Any  # the fixture's; see conftest


@asynccontextmanager
async def serving(room: Room, limits: Limits | None = None) -> AsyncIterator[str]:
    """Control serves; `host:port`."""
    birth = room.births["server"]
    context = server_context(Path(birth.tls_certificate), Path(birth.tls_key))
    server = _server(room.control, context, limits)
    with adopt(birth.http) as listening:
        host, port = listening.getsockname()
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0)
        try:
            yield f"{host}:{port}"
        finally:
            server.should_exit = server.force_exit = True
            await task
