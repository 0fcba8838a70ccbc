"""The control session: found, lost and found again, for ever."""

import os
from collections.abc import Callable
from typing import Protocol

import trio
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.trio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from transport.control.address import StationAddress
from transport.control.messages import (
    SUBPROTOCOL,
    TO_SPEAKER,
    TO_STATION,
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
from transport.control.session import (
    HELLO_TIMEOUT_S,
    SILENCE_TIMEOUT_S,
    TELEMETRY_INTERVAL_S,
    Backoff,
)
from transport.control.wire import MAX_MESSAGE_BYTES
from transport.errors import MalformedPacket

_Said = Welcome | Refused | Listen | Adjust | Command
# How a session may end; anything else is a mistake of ours.
_BROKEN = (WebSocketException, MalformedPacket, trio.TooSlowError, OSError)


class RefusedForGood(Exception):  # noqa: N818 - it is what happened
    """The station will not have this loudspeaker, whenever it asks."""


class RestartAsked(Exception):  # noqa: N818 - it is what happened
    """The station wants this loudspeaker to begin anew."""


class Speaker(Protocol):
    """What the session needs of the loudspeaker."""

    def hello(self) -> Hello:
        """What to say first."""

    def welcomed(self, address: str, local_address: str, welcome: Welcome) -> None:
        """The station answered from `address`, to our `local_address`."""

    def declared(self, listen: Listen) -> None:
        """What to listen to from now on."""

    def adjusted(self, adjust: Adjust) -> None:
        """How loud to be from now on."""

    def commanded(self, command: Command) -> str:
        """Do it; nothing, or one line that says why not. A restart is the session's to raise."""

    def telemetry(self) -> Telemetry:
        """How it is."""


class ControlSession:
    """Says hello, does as told, tells how it is."""

    def __init__(
        self,
        server: StationAddress,
        speaker: Speaker,
        uniform: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        """`say` is told, in one line, what a person should know."""
        self._server = server
        self._speaker = speaker
        self._backoff = Backoff(uniform)
        self._say = say
        self._said = ""
        self._joined = False

    @property
    def joined(self) -> bool:
        """Whether the station has welcomed us and is still there."""
        return self._joined

    async def run(self) -> None:
        """For ever; RefusedForGood if there is no point."""
        while True:
            reason = await self._once()
            self._joined = False
            self._say_once(f"{reason}; trying again")
            await trio.sleep(self._backoff.next_s())

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)

    async def _once(self) -> str:
        """One session; returns why it ended."""
        self._joined = False
        try:
            async with self._connect() as connection:
                return await self._converse(connection)
        except _BROKEN as error:
            return self._broken(error)
        except BaseExceptionGroup as group:
            broken, rest = group.split(_BROKEN)
            if rest is not None:
                # Being switched off, or a mistake; that the connection broke as well is no news.
                raise rest from None
            return self._broken(broken or group)

    def _broken(self, error: BaseException) -> str:
        what = "lost the station at" if self._joined else "station not found at"
        return f"{what} {self._server.text}: {_why(error)}"

    def _connect(self) -> connect:
        return connect(
            f"ws://{self._server.text}/control",
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            proxy=None,
            max_size=MAX_MESSAGE_BYTES,
            open_timeout=HELLO_TIMEOUT_S,
            ping_interval=5,
            ping_timeout=SILENCE_TIMEOUT_S,
            close_timeout=1,
        )

    async def _converse(self, connection: ClientConnection) -> str:
        await connection.send(TO_STATION.encode(self._speaker.hello()))
        with trio.fail_after(HELLO_TIMEOUT_S):
            answer = await self._receive(connection)
        match answer:
            case Refused(reason, final=True):
                raise RefusedForGood(reason)
            case Refused(reason):
                return reason
            case Welcome():
                address, local = connection.remote_address[0], connection.local_address[0]
                self._speaker.welcomed(address, local, answer)
            case _:
                raise MalformedPacket("message_order")
        self._joined = True
        self._backoff.reset()
        self._say_once(f"joined the station at {self._server.text}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_for_ever, connection)
            while True:
                await self._obey(connection, await self._receive(connection))

    async def _obey(self, connection: ClientConnection, message: _Said) -> None:
        match message:
            case Listen():
                self._speaker.declared(message)
                await connection.send(TO_STATION.encode(Ready(message.revision)))
            case Adjust():
                self._speaker.adjusted(message)
            case Command():
                error = self._speaker.commanded(message)
                await connection.send(TO_STATION.encode(Done(message.id, error)))
                if message.action == "restart" and not error:
                    raise RestartAsked
            case Welcome() | Refused():
                pass  # said already

    @staticmethod
    async def _receive(connection: ClientConnection) -> _Said:
        data = await connection.recv()
        if not isinstance(data, bytes):
            raise MalformedPacket("message_text")
        message: _Said = TO_SPEAKER.decode(data)
        return message

    async def _tell_for_ever(self, connection: ClientConnection) -> None:
        while True:
            await connection.send(TO_STATION.encode(self._speaker.telemetry()))
            await trio.sleep(TELEMETRY_INTERVAL_S)


def _why(error: BaseException) -> str:
    """The innermost reason, in the system's own words where it has any."""
    while (inner := _inner(error)) is not None:
        error = inner
    if isinstance(error, trio.TooSlowError):
        return "no answer"
    if isinstance(error, ConnectionClosed) and error.rcvd is None:
        return "the connection broke"
    if isinstance(error, OSError) and error.strerror:
        # trio adds to the text where it was going; a resolver's numbers are not the system's.
        errno = error.errno or 0
        return os.strerror(errno) if errno > 0 else error.strerror
    return str(error).partition("\n")[0] or type(error).__name__


def _inner(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    # "All attempts to connect failed" is trio's, and says nothing that was not known.
    return error.__cause__ if isinstance(error, OSError) and error.strerror is None else None
