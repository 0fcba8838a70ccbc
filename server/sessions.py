"""Control sessions: one WebSocket a loudspeaker."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from fastapi import WebSocket, WebSocketDisconnect

from server.errors import StationError
from server.station import Station
from transport.control.messages import (
    SUBPROTOCOL,
    TO_SPEAKER,
    TO_STATION,
    VERSION,
    Adjust,
    Command,
    Done,
    Hello,
    Listen,
    Ready,
    Refused,
    Telemetry,
    Welcome,
)
from transport.control.session import HELLO_TIMEOUT_S, SILENCE_TIMEOUT_S
from transport.errors import MalformedPacket

_SEND_TIMEOUT_S = 5.0
_CLOSE_TIMEOUT_S = 1.0
_ANSWER_TIMEOUT_S = 2.0
_MAX_COMMANDS = 4
_Said = Hello | Telemetry | Ready | Done


class Session:
    """One loudspeaker's session: what it was last told, and what it last confirmed."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._wake = asyncio.Event()
        self._wanted: Listen | None = None
        self._adjust: Adjust | None = None
        self._outbox: dict[str, Listen | Adjust] = {}
        self._commands: deque[Command] = deque()
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._last_command = 0
        self.confirmed = 0
        self.told = 0

    def tell(self, listen: Listen) -> None:
        """Declare its state, if it is news; one not yet sent is replaced, so nothing queues up."""
        if self._wanted is not None and self._wanted.streams == listen.streams:
            return
        self._wanted = self._outbox["listen"] = listen
        self.told = listen.revision
        self._wake.set()

    def adjust(self, adjust: Adjust) -> None:
        """Declare how loud it is, if it is news."""
        if adjust != self._adjust:
            self._adjust = self._outbox["adjust"] = adjust
            self._wake.set()

    async def command(self, action: str, seconds: float) -> str:
        """Have it do something; nothing, or one line that says why it was not done."""
        if len(self._answers) >= _MAX_COMMANDS:
            return "it has not answered yet to what it was asked before"
        self._last_command += 1
        number = self._last_command
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._commands.append(Command(number, action, seconds))
        self._wake.set()
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                error: str = await answer
                return error
        except TimeoutError:
            return f"no answer within {_ANSWER_TIMEOUT_S:g} s"
        finally:
            del self._answers[number]

    def answered(self, done: Done) -> None:
        """The loudspeaker's word on a command; one that nobody waits for is forgotten."""
        answer = self._answers.get(done.id)
        if answer is not None and not answer.done():
            answer.set_result(done.error)

    async def send_for_ever(self) -> None:
        """Send each newest state; a peer that stops reading ends the session."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            messages = (*self._outbox.values(), *self._commands)
            self._outbox.clear()
            self._commands.clear()
            for message in messages:
                data = TO_SPEAKER.encode(message)
                # Not wait_for: in Python 3.11 it swallows a cancellation that meets the end of
                # the send, and the session would never be over.
                async with asyncio.timeout(_SEND_TIMEOUT_S):
                    await self._websocket.send_bytes(data)


class Sessions:
    """Admits loudspeakers and keeps them told."""

    def __init__(
        self,
        station: Station,
        welcome: Welcome,
        now_ns: Callable[[], int],
        joined: Callable[[], None],
    ) -> None:
        """`joined` is called for each that comes; it may have come back elsewhere."""
        self._station = station
        self._welcome = welcome
        self._now_ns = now_ns
        self._joined = joined
        self._open: dict[str, Session] = {}
        self._revision = 0
        self._confirmed = asyncio.Condition()

    async def serve(self, websocket: WebSocket) -> None:
        """One session from hello to its end."""
        code, reason = 1000, ""
        try:
            await websocket.accept(subprotocol=_chosen_subprotocol(websocket))
            await self._greet(websocket)
        except (WebSocketDisconnect, TimeoutError, RuntimeError):
            # RuntimeError is how Starlette reports a send after the peer has gone.
            pass
        except MalformedPacket as error:
            # Whoever builds a loudspeaker wants to know what is wrong with it (RFC 6455 7.4.1).
            code, reason = 1007, error.reason
        finally:
            await _close(websocket, code, reason)

    async def _greet(self, websocket: WebSocket) -> None:
        try:
            hello = await self._receive(websocket, HELLO_TIMEOUT_S)
        except MalformedPacket as error:
            reason = f"no hello of protocol version {VERSION}: {error.reason}"
            await websocket.send_bytes(TO_SPEAKER.encode(Refused(reason, final=True)))
            raise
        if isinstance(hello, Hello):
            await self._admit(websocket, hello)

    async def _admit(self, websocket: WebSocket, hello: Hello) -> None:
        if hello.version != VERSION:
            reason = f"protocol version {hello.version}, this station speaks {VERSION}"
            await websocket.send_bytes(TO_SPEAKER.encode(Refused(reason, final=True)))
            return
        address = websocket.client.host if websocket.client else ""
        session = Session(websocket)
        try:
            self._station.join(hello, address, session, self._now_ns())
        except StationError as error:
            await websocket.send_bytes(TO_SPEAKER.encode(Refused(str(error), final=False)))
            return
        self._open[hello.name] = session
        try:
            await self._run(websocket, hello.name, session)
        finally:
            if self._open.get(hello.name) is session:
                del self._open[hello.name]
            self._station.leave(hello.name, session)

    async def _run(self, websocket: WebSocket, name: str, session: Session) -> None:
        async with asyncio.timeout(_SEND_TIMEOUT_S):
            await websocket.send_bytes(TO_SPEAKER.encode(self._welcome))
        self._revision += 1
        self._tell(name, session)
        self._joined()
        sending = asyncio.create_task(session.send_for_ever())
        # A send that fails must end the session as a receive that fails does.
        receiving = asyncio.create_task(self._receive_for_ever(websocket, name, session))
        try:
            done, _ = await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            sending.cancel()
            receiving.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    async def _receive_for_ever(self, websocket: WebSocket, name: str, session: Session) -> None:
        while True:
            message = await self._receive(websocket, SILENCE_TIMEOUT_S)
            speaker = self._station.speakers.get(name)
            if speaker is None or speaker.session is not session:
                return  # another has taken the name over, and may be forgotten already
            speaker.last_seen_ns = self._now_ns()
            match message:
                case Telemetry():
                    speaker.telemetry = message
                case Ready():
                    session.confirmed = min(message.revision, session.told)
                    async with self._confirmed:
                        self._confirmed.notify_all()
                case Done():
                    session.answered(message)
                case Hello():
                    return  # it was said already

    @staticmethod
    async def _receive(websocket: WebSocket, timeout_s: float) -> _Said:
        async with asyncio.timeout(timeout_s):
            message = await websocket.receive()
        data = message.get("bytes")
        if not isinstance(data, bytes):  # a text frame, or the peer's goodbye
            raise WebSocketDisconnect(message.get("code") or 1003)
        decoded: _Said = TO_STATION.decode(data)
        return decoded

    def declare(self) -> None:
        """Tell every loudspeaker whose state has changed."""
        self._revision += 1
        for name, session in self._open.items():
            self._tell(name, session)

    def _tell(self, name: str, session: Session) -> None:
        endpoint = self._station.directory.endpoints[name]
        session.adjust(Adjust(endpoint.volume, endpoint.muted))
        session.tell(self._station.listen(name, self._revision))

    async def command(self, names: Iterable[str], action: str, seconds: float) -> dict[str, str]:
        """Have these do something; what each says against it, or nothing, by its name."""

        async def one(name: str) -> str:
            session = self._open.get(name)
            return "it is offline" if session is None else await session.command(action, seconds)

        names = list(names)
        return dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))

    async def confirm(self, names: set[str], timeout_s: float) -> set[str]:
        """Wait until these have confirmed what they were told; those that have not, in time."""

        def missing() -> set[str]:
            return {
                name
                for name, session in self._open.items()
                if name in names and session.confirmed < session.told
            }

        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._confirmed:
                await self._confirmed.wait_for(lambda: not missing())
        return missing()


def _chosen_subprotocol(websocket: WebSocket) -> str | None:
    return SUBPROTOCOL if SUBPROTOCOL in websocket.scope.get("subprotocols", ()) else None


async def _close(websocket: WebSocket, code: int = 1000, reason: str = "") -> None:
    # It may well be closed already.
    with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await websocket.close(code, reason)
