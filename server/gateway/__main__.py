"""The gateway's process, until the supervisor is gone."""

import gc
import sys
from pathlib import Path

import uvloop

from server.gateway.gateway import Gateway
from server.keys.tls import TlsError, server_context
from server.processes.child import Birth, ignore_interrupts


async def _serve(birth: Birth) -> None:
    context = server_context(Path(birth.tls_certificate), Path(birth.tls_key))
    gateway = Gateway(birth, context)
    # What is built so far will never be garbage: a collection need not look at it.
    gc.collect()
    gc.freeze()
    await gateway.run()


def main() -> None:
    """Serve until the lifeline is cut."""
    ignore_interrupts()
    try:
        uvloop.run(_serve(Birth.from_arguments()))
    except TlsError as error:
        sys.exit(f"loa serve: {error}")


if __name__ == "__main__":
    main()
