"""Control sessions: one WebSocket a loudspeaker, which proves its key before it is told anything.

What each is told follows from the station's state: who is revoked, whose key was replaced, and on
whom a person has decided is seen when everything is declared, like what there is to listen to.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from fastapi import WebSocketDisconnect

from server import pace
from server.audit.caller import Caller, calling
from server.bucket import Bucket
from server.enrolling import Enrolling
from server.enrolment import Code, EnrolmentError, TooManyStrangersError, Waiting
from server.errors import StationError
from server.keys.credentials import Credentials, Greeting, Said
from server.programmes import Certify
from server.session import SEND_TIMEOUT_S, Session, Turns, Wire, Words
from server.station import Station
from server.telling import Confirmations, Untold
from transport.control.address import plain_address
from transport.control.messages import (
    NONCE_BYTES,
    SUBPROTOCOL,
    TO_STATION,
    VERSION,
    Adjust,
    Done,
    Enrol,
    Enrolled,
    Hello,
    Pending,
    Ready,
    Refused,
    Telemetry,
    Welcome,
)
from transport.control.session import HELLO_TIMEOUT_S
from transport.errors import MalformedPacket
from transport.security.session_keys import session_number

# Together with the time for a last word less than a second: who is revoked is gone by then.
_CLOSE_TIMEOUT_S = 0.4
_TRY_AGAIN = 1013  # the IANA registry of close codes
_TOO_MANY = 1008  # RFC 6455 7.4.1: against our policy
# Of a loudspeaker's messages; it has two or three a second to say, and one for each of ours.
_MESSAGES_A_SECOND = 20
_MESSAGES_AT_ONCE = 100
# Then others have their turn: to receive what has come already does not give it them.
_MESSAGES_IN_A_ROW = 8
_NOT_ENROLLED = Refused(
    "this loudspeaker is not enrolled here (or was revoked): get a code with `loa enrol`",
    final=True,
)
_REPLACED = Refused(
    "it has begun another session; if this happens again and again, its state file was copied: "
    "enrol each of the two with a code of its own",
    final=False,
)
_DECIDED_AGAINST = Refused("a person has refused this loudspeaker", final=True)
_PENDING = Pending("a person has yet to approve this loudspeaker: `loa enrol approve`")


class _TooManyMessagesError(Exception):
    """A loudspeaker says more than it can have to say."""


class Sessions:
    """Admits loudspeakers and keeps them told."""

    def __init__(
        self,
        station: Station,
        credentials: Credentials,
        enrolling: Enrolling,
        welcome: Callable[[int, int], Welcome],
        *,
        certify: Certify,
        next_number: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        now_ns: Callable[[], int],
        joined: Callable[[], None],
        refused: Callable[[Mapping[str, str], str, Caller], None],
    ) -> None:
        """`welcome` gives the first word to the session of a (rising) number and its own number.

        `next_number` rises with every call, over all lives of the station. `joined` is called for
        each that comes, which `joins` counts; it may have come back elsewhere. `refused` as
        `Recorder.refused`.
        """
        self._station = station
        self.credentials = credentials
        self._enrolling = enrolling
        self._welcome = welcome
        self._certify = certify
        self._next_number = next_number
        self._random_bytes = random_bytes
        self._now_ns = now_ns
        self._joined = joined
        self._refused = refused
        self._turns = Turns()
        self._words = Words()
        self._all: set[Session] = set()
        self._open: dict[str, Session] = {}
        self._waiting: dict[bytes, Session] = {}
        self._revision = 0
        self.joins = 0
        self._untold = Untold(self._tell_again, now_ns)
        self._confirmations = Confirmations()

    # ------------------------------------------------------------- the beginning of a session
    async def serve(self, websocket: Wire) -> None:
        """One session from its first word to its end."""
        code, reason = 1000, ""
        try:
            await websocket.accept(subprotocol=_chosen_subprotocol(websocket))
            code, reason = await self._greet(websocket)
        except (WebSocketDisconnect, TimeoutError, RuntimeError):
            # RuntimeError is how Starlette reports a send after the peer has gone.
            pass
        except MalformedPacket as error:
            # Whoever builds a loudspeaker wants to know what is wrong with it (RFC 6455 7.4.1).
            code, reason = 1007, error.reason
            self._note_refusal(websocket, "", f"malformed: {error.reason}")
        except TooManyStrangersError:
            code, reason = _TRY_AGAIN, "too many wrong codes: try again in a moment"
            self._note_refusal(websocket, "", reason)
        except _TooManyMessagesError:
            code, reason = _TOO_MANY, f"more than {_MESSAGES_A_SECOND} messages a second"
        finally:
            await _close(websocket, code, reason)

    async def _greet(self, websocket: Wire) -> tuple[int, str]:
        """From the station's first word to the end; how to close."""
        greeting = Greeting(self.credentials, self._random_bytes(NONCE_BYTES))
        async with self._turns:
            identity = greeting.identity()
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await websocket.send_bytes(identity)
        said = greeting.hear(await self._receive(websocket, HELLO_TIMEOUT_S))
        word = said.word
        # Before anything that costs more: strangers are many.
        code = self._code_of(word, greeting) if isinstance(word, Enrol) else None
        async with self._turns:
            speech = greeting.proven(said)
        if greeting.credentials is not self.credentials:
            return _TRY_AGAIN, "the station has another key now"
        session = Session(websocket, word.key, speech, self._turns, self._words)
        self._all.add(session)
        try:
            await self._answer(websocket, session, word, code)
        finally:
            self._all.discard(session)
        return session.close_code, session.close_reason

    def _code_of(self, enrol: Enrol, greeting: Greeting) -> Code | EnrolmentError:
        tls_hash, now_ns = greeting.credentials.tls_hash, self._now_ns()
        try:
            return self._enrolling.enrolment.check(enrol, greeting.nonce, tls_hash, now_ns)
        except EnrolmentError as error:
            return error

    async def _answer(
        self,
        websocket: Wire,
        session: Session,
        word: Hello | Enrol,
        code: Code | EnrolmentError | None,
    ) -> None:
        known = self._station.directory.by_key(word.key)
        if word.version != VERSION:
            why = f"protocol version {word.version}, this station speaks {VERSION}"
            await self._refuse(websocket, session, word.name, Refused(why, final=True))
        elif isinstance(word, Hello):
            if known is None:
                await self._refuse(websocket, session, word.name, _NOT_ENROLLED)
            elif known.name != word.name:
                await session.say(Enrolled(known.name))
            else:
                await self._admit(websocket, session, word)
        elif known is not None and not (isinstance(code, Code) and code.name):
            # It was enrolled, and never heard of it.
            await session.say(Enrolled(known.name))
        elif isinstance(code, Code):
            await self._enrol(websocket, session, word, code)
        elif code is not None:
            refused = Refused(str(code), final=code.final)
            await self._refuse(websocket, session, word.name, refused)

    async def _refuse(self, websocket: Wire, session: Session, name: str, refused: Refused) -> None:
        self._note_refusal(websocket, name, refused.reason)
        await session.say(refused)

    def _note_refusal(self, websocket: Wire, name: str, why: str) -> None:
        """`name` is what it calls itself, if it does."""
        who = f"loudspeaker {name}" if name else "a loudspeaker"
        self._refused({"asked": "session"}, why, Caller(who, _address(websocket)))

    async def _admit(self, websocket: Wire, session: Session, hello: Hello) -> None:
        name = hello.name
        known = self._station.speakers.get(name)
        last = 0 if known is None else known.session_number
        number = session_number(session.key, self._now_ns(), last)
        try:
            self._station.join(hello, _address(websocket), session, self._now_ns(), number)
        except StationError as error:
            refused = Refused(str(error), final=False)
            await self._refuse(websocket, session, name, refused)
            return
        before = self._open.get(name)
        if before is not None:
            before.end(_REPLACED)
        self._open[name] = session
        try:
            welcome = self._welcome(self._next_number(), number)
            self._revision += 1
            self._tell(name, session)
            self.joins += 1
            self._joined()
            silence_s = pace.silence_s(welcome.telemetry_s)
            hearing = self._hear_all(websocket, name, session, silence_s)
            await session.converse(welcome, hearing)
        finally:
            if self._open.get(name) is session:
                del self._open[name]
                self._confirmations.settle(name)
            self._station.leave(name, session)

    # ------------------------------------------------------------- enrolment
    async def _enrol(self, websocket: Wire, session: Session, enrol: Enrol, code: Code) -> None:
        try:
            if code.name:
                with calling(f"loudspeaker {code.name}", _address(websocket)):
                    name = await self._enrolling.enrol(code, enrol)
                await session.say(Enrolled(name))
            else:
                await self._await_decision(websocket, session, enrol, code)
        except EnrolmentError as error:
            refused = Refused(str(error), final=error.final)
            await self._refuse(websocket, session, enrol.name, refused)
        except StationError as error:
            refused = Refused(str(error), final=False)
            await self._refuse(websocket, session, enrol.name, refused)

    async def _await_decision(
        self, websocket: Wire, session: Session, enrol: Enrol, code: Code
    ) -> None:
        key, address = enrol.key, _address(websocket)
        wish = Waiting(
            key, code, enrol.name, address, enrol.delivery, enrol.multicast, self._now_ns()
        )
        self._enrolling.enrolment.wait(wish)
        before = self._waiting.get(key)
        if before is not None:
            before.end(_REPLACED)
        self._waiting[key] = session
        try:
            await session.converse(_PENDING, _until_it_goes(websocket))
        finally:
            if self._waiting.get(key) is session:
                del self._waiting[key]
                self._enrolling.enrolment.leave(key)

    # ------------------------------------------------------------- its course
    async def _hear_all(
        self, websocket: Wire, name: str, session: Session, silence_s: float
    ) -> None:
        bucket = Bucket(_MESSAGES_A_SECOND, _MESSAGES_AT_ONCE)
        for number in itertools.count():
            message = await self._hear(websocket, bucket, silence_s)
            if number % _MESSAGES_IN_A_ROW == 0:
                await asyncio.sleep(0)
            speaker = self._station.speakers.get(name)
            if speaker is None or speaker.session is not session:
                continue  # it is revoked or replaced, and will be told
            speaker.last_seen_ns = self._now_ns()
            match message:
                case Telemetry():
                    speaker.told(message)
                    self._station.directory.touched.add(name)
                case Ready():
                    session.confirmed = min(message.revision, session.told)
                    self._settle(name, session)
                case Done():
                    session.answered(message)
                case Hello() | Enrol():
                    return  # it was said already

    async def _hear(self, websocket: Wire, bucket: Bucket, silence_s: float) -> Said:
        data = await self._receive(websocket, silence_s)
        if not bucket.take(self._now_ns()):
            raise _TooManyMessagesError
        message: Said = TO_STATION.decode(data)
        return message

    @staticmethod
    async def _receive(websocket: Wire, timeout_s: float) -> bytes:
        async with asyncio.timeout(timeout_s):
            message = await websocket.receive()
        data = message.get("bytes")
        if not isinstance(data, bytes):  # a text frame, or the peer's goodbye
            raise WebSocketDisconnect(message.get("code") or 1003)
        return data

    # ------------------------------------------------------------- what follows from the state
    def declare(self) -> None:
        """Tell everybody what has changed for them; whose key is not known any more is sent away.

        Of thousands, most are told after this has returned, for others have their turn as well.
        Nothing is signed here: each session does that when it is its turn.
        """
        self._revision += 1
        self._untold.add(self._open)
        for key, session in self._waiting.items():
            if not self._enrolling.enrolment.is_waiting(key):
                known = self._station.directory.by_key(key)
                session.end(_DECIDED_AGAINST if known is None else Enrolled(known.name))

    def declare_to(self, names: Iterable[str]) -> None:
        """The same, where it is different for these alone."""
        self._revision += 1
        self._untold.add(name for name in names if name in self._open)

    def _tell_again(self, name: str) -> None:
        """Whatever is so by now."""
        session = self._open.get(name)
        if session is None:
            return
        endpoint = self._station.directory.endpoints.get(name)
        if endpoint is None or endpoint.key != session.key:
            session.end(_NOT_ENROLLED)
        else:
            self._tell(name, session)
        self._settle(name, session)

    def _settle(self, name: str, session: Session) -> None:
        if name not in self._untold and session.confirmed >= session.told:
            self._confirmations.settle(name)

    def _tell(self, name: str, session: Session) -> None:
        endpoint = self._station.directory.endpoints[name]
        session.adjust(Adjust(endpoint.volume, endpoint.muted, endpoint.trim_us))
        session.tell(self._station.listen(name, self._revision, self._certify))

    def close_all(self, why: str) -> None:
        """Close every session; each may come back at once."""
        for session in self._all:
            session.end(None, 1012, why)

    def rotate(self, credentials: Credentials) -> None:
        """The station has another key: whoever spoke with the one before begins anew."""
        self.credentials = credentials
        self.close_all("the station has another key now")

    # ------------------------------------------------------------- what they are asked
    async def command(self, names: Iterable[str], action: str, seconds: float) -> dict[str, str]:
        """Have these do something; what each says against it, or nothing, by its name."""

        async def one(name: str) -> str:
            session = self._open.get(name)
            return "it is offline" if session is None else await session.command(action, seconds)

        names = list(names)
        return dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))

    async def confirm(self, names: set[str], timeout_s: float) -> set[str]:
        """Wait until these have confirmed what they were told; those that have not, in time."""
        silent = {
            name
            for name, session in self._open.items()
            if name in names and (name in self._untold or session.confirmed < session.told)
        }
        return await self._confirmations.wait(silent, timeout_s)


async def _until_it_goes(websocket: Wire) -> None:
    """Who waits has nothing to say; TCP tells whether it lives."""
    await websocket.receive()


def _address(websocket: Wire) -> str:
    return plain_address(websocket.client.host) if websocket.client else ""


def _chosen_subprotocol(websocket: Wire) -> str | None:
    return SUBPROTOCOL if SUBPROTOCOL in websocket.scope.get("subprotocols", ()) else None


async def _close(websocket: Wire, code: int = 1000, reason: str = "") -> None:
    # It may well be closed already.
    with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await websocket.close(code, reason)
