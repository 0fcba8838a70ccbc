"""The gateway: media and time over TLS, for a loudspeaker that UDP does not reach."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import trio
from websockets.trio.client import ClientConnection

from endpoints.station.meeting import BROKEN, why, worlds_part
from endpoints.station.tls import TlsPeer, Websocket, open_tls
from transport.control.address import StationAddress
from transport.control.session import HELLO_TIMEOUT_S, SILENCE_TIMEOUT_S, Backoff
from transport.net.stamped import MAX_DATAGRAM
from transport.security.session_keys import gateway_token

SUBPROTOCOL = "loa.media.2"
MEDIA, TIME, LEAVING = b"\0", b"\1", b"\2"
# A frame is a datagram behind the byte that says what it is.
_MAX_FRAME = 1 + MAX_DATAGRAM
# What cannot leave at once is old soon: a question for the time is asked again anyway.
_MAX_WAITING = 8
# So long sound may still come this way after we said that we leave.
_LINGER_S = 1.0
# Who hangs up on us sooner than this is no gateway to hurry back to.
_STEADY_S = 4.0


@dataclass(frozen=True, slots=True)
class Gate:
    """Where the gateway is, whom it must be shown to be, and what to show it."""

    tls: TlsPeer
    port: int
    session: int
    key: bytes

    @property
    def address(self) -> StationAddress:
        """Where to call."""
        return StationAddress(self.tls.host, self.port)

    @property
    def text(self) -> str:
        """For people."""
        return self.address.text


class Relay:
    """Comes to one session's gateway, again and again, until it is told to leave."""

    def __init__(
        self,
        gate: Gate,
        take: Callable[[bytes, bytes], None],
        changed: Callable[[], None],
        dropped: Counter[str],
        uniform: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        """`take` is given a kind (`MEDIA` or `TIME`) and what came, `say` a line for people.

        `changed` is called whenever `open` has; what is no such frame is counted in `dropped`.
        """
        self._gate = gate
        self._take = take
        self._changed = changed
        self._dropped = dropped
        self._backoff = Backoff(uniform)
        self._say = say
        self._said = ""
        self._scope = trio.CancelScope()
        self._left = self._last = False
        self._leaving = trio.Event()
        self._outgoing: trio.MemorySendChannel[bytes] | None = None
        self._opened_s = 0.0

    @property
    def open(self) -> bool:
        """Whether media would come this way now."""
        return self._outgoing is not None and not self._left

    def send_time(self, packet: bytes) -> bool:
        """Ask the time by this way: false where it is shut, or stuck."""
        if self._outgoing is None or self._left:
            return False
        try:
            self._outgoing.send_nowait(TIME + packet)
        except trio.WouldBlock:
            self._dropped["relay_full"] += 1
            return False
        return True

    def leave(self) -> None:
        """Go, for there is a better way; what is still on this one is taken for a moment."""
        self._left = True
        self._leaving.set()
        self.come_no_more()

    def come_no_more(self) -> None:
        """Stay as long as this connection does, and let no other follow."""
        self._last = True
        if self._outgoing is None:
            self._scope.cancel()

    async def run(self) -> None:
        """Until it is told to leave, and has left."""
        with self._scope:
            while not self._last:
                fault = await self._once()
                if not self._last:
                    self._say_once(f"{fault}; trying again")
                    await trio.sleep(self._backoff.next_s())

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)

    async def _once(self) -> str:
        """One connection; returns why it ended."""
        try:
            with trio.fail_after(HELLO_TIMEOUT_S):
                stream, tls = await open_tls(self._gate.tls.host, self._gate.port)
        except BROKEN as error:
            return f"the station's gateway is not found at {self._gate.text}: {why(error)}"
        try:
            if tls.hash != self._gate.tls.hash:
                return (
                    f"what answers at {self._gate.text} is not the station's gateway: "
                    "it shows another TLS certificate"
                )
            return await self._converse(stream)
        finally:
            await trio.aclose_forcefully(stream)

    async def _converse(self, stream: trio.abc.Stream) -> str:
        try:
            async with self._websocket(stream) as connection, trio.open_nursery() as nursery:
                outgoing, waiting = trio.open_memory_channel[bytes](_MAX_WAITING)
                self._begin(outgoing)
                nursery.start_soon(_pass_on, connection, waiting)
                nursery.start_soon(self._leave_when_told, connection, nursery.cancel_scope)
                await self._take_frames(connection)
        except (*BROKEN, BaseExceptionGroup) as error:
            return f"lost the station's gateway at {self._gate.text}: {why(worlds_part(error))}"
        finally:
            self._end()
        return "left"

    def _begin(self, outgoing: trio.MemorySendChannel[bytes]) -> None:
        self._outgoing = outgoing
        self._opened_s = trio.current_time()
        self._say_once(f"no UDP from the station: sound comes by its gateway at {self._gate.text}")
        self._changed()

    def _end(self) -> None:
        if self._outgoing is None:
            return  # it never began
        self._outgoing = None
        if trio.current_time() - self._opened_s > _STEADY_S:
            self._backoff.reset()
        self._changed()

    async def _take_frames(self, connection: ClientConnection) -> None:
        while True:
            frame = await connection.recv()
            if isinstance(frame, bytes) and frame[:1] in {MEDIA, TIME}:
                self._take(frame[:1], frame[1:])
            else:
                self._dropped["relay_kind"] += 1

    async def _leave_when_told(
        self, connection: ClientConnection, conversation: trio.CancelScope
    ) -> None:
        await self._leaving.wait()
        # The station sends by UDP from now on, but not from this very moment.
        with trio.move_on_after(_LINGER_S):
            await connection.send(LEAVING)
            await trio.sleep_forever()
        conversation.cancel()

    def _websocket(self, stream: trio.abc.Stream) -> Websocket:
        # Its other end is known: only now the token is shown.
        gate = self._gate
        return Websocket(
            gate.address,
            "/media",
            stream,
            SUBPROTOCOL,
            max_size=_MAX_FRAME,
            headers={"Authorization": f"Bearer {gateway_token(gate.session, gate.key)}"},
            ping_s=5,
            silence_s=SILENCE_TIMEOUT_S,
        )


async def _pass_on(connection: ClientConnection, waiting: trio.MemoryReceiveChannel[bytes]) -> None:
    async for frame in waiting:
        await connection.send(frame)
