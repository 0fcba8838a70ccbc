"""A hall as the process it is: handed connections, killed, started again, and ended."""

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import fields
from typing import get_type_hints

import pytest
import uvloop

from server.halls import Halls
from server.processes.child import Birth, hall_pair
from tests.support.halls import PATIENCE_S, Door, echo
from tests.support.tls import station_tls

pytestmark = pytest.mark.realtime


def birth(end: int, lifeline: int) -> Birth:
    """All that a hall needs, and nothing else."""
    empty = {int: -1, str: "", bool: False, tuple[int, ...]: ()}
    hints = get_type_hints(Birth)
    nothing = {field.name: empty[hints[field.name]] for field in fields(Birth)}
    tls = station_tls()
    given = {
        "halls": (end,),
        "lifeline": lifeline,
        "tls_certificate": str(tls.certificate),
        "tls_key": str(tls.key),
    }
    return Birth(**nothing | given)  # type: ignore[arg-type]


class Process:
    """A hall's process, whose end of the link outlives it."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._lifeline, self._alive = os.pipe()
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        end = self._door.ends[0][1].fileno()
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "server.hall", birth(end, self._lifeline).to_argument()],
            pass_fds=[end, self._lifeline],
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        self._process = self._started()

    async def cut(self) -> int:
        """Cut its lifeline, as the supervisor's death does; what it ends with."""
        os.close(self._alive)
        return await asyncio.to_thread(self._process.wait, PATIENCE_S)

    def close(self) -> None:
        self.kill()
        os.close(self._lifeline)
        with suppress(OSError):
            os.close(self._alive)


def test_a_hall_s_process_serves_dies_and_serves_again() -> None:
    async def scenario(door: Door, process: Process) -> None:
        first = await door.called()
        await first.send(b"1")
        assert await first.recv() == b"1"
        process.kill()
        await first.wait_closed()
        process.start()
        await door.until(lambda: len(door.control) == 0)
        again = await door.called()
        await again.send(b"2")
        assert await again.recv() == b"2"
        assert await process.cut() == 0
        await again.wait_closed()

    async def main() -> None:
        door = Door()
        door.open(0)
        door.control.close()
        door.ends.append(hall_pair())
        door.control = Halls((door.ends[0][0].fileno(),), echo, 0, most_own=0)
        process = Process(door)
        try:
            async with asyncio.timeout(2 * PATIENCE_S):
                await scenario(door, process)
        finally:
            process.close()
            door.close()
            await asyncio.sleep(0.01)

    uvloop.run(main())
