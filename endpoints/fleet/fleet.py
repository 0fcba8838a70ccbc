"""The fleet's composition root: members, their sessions, and what they share."""

import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import trio

from endpoints.fleet.ear import Ear
from endpoints.fleet.figures import Details, Figures
from endpoints.fleet.judge import Judge
from endpoints.fleet.member import Kind, Member
from endpoints.fleet.post import Post
from endpoints.fleet.roster import Addresses, FleetError, MemoryStore, Roster
from endpoints.fleet.rounds import Rounds
from endpoints.fleet.session import FleetSession, Turns
from endpoints.station.session import RefusedForGood, RestartAsked
from endpoints.way.groups import Groups
from transport.clock.estimator import ClockEstimate
from transport.control.address import StationAddress
from transport.control.messages import StreamSpec
from transport.errors import MalformedPacket
from transport.net.clocks import HostClock
from transport.net.stamped import MAX_DATAGRAM
from transport.security.keys import VerifyKey
from transport.security.session_keys import TIME_BYTES

_ROUND_S = 0.01
_MEDIA_BUFFER, _MEDIA_BATCH = 64 << 20, 4096
_TIME_BUFFER, _TIME_BATCH = 8 << 20, 256


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Which loudspeakers of a roster these are, and how they are set up.

    `first` counts from 0; `abreast` is how many may be on their way in at once, 0 for all.
    """

    server: StationAddress
    first: int
    count: int
    base: str = "127.1.0.0"
    media_port: int = 0
    multicast: bool = False
    delivery: str = "wan"
    abreast: int = 0


class Fleet:
    """Many loudspeakers in one process; members are counted from 0."""

    def __init__(self, roster: Roster, settings: FleetSettings, say: Callable[[str], None]) -> None:
        """Nothing begins before `run`. FleetError if it cannot be; `say` gets lines for people."""
        first, count = settings.first, settings.count
        if first < 0 or count < 1 or first + count > len(roster.names):
            raise FleetError(
                f"loudspeakers {first} to {first + count - 1} are not all in the file of keys, "
                f"which has {len(roster.names)}"
            )
        self.trouble: Counter[str] = Counter()
        self._roster, self._settings, self._say = roster, settings, say
        self._clock = HostClock()
        self._addresses = Addresses(settings.base, first, count)
        self._media = Post(
            self._addresses,
            settings.media_port,
            buffer_bytes=_MEDIA_BUFFER,
            batch=_MEDIA_BATCH,
            size=MAX_DATAGRAM,
        )
        self._time = Post(
            self._addresses,
            0,
            buffer_bytes=_TIME_BUFFER,
            batch=_TIME_BATCH,
            size=2 * TIME_BYTES,
        )
        self._judge = Judge(count)
        self._ear = Ear(self._media, self._judge, self._clock)
        self._members = [self._member(index) for index in range(count)]
        self._rounds = Rounds(self._members, self._clock, self._media.send, self._time.send)
        self._turns = Turns(settings.abreast)
        self._sessions: list[FleetSession | None] = [None] * count
        self._machines: list[trio.CancelScope | None] = [None] * count
        self._nursery: trio.Nursery | None = None
        self._refused: set[int] = set()
        self._dropped_before = 0

    def _member(self, index: int) -> Member:
        mine = self._settings
        kind = Kind(mine.delivery, mine.multicast, secrets.token_bytes)

        def listen(udp: socket.socket) -> Callable[[], None]:
            return self._ear.listen(index, udp)

        groups = Groups(listen) if mine.multicast else None
        return Member(index, self._addresses.text(index), kind, self, groups)

    # ------------------------------------------------------------- what members ask
    def now_ns(self) -> int:
        """CLOCK_BOOTTIME."""
        return self._clock.now_ns()

    def trust(self, station: VerifyKey, generation: int) -> None:
        """Whose streams are believed."""
        with self._ear.judging() as judge:
            judge.streams.trust(station, generation)

    def listens(
        self, index: int, specs: tuple[StreamSpec, ...], unicast_ns: int | None, group_ns: int
    ) -> None:
        """See `World`."""
        try:
            with self._ear.judging() as judge:
                judge.listens(index, specs, self.now_ns(), unicast_ns, group_ns)
        except MalformedPacket as error:
            self.trouble[error.reason] += 1

    def ask_soon(self, index: int) -> None:
        """See `World`."""
        self._rounds.ask_soon(index)

    def learnt(self, index: int, estimate: ClockEstimate | None) -> None:
        """See `World`; one element, which needs no lock."""
        now_ns = self.now_ns()
        self._judge.learn(index, None if estimate is None else estimate.theirs(now_ns) - now_ns)

    def heard_at_ns(self, index: int) -> int:
        """See `World`."""
        return int(self._judge.heard_at()[index])

    def packets(self, index: int) -> int:
        """See `World`."""
        return int(self._judge.packets[index])

    # ------------------------------------------------------------- work
    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(trio.to_thread.run_sync, self._ear.run)
                nursery.start_soon(self._end_ear)
                nursery.start_soon(self._go_round)
                nursery.start_soon(self._hear_time)
                for member in self._members:
                    self._switch_on(member)
        finally:
            self._media.close()
            self._time.close()

    async def _end_ear(self) -> None:
        """A thread cannot be cancelled."""
        try:
            await trio.sleep_forever()
        finally:
            self._ear.close()

    async def _go_round(self) -> None:
        while True:
            while self._ear.answers:
                self._rounds.take_stun(*self._ear.answers.popleft())
            self._rounds.go(self.now_ns(), self._judge.heard_at())
            await trio.sleep(_ROUND_S)

    async def _hear_time(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._time.socket)
            indices, data, lengths, arrivals_ns = self._time.receive(self.now_ns())
            for row in (indices >= 0).nonzero()[0].tolist():
                datagram = data[row, : lengths[row]].tobytes()
                self._rounds.take_time(int(indices[row]), datagram, int(arrivals_ns[row]))

    # ------------------------------------------------------------- machines, on and off
    def _switch_on(self, member: Member) -> None:
        if self._nursery is not None and self._machines[member.index] is None:
            scope = self._machines[member.index] = trio.CancelScope()
            self._nursery.start_soon(self._live, member, scope)

    async def _live(self, member: Member, scope: trio.CancelScope) -> None:
        index = member.index
        state = self._roster.state(self._settings.first + index, self._settings.server)
        store = MemoryStore(state)
        try:
            with scope:
                while await self._one_life(member, store):
                    pass
                await trio.sleep_forever()
        finally:
            # Unless it was switched on again meanwhile.
            if self._machines[index] is scope:
                self._sessions[index] = self._machines[index] = None

    async def _one_life(self, member: Member, store: MemoryStore) -> bool:
        """Whether it shall begin anew."""
        index, refused = member.index, ""
        session = self._sessions[index] = FleetSession(
            member, self._turns, store, self._heed, self._settings.server, member.address
        )
        try:
            await session.run()
        except* RestartAsked:
            pass
        except* RefusedForGood as group:
            refused = f"refused for good: {_first(group)}"
        if refused:
            self._refused.add(index)
            self._heed(refused)
            member.leave()
            self._rounds.rest(index)
        return not refused

    def _heed(self, text: str) -> None:
        """Ten thousand say the same: it is counted, and said once."""
        self.trouble[text] += 1
        if self.trouble[text] == 1 and not text.startswith("joined"):
            self._say(text)

    def _last(self, count: int) -> list[Member]:
        return self._members[max(len(self._members) - count, 0) :]

    def hush(self, count: int) -> None:
        """The last so many lose their power: no goodbye, and whatever they knew is gone."""
        for member in self._last(count):
            scope = self._machines[member.index]
            if scope is not None:
                scope.cancel()
            member.leave()
            self._rounds.rest(member.index)
            self._deafen(member, deaf=True)

    def wake(self) -> None:
        """All that were hushed come back at once."""
        for index, scope in enumerate(self._machines):
            if scope is None or scope.cancel_called:
                fresh = self._member(index)
                fresh.welcomes = self._members[index].welcomes
                self._machines[index] = None
                self._members[index] = fresh
                self._deafen(fresh, deaf=False)
                self._switch_on(fresh)

    def stall(self, count: int) -> None:
        """The last so many read nothing more, neither TCP nor UDP."""
        for member in self._last(count):
            member.stall()
            self._rounds.rest(member.index)
            self._deafen(member, deaf=True)

    def unstall(self) -> None:
        """All that were stalled go on."""
        for member in self._members:
            if member.stalled:
                member.go_on()
                if member.welcomes:
                    self._rounds.ask_soon(member.index)
                self._deafen(member, deaf=False)

    def _deafen(self, member: Member, *, deaf: bool) -> None:
        with self._ear.judging() as judge:
            judge.deafen(member.index, self.now_ns(), deaf=deaf)

    # ------------------------------------------------------------- figures
    def begin(self) -> None:
        """The measured window begins here."""
        self._dropped_before = self._dropped
        with self._ear.judging() as judge:
            judge.begin(self.now_ns())

    @property
    def _dropped(self) -> int:
        return self._media.dropped + self._time.dropped

    @property
    def joined(self) -> int:
        """How many have a session now."""
        return sum(s is not None and s.joined is not None for s in self._sessions)

    def figures(self) -> Figures:
        """As they are now; what came in the last two seconds is not judged yet."""
        with self._ear.judging() as judge:
            heard = judge.heard()
        times = os.times()
        return Figures(
            endpoints=len(self._members),
            joined=self.joined,
            settled=sum(member.time.estimate is not None for member in self._members),
            rejoined=sum(max(member.welcomes - 1, 0) for member in self._members),
            refused=len(self._refused),
            simulator_dropped=self._dropped - self._dropped_before,
            cpu_s=times.user + times.system,
            heard=heard,
        )

    def details(self) -> Details:
        """What the figures are made of."""
        with self._ear.judging() as judge:
            return judge.details()


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
