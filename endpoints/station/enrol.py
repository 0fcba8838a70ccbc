"""How a loudspeaker becomes one of a station's: with a code, once."""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from endpoints.station.meeting import BROKEN, Meeting, Said, counted_as, meet, why, worlds_part
from endpoints.station.session import RefusedForGood
from endpoints.station.store import KnownStation, SpeakerState, SpeakerStore
from transport.control.address import StationAddress
from transport.control.messages import VERSION, Enrol, Enrolled, Pending, Refused
from transport.control.session import HELLO_TIMEOUT_S, Backoff
from transport.errors import MalformedPacket
from transport.security.enrolment import EnrolmentCode, enrolment_mac
from transport.security.keys import SigningKey, fingerprint, shown_fingerprint


@dataclass(frozen=True, slots=True)
class Wish:
    """What a loudspeaker would like to be: its name where the code says none, and its network."""

    name: str
    multicast: bool
    delivery: str = "lan"


def is_known(state: SpeakerState, code: EnrolmentCode) -> bool:
    """Whether the loudspeaker belongs already to the station that gave this code."""
    return state.enrolled and _station_of(state, code) is not None


def _station_of(state: SpeakerState, code: EnrolmentCode) -> KnownStation | None:
    """What is known of the station that gave this code, from whenever it was."""
    known = state.station
    return known if known and fingerprint(known.root) == code.root_fingerprint else None


class Enrolment:
    """Goes to the station that gave the code, until that has said yes or no."""

    def __init__(
        self,
        store: SpeakerStore,
        code: EnrolmentCode,
        wish: Wish,
        uniform: Callable[[], float],
        draw: Callable[[int], bytes],
        say: Callable[[str], None],
        *,
        server: StationAddress | None = None,
        seed: bytes | None = None,
    ) -> None:
        """`server` is where the station is, in place of what the code says; the rest as a session.

        `seed` is that of a new key, to take the place of one that the station will have no more;
        it is kept as soon as the station has taken the code.
        """
        self._store = store
        self._seed = seed or store.state.seed
        self._key = SigningKey(self._seed)
        self._known = _station_of(store.state, code)
        self._code = code
        self._wish = wish
        self._server = server or code.server
        self._backoff = Backoff(uniform)
        self._draw = draw
        self._say = say
        self._said = ""

    async def run(self) -> None:
        """Returns once the store knows name and station; RefusedForGood or StoreError if never."""
        while (trouble := await self._once()) is not None:
            self._say_once(f"{trouble}; trying again")
            await trio.sleep(self._backoff.next_s())

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)

    async def _once(self) -> str | None:
        """One session; why it ended without an answer, or None once that was yes."""
        try:
            least = self._known.generation if self._known else 0
            trusted = self._code.root_fingerprint
            async with meet(self._server, trusted, least, self._key, self._draw) as meeting:
                return await self._ask(meeting)
        except BROKEN as error:
            return self._broken(error)
        except BaseExceptionGroup as group:
            return self._broken(worlds_part(group))

    def _broken(self, error: BaseException) -> str:
        if counted_as(error) == "root":
            raise RefusedForGood(
                f"the station at {self._server.text} is not the one that gave this code: compare "
                "the code with what the station showed, or give --server HOST"
            )
        return f"cannot enrol at {self._server.text}: {why(error)}"

    async def _ask(self, meeting: Meeting) -> str | None:
        await meeting.introduce(self._word(meeting))
        with trio.fail_after(HELLO_TIMEOUT_S):
            answer = await meeting.hear()
        while isinstance(answer, Pending):
            await self._wait_for_a_person()
            answer = await meeting.hear_at_last()
        return await self._take(meeting, answer)

    def _word(self, meeting: Meeting) -> Enrol:
        public, wish = self._key.public, self._wish
        mac = enrolment_mac(self._code.key, meeting.station_nonce, meeting.tls.hash, public)
        return Enrol(
            VERSION,
            wish.name,
            public,
            meeting.nonce,
            self._code.number,
            mac,
            multicast=wish.multicast,
            delivery=wish.delivery,
        )

    async def _wait_for_a_person(self) -> None:
        """The station has taken the code for this key: it must be the same when we come again."""
        self._backoff.reset()
        if self._store.state.seed != self._seed:
            await self._store.keep(SpeakerState(self._seed, "", self._known))
        self._say_once(
            "waiting for approval at the station; this loudspeaker's key is "
            f"{shown_fingerprint(self._key.public)}"
        )

    async def _take(self, meeting: Meeting, answer: Said) -> str | None:
        match answer:
            case Enrolled(name):
                await self._store.keep(self._enrolled(meeting, name))
                self._say(f"enrolled as {name} at {self._server.text}")
                return None
            case Refused(reason, final=True):
                raise RefusedForGood(reason)
            case Refused(reason):
                return reason
            case _:
                raise MalformedPacket("message_order")

    def _enrolled(self, meeting: Meeting, name: str) -> SpeakerState:
        certificate = meeting.certificate
        # The numbers of the same station go on rising, whatever our key is.
        last = self._known.session_number if self._known else 0
        station = KnownStation(self._server, certificate.root, certificate.generation, last)
        return SpeakerState(self._seed, name, station)
