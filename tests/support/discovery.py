"""A station's discovery in a process of its own: NAME PORT BIND [ROOT]. Tells who comes and goes.

Run by its path, until its standard input is closed.
"""

import asyncio
import sys

import uvloop

from server.discovery import Discovery


async def _run(name: str, port: int, bind: str, root: str = "") -> None:
    discovery = Discovery(name, port, bind, root=root)
    await discovery.start()
    before: set[str] = set()
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    while not ended.done():
        now = {f"{s.name} {s.address} {s.station and s.station.text}" for s in discovery.found}
        for line in sorted(now - before):
            print("come:", line, file=sys.stderr, flush=True)
        for line in sorted(before - now):
            print("gone:", line, file=sys.stderr, flush=True)
        before = now
        await asyncio.wait([ended], timeout=0.05)
    await discovery.close()


if __name__ == "__main__":
    uvloop.run(_run(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
