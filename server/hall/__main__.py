"""A hall's process, until the supervisor is gone."""

import asyncio
import gc
import secrets
import sys
from pathlib import Path

import uvloop

from server.hall.hall import Hall
from server.keys.tls import TlsError, server_context
from server.limits import give_back_what_is_freed
from server.processes.child import Birth, adopt, ignore_interrupts


async def _serve(birth: Birth) -> None:
    (end,) = birth.halls
    context = server_context(Path(birth.tls_certificate), Path(birth.tls_key))
    hall = Hall(adopt(end), context, secrets.randbits(62))
    # What is built so far will never be garbage: a collection need not look at it.
    gc.collect()
    gc.freeze()
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(birth.lifeline, over.set)
    await over.wait()
    hall.close()


def main() -> None:
    """Serve until the lifeline is cut."""
    ignore_interrupts()
    give_back_what_is_freed()
    try:
        uvloop.run(_serve(Birth.from_arguments()))
    except TlsError as error:
        sys.exit(f"loa serve: {error}")


if __name__ == "__main__":
    main()
