"""The station, watched for as long as it runs; whoever waits hears when there is something new."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from server.changes.enrolments import EnrolmentWatch
from server.changes.log import Changes
from server.changes.places import PlaceWatch
from server.changes.programmes import ProgrammeWatch
from server.changes.speakers import SpeakerWatch
from server.enrolling import Enrolling
from server.station import Station
from server.stepping import Steps

# Whatever happens within is told together.
LOOK_S = 0.25
# Of one address 256 connections are served: those who watch leave room for commands.
MOST_READERS = 200
MOST_READERS_EACH = 8
_NO_STEPS = Steps()


class TooManyReadersError(Exception):
    """One more cannot be served; one line. `own` if it is one too many of the same reader's."""

    def __init__(self, why: str, *, own: bool) -> None:
        super().__init__(why)
        self.own = own


class Readers:
    """How many there are, of whom."""

    def __init__(self, most: int = MOST_READERS, each: int = MOST_READERS_EACH) -> None:
        self._most = most
        self._each = each
        self._by_name: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._by_name.total()

    @contextmanager
    def one_more(self, name: str) -> Iterator[None]:
        """For as long as it reads; TooManyReadersError if it may not."""
        if self._by_name[name] >= self._each:
            raise TooManyReadersError(
                f"you read {self._each} streams of events already: end one of them first", own=True
            )
        if len(self) >= self._most:
            raise TooManyReadersError(
                f"{self._most} streams of events are read, and there cannot be more", own=False
            )
        self._by_name[name] += 1
        try:
            yield
        finally:
            self._by_name -= Counter((name,))  # what is zero is gone


class Watching:
    """Looks four times a second at what may have changed, and keeps what has."""

    def __init__(
        self,
        station: Station,
        enrolling: Enrolling,
        now_ns: Callable[[], int],
        steps: Callable[[], Steps],
    ) -> None:
        """`steps` is how far neighbours are apart, which is worked out only if somebody reads."""
        self.changes = Changes(station.boot)
        self.readers = Readers()
        # Whoever has it makes what he is told of; it takes milliseconds.
        self.turn = asyncio.Lock()
        self._now_ns = now_ns
        self._steps = steps
        enrolment, concerned = enrolling.enrolment, enrolling.concerned
        self._watches = (
            ProgrammeWatch(station, self.changes),
            SpeakerWatch(station, self.changes, self._steps_if_read),
            PlaceWatch(station, self.changes),
            EnrolmentWatch(enrolment, self.changes, concerned),
        )
        self._news = asyncio.Event()

    def _steps_if_read(self) -> Steps:
        return self._steps() if self.readers else _NO_STEPS

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Once, slice by slice; then whoever waits is woken, if there is something new."""
        before, now_ns = self.changes.head, self._now_ns()
        for watch in self._watches:
            for _ in watch.look(now_ns):
                await asyncio.sleep(0)
        if self.changes.head != before:
            news, self._news = self._news, asyncio.Event()
            news.set()

    async def news(self, since: int, timeout_s: float) -> bool:
        """Until there is something newer than that; false if there is not, in time."""
        if self.changes.head == since:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
        return self.changes.head != since
