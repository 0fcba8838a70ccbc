"""`python -m bench.operators_desk`: all the operators in one process, each at a console of his own.

Says `{"event": "ready"}` when all have signed in; goes on until its input ends. What was called is
told each second: rows of (when in seconds, kind, status or why there is none, milliseconds, bytes,
milliseconds to connect before).
"""

import argparse
import asyncio
import ipaddress
import json
import random
import ssl
import sys
import time
from contextlib import suppress
from pathlib import Path

from bench.operators_http import Answer, BrokenError, Line, trusting
from bench.operators_mix import API, CONNECT, Act, Habits, Person
from bench.operators_people import Roll

# Each calls from an address of its own: the station counts attempts by them.
_BASE = ipaddress.IPv4Address("127.2.0.1")
_ANSWER_S = 30.0
# What a sign-in takes the station keeps all others that sign in waiting.
_ABREAST = 4
_LOOK_S, _TELL_S = 0.05, 1.0
_AGAIN_S = 1.0
_ATTEMPTS = 30
_UNAUTHORISED = 401

Row = tuple[float, str, int | str, float, int, float]


class Tally:
    """What was called since it was told last, and how late this process itself was."""

    def __init__(self) -> None:
        self._calls: list[Row] = []
        self._late_ms: list[float] = []

    def add(
        self,
        kind: str,
        status: int | str,
        took_ms: float,
        size: int = 0,
        connect_ms: float = 0.0,
    ) -> None:
        """A call that has ended now."""
        at_s = round(time.monotonic(), 3)
        row = at_s, kind, status, round(took_ms, 3), size, round(connect_ms, 3)
        self._calls.append(row)

    async def watch(self) -> None:
        """How late the loop comes: no call can have been quicker than it."""
        while True:
            due_s = time.perf_counter() + _LOOK_S
            await asyncio.sleep(_LOOK_S)
            self._late_ms.append(round((time.perf_counter() - due_s) * 1e3, 3))

    async def tell(self) -> None:
        """Each second, whether there is anything or not."""
        while True:
            await asyncio.sleep(_TELL_S)
            self.flush()

    def flush(self) -> None:
        """What there is now."""
        calls, self._calls = self._calls, []
        late_ms, self._late_ms = self._late_ms, []
        _say({"event": "calls", "calls": calls, "late_ms": late_ms})


class Console:
    """One operator: a session, a connection, habits."""

    def __init__(
        self, habits: Habits, password: str, line: Line, tally: Tally, think_s: float
    ) -> None:
        self._habits = habits
        self._password = password
        self._line = line
        self._tally = tally
        self._think_s = think_s
        self._session = ""
        self._connect_ms = 0.0

    @property
    def person(self) -> Person:
        """Who it is."""
        return self._habits.person

    async def sign_in(self) -> bool:
        """A session, if the station grants one; the one there was is over before."""
        if self._session:
            await self._call(Act("sign out", "DELETE", f"{API}/login"))
            self._session = ""
        body = {"name": self.person.name, "password": self._password}
        answer = await self._call(Act("sign in", "POST", f"{API}/login", body))
        done = None if answer is None else answer.done
        if done is not None:
            self._session = str(done["session"])
        return done is not None

    async def work(self) -> None:
        """Ask and think, for ever."""
        draw = self._habits.draw
        await asyncio.sleep(draw.uniform(0, self._think_s))
        while True:
            act = self._habits.next()
            await self._do(act)
            pause_s = act.pause_s
            await asyncio.sleep(draw.expovariate(1 / self._think_s) if pause_s is None else pause_s)

    async def _do(self, act: Act) -> None:
        if act.kind == "sign in":
            await self.sign_in()
            return
        answer = await self._call(act)
        if answer is None:
            return
        self._habits.learn(act, answer.done, answer.next_page)
        if answer.status == _UNAUTHORISED:
            self._session = ""
            await self.sign_in()

    async def _call(self, act: Act) -> Answer | None:
        """None where there was no whole answer."""
        began_s, self._connect_ms = time.perf_counter(), 0.0
        try:
            answer = await self._asked(act)
        except BrokenError as error:
            self._tally.add(act.kind, str(error), (time.perf_counter() - began_s) * 1e3)
            return None
        self._tally.add(act.kind, answer.status, answer.took_ms, len(answer.body), self._connect_ms)
        return answer

    async def _asked(self, act: Act) -> Answer:
        fresh = await self._connect()
        try:
            return await self._line.call(act.method, act.path, act.body, self._session, _ANSWER_S)
        except BrokenError as error:
            # The station had hung up while this was on its way: a browser calls again as well.
            if fresh or str(error) == "timed out":
                raise
        await self._connect()
        return await self._line.call(act.method, act.path, act.body, self._session, _ANSWER_S)

    async def _connect(self) -> bool:
        """Whether that was necessary; it stands in the tally by itself."""
        took_ms = await self._line.ready()
        if took_ms is not None:
            self._tally.add(CONNECT, 0, took_ms)
            self._connect_ms += took_ms
        return took_ms is not None


async def _sign_all_in(consoles: list[Console]) -> None:
    """Together, but not all at once; RuntimeError if one cannot."""
    free = asyncio.Semaphore(_ABREAST)

    async def one(console: Console) -> None:
        async with free:
            for _ in range(_ATTEMPTS):
                if await console.sign_in():
                    return
                await asyncio.sleep(_AGAIN_S)
        raise RuntimeError(f"{console.person.name} cannot sign in")

    async with asyncio.TaskGroup() as group:
        for console in consoles:
            group.create_task(one(console))


async def _until_input_ends() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def _consoles(
    roll: Roll, address: str, trust: ssl.SSLContext, think_s: float, tally: Tally
) -> list[Console]:
    host, _, port = address.rpartition(":")
    found = []
    for index, person in enumerate(roll.people):
        draw: random.Random = roll.draw(index)
        habits = Habits(person, roll.province, roll.root, draw)
        line = Line(host, int(port), trust, str(_BASE + index))
        found.append(Console(habits, roll.password, line, tally, think_s))
    return found


async def _run(options: argparse.Namespace) -> None:
    tally = Tally()
    trust = trusting(options.certificate)
    roll = Roll(options.people)
    consoles = _consoles(roll, options.server, trust, options.think_s, tally)
    telling = asyncio.create_task(tally.tell())
    watching = asyncio.create_task(tally.watch())
    await _sign_all_in(consoles)
    tally.flush()
    _say({"event": "ready"})
    working = [asyncio.create_task(console.work()) for console in consoles]
    ended = asyncio.create_task(_until_input_ends())
    # Work never ends, but by a mistake of ours, which shall be seen.
    done, _ = await asyncio.wait([ended, *working], return_when=asyncio.FIRST_COMPLETED)
    for task in (*working, telling, watching):
        task.cancel()
    tally.flush()
    for task in done:
        task.result()


def _say(event: dict[str, object]) -> None:
    with suppress(BrokenPipeError):
        print(json.dumps(event), flush=True)


def main() -> int:
    """Until the input ends."""
    parser = argparse.ArgumentParser(prog="bench.operators_desk", description=__doc__)
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    parser.add_argument("--people", required=True, type=Path, metavar="FILE")
    parser.add_argument("--certificate", required=True, type=Path, metavar="FILE")
    parser.add_argument("--think-s", required=True, type=float, metavar="S")
    asyncio.run(_run(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
