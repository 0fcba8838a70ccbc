"""The control session: found, lost and found again, for ever."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import chain, repeat
from typing import Protocol

import trio

from endpoints.station.meeting import BROKEN, Meeting, Said, counted_as, meet, why, worlds_part
from endpoints.station.store import KnownStation, SpeakerState, StoreError
from endpoints.station.tls import TlsPeer
from endpoints.station.whereabouts import Whereabouts
from transport.control.address import StationAddress
from transport.control.messages import (
    VERSION,
    Adjust,
    Command,
    Done,
    Enrolled,
    Hello,
    Listen,
    Pending,
    Ready,
    Refused,
    Telemetry,
    Welcome,
)
from transport.control.session import HELLO_TIMEOUT_S, SETTLED_S, Backoff
from transport.errors import MalformedPacket
from transport.security.keys import VerifyKey

# How long to rest after looking around in vain.
_LOOK_PAUSES_S = (2.0, 5.0, 15.0, 30.0)
Look = Callable[[], Awaitable[tuple[StationAddress, ...]]]


class RefusedForGood(Exception):  # noqa: N818 - it is what happened
    """The station will not have this loudspeaker, whenever it asks; and it has signed that."""


class RestartAsked(Exception):  # noqa: N818 - it is what happened
    """The station wants this loudspeaker to begin anew."""


class _SentAwayError(Exception):
    """The station ends the session, and says why."""


_ENDED = (*BROKEN, StoreError, _SentAwayError)


class Store(Protocol):
    """Where the session keeps what it must not forget; `SpeakerStore` on a disk."""

    @property
    def state(self) -> SpeakerState:
        """What was kept last."""

    async def keep(self, state: SpeakerState) -> None:
        """It will be there again after a power cut when this returns; StoreError if not."""


class Speaker(Protocol):
    """What the session needs of the loudspeaker."""

    def hello(self, name: str, key: bytes, nonce: bytes) -> Hello:
        """What to say first, with our name, our public key and this session's nonce."""

    def trust(self, station: VerifyKey, generation: int) -> None:
        """Whose certificates to believe from now on."""

    def welcomed(self, address: str, local_address: str, welcome: Welcome, tls: TlsPeer) -> None:
        """The station answered from `address`, to our `local_address`."""

    def declared(self, listen: Listen) -> None:
        """What to listen to from now on."""

    async def reachable(self) -> None:
        """Until unicast would arrive, or there is no point in waiting."""

    def adjusted(self, adjust: Adjust) -> None:
        """How loud to be from now on."""

    def commanded(self, command: Command) -> str:
        """Do it; nothing, or one line that says why not. A restart is the session's to raise."""

    def telemetry(self) -> Telemetry:
        """How it is."""

    async def news(self, every_s: float) -> None:
        """Until there is something to tell before `every_s` have passed; for ever, if there is not.

        It is cancelled when that time has come.
        """


class ControlSession:
    """Says hello to its own station, does as told, tells how it is.

    What was not the station's word ends the session and is counted in `refused` by its reason.
    """

    def __init__(
        self,
        store: Store,
        speaker: Speaker,
        uniform: Callable[[], float],
        draw: Callable[[int], bytes],
        say: Callable[[str], None],
        *,
        server: StationAddress | None = None,
        look: Look | None = None,
        local_address: str | None = None,
    ) -> None:
        """The state in `store` is of a loudspeaker that is enrolled; ValueError if not.

        `server` is where it is, in place of what the state says; `look` looks for it elsewhere on
        this network when it is not there; `local_address` is which of this machine's addresses to
        call from, where that matters. `uniform` draws from [0, 1), `draw` random bytes; `say`
        is told, in one line, what a person should know.
        """
        if store.state.station is None or not store.state.enrolled:
            raise ValueError("a loudspeaker that belongs to no station has no session")
        self.refused: Counter[str] = Counter()
        self._station = store.state.station
        self._store = store
        self._key = store.state.key
        self._where = Whereabouts(server or self._station.address)
        self._look = look
        self._local_address = local_address
        self._speaker = speaker
        self._uniform = uniform
        self._backoff = Backoff(uniform)
        self._draw = draw
        self._say = say
        self._said = ""
        self._joined: StationAddress | None = None
        self._joined_s = 0.0
        self._missed = trio.Event()
        self._attempt = trio.CancelScope()
        self._told = 0

    @property
    def joined(self) -> StationAddress | None:
        """Where the station is that has welcomed us; None while it is not there."""
        return self._joined

    async def run(self) -> None:
        """For ever; RefusedForGood if there is no point."""
        async with trio.open_nursery() as nursery:
            if self._look is not None:
                nursery.start_soon(self._look_around, self._look)
            while True:
                reason = await self._once(self._where.next())
                self._leave()
                self._say_once(f"{reason}; trying again")
                await trio.sleep(self._backoff.next_s())

    def woken(self) -> None:
        """This machine has slept: whatever was begun before is dead, or may be; begin anew.

        Left to itself the end of a session would be noticed when the next word is due, or when
        its answer has been missing for long enough.
        """
        self._attempt.cancel()
        self._backoff.reset()

    def _leave(self) -> None:
        """Whoever is let in only to be sent away comes again less and less often."""
        if self._joined is not None and trio.current_time() >= self._joined_s + SETTLED_S:
            self._backoff.reset()
        self._joined = None
        self._missed.set()

    async def _look_around(self, look: Look) -> None:
        """Whenever the station is not found where it was."""
        while True:
            await self._missed.wait()
            for pause_s in chain(_LOOK_PAUSES_S, repeat(_LOOK_PAUSES_S[-1])):
                if self._joined is not None:
                    break
                self._where.heard_of(await look())
                await trio.sleep(pause_s)
            self._missed = trio.Event()

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)

    async def _once(self, address: StationAddress) -> str:
        """One session; returns why it ended."""
        with trio.CancelScope() as self._attempt:
            return await self._meet(address)
        return "this machine has slept"

    async def _meet(self, address: StationAddress) -> str:
        known, mine = self._station, self._local_address
        try:
            async with meet(
                address, known.root, known.generation, self._key, self._draw, mine
            ) as met:
                return await self._converse(met, address)
        except _ENDED as error:
            return self._broken(error, address)
        except BaseExceptionGroup as group:
            return self._broken(worlds_part(group, _ENDED), address)

    def _broken(self, error: BaseException, address: StationAddress) -> str:
        if (word := counted_as(error)) is not None:
            self.refused[word] += 1
        what = "station not found" if self._joined is None else "lost the station"
        return f"{what} at {address.text}: {why(error)}"

    async def _remember(self, station: KnownStation) -> None:
        """On the disk, before anything depends on it."""
        if station != self._station:
            await self._store.keep(replace(self._store.state, station=station))
            self._station = station

    async def _converse(self, meeting: Meeting, address: StationAddress) -> str:
        await self._remember(replace(self._station, generation=meeting.certificate.generation))
        name = self._store.state.name
        await meeting.introduce(self._speaker.hello(name, self._key.public, meeting.nonce))
        with trio.fail_after(HELLO_TIMEOUT_S):
            answer = await meeting.hear()
        match answer:
            case Refused(reason, final=True):
                raise RefusedForGood(reason)
            case Refused(reason):
                return reason
            case Enrolled(name):
                await self._store.keep(replace(self._store.state, name=name))
                return f"the station calls this loudspeaker {name} now"
            case Welcome():
                await self._accept(meeting, answer, address)
            case _:
                raise MalformedPacket("message_order")
        self._say_once(f"joined the station at {address.text}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_for_ever, meeting, answer.telemetry_s)
            while True:
                await self._obey(meeting, await meeting.hear(), nursery)

    async def _accept(self, meeting: Meeting, welcome: Welcome, address: StationAddress) -> None:
        """Believe the station from here on, unless this welcome is not its newest."""
        if welcome.version != VERSION:
            raise MalformedPacket("version")
        if welcome.number <= self._station.session_number:
            raise MalformedPacket("session_number")
        await self._remember(replace(self._station, session_number=welcome.number, address=address))
        self._where.proved(address)
        self._joined, self._joined_s = address, trio.current_time()
        certificate = meeting.certificate
        self._speaker.trust(VerifyKey(certificate.public), certificate.generation)
        self._speaker.welcomed(meeting.address, meeting.local_address, welcome, meeting.tls)

    async def _obey(self, meeting: Meeting, word: Said, nursery: trio.Nursery) -> None:
        match word:
            case Listen():
                self._told = word.revision
                self._speaker.declared(word)
                nursery.start_soon(self._confirm, meeting, word)
            case Adjust():
                self._speaker.adjusted(word)
            case Command():
                error = self._speaker.commanded(word)
                await meeting.say(Done(word.id, error))
                if word.action == "restart" and not error:
                    raise RestartAsked
            case Refused(reason):  # it was let in, and is no more
                raise RefusedForGood(reason) if word.final else _SentAwayError(reason)
            case Welcome() | Pending() | Enrolled():
                raise MalformedPacket("message_order")

    async def _confirm(self, meeting: Meeting, listen: Listen) -> None:
        """Say so once what is sent now would sound; of what is outdated, nothing."""
        if any(spec.group is None for spec in listen.streams):
            await self._speaker.reachable()
        if listen.revision == self._told:
            await meeting.say(Ready(listen.revision))

    async def _tell_for_ever(self, meeting: Meeting, every_s: float) -> None:
        # All loudspeakers come at once when their station does, and shall not all tell at once.
        pause_s = every_s * self._uniform()
        while True:
            await meeting.tell(self._speaker.telemetry(), every_s)
            with trio.move_on_after(pause_s):
                await self._speaker.news(every_s)
            pause_s = every_s
