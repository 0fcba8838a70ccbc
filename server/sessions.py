"""Control sessions: one WebSocket a loudspeaker."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from fastapi import WebSocket, WebSocketDisconnect

from server.station import Station, StationError
from transport.control.messages import (
    SUBPROTOCOL,
    TO_SPEAKER,
    TO_STATION,
    VERSION,
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


class Session:
    """One loudspeaker's session: what it was last told, and what it last confirmed."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._wake = asyncio.Event()
        self._wanted: Listen | None = None
        self.confirmed = 0
        self.told = 0

    def tell(self, listen: Listen) -> None:
        """Declare its state, if it is news; one not yet sent is replaced, so nothing queues up."""
        if self._wanted is not None and self._wanted.streams == listen.streams:
            return
        self._wanted = listen
        self.told = listen.revision
        self._wake.set()

    async def send_for_ever(self) -> None:
        """Send each newest state; a peer that stops reading ends the session."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._wanted is not None:
                data = TO_SPEAKER.encode(self._wanted)
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
        try:
            await websocket.accept(subprotocol=_chosen_subprotocol(websocket))
            hello = await self._receive(websocket, HELLO_TIMEOUT_S)
            if isinstance(hello, Hello):
                await self._admit(websocket, hello)
        except (WebSocketDisconnect, MalformedPacket, TimeoutError, RuntimeError):
            # RuntimeError is how Starlette reports a send after the peer has gone.
            pass
        finally:
            await _close(websocket)

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
        session.tell(self._station.listen(name, self._revision))
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
            speaker = self._station.speakers[name]
            if speaker.session is not session:
                return  # another has taken the name over
            speaker.last_seen_ns = self._now_ns()
            match message:
                case Telemetry():
                    speaker.telemetry = message
                case Ready():
                    session.confirmed = message.revision
                    async with self._confirmed:
                        self._confirmed.notify_all()
                case _:
                    return

    @staticmethod
    async def _receive(websocket: WebSocket, timeout_s: float) -> Hello | Telemetry | Ready:
        async with asyncio.timeout(timeout_s):
            message = await websocket.receive()
        data = message.get("bytes")
        if not isinstance(data, bytes):  # a text frame, or the peer's goodbye
            raise WebSocketDisconnect(message.get("code") or 1003)
        decoded: Hello | Telemetry | Ready = TO_STATION.decode(data)
        return decoded

    def declare(self) -> None:
        """Tell every loudspeaker whose state has changed."""
        self._revision += 1
        for name, session in self._open.items():
            session.tell(self._station.listen(name, self._revision))

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


async def _close(websocket: WebSocket) -> None:
    # It may well be closed already.
    with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await websocket.close()
