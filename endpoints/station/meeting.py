"""A conversation with a station that has proved who it is: TLS, its identity, its signed words."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.trio.client import ClientConnection

from endpoints.station.tls import TlsPeer, Websocket, open_tls
from transport.control.address import StationAddress
from transport.control.messages import (
    NONCE_BYTES,
    SUBPROTOCOL,
    TO_SPEAKER,
    TO_STATION,
    VERSION,
    Adjust,
    Command,
    Done,
    Enrol,
    Enrolled,
    Hello,
    Identity,
    Listen,
    Pending,
    Ready,
    Refused,
    Telemetry,
    Welcome,
    shown,
)
from transport.control.session import HELLO_TIMEOUT_S, SILENCE_TIMEOUT_S, TLS_TIMEOUT_S
from transport.errors import MalformedPacket
from transport.security.certificates import StationCertificate
from transport.security.handshake import MAX_FRAME_BYTES, Ear, prove, recognise
from transport.security.keys import SigningKey, VerifyKey

_LOOK_PAUSE_S = 5.0
Said = Pending | Enrolled | Welcome | Refused | Listen | Adjust | Command
# How a conversation may end; anything else is a mistake of ours.
BROKEN = (WebSocketException, MalformedPacket, trio.TooSlowError, OSError)
_IN_WORDS = {
    "root": "another station answers there",
    "generation": "its key has been replaced by a newer one",
    "certificate": "what answers there cannot prove to be the station",
    "tls_binding": "what answers there cannot prove to be the station",
    "signature": "something was said that the station did not sign",
    "message_number": "something was said again, or out of turn",
    "version": "another version of the protocol is spoken there",
    "session_number": "an old welcome was said again",
}


class Meeting:
    """One session with a station that was recognised, from our first word on."""

    def __init__(
        self,
        connection: ClientConnection,
        tls: TlsPeer,
        identity: Identity,
        certificate: StationCertificate,
        key: SigningKey,
        nonce: bytes,
    ) -> None:
        """`key` is ours, `nonce` what we drew for this session."""
        self.tls = tls
        self.certificate = certificate
        self.nonce = nonce
        self.station_nonce = identity.nonce
        self._connection = connection
        self._key = key
        station = VerifyKey(certificate.public)
        self._ear = Ear(station, key.public, nonce, identity.nonce)

    @property
    def address(self) -> str:
        """Where the station is."""
        return str(self._connection.remote_address[0])

    @property
    def local_address(self) -> str:
        """Where we are, as the station sees us unless somebody translates addresses."""
        return str(self._connection.local_address[0])

    async def introduce(self, word: Hello | Enrol) -> None:
        """Our first word, with the proof that we hold our key."""
        body = TO_STATION.encode(word)
        await self._connection.send(prove(self._key, self.station_nonce, self.tls.hash, body))

    async def say(self, word: Telemetry | Ready | Done) -> None:
        """Any later one."""
        await self._connection.send(TO_STATION.encode(word))

    async def tell(self, word: Telemetry, every_s: float) -> None:
        """The same, and see that the station is there; TooSlowError if it is not.

        It may have nothing to say for days, and TCP need not notice when it is gone. A station that
        wants to hear this every `every_s` only has many to answer.
        """
        with trio.fail_after(max(SILENCE_TIMEOUT_S, every_s)):
            await self.say(word)
            await self._see_that_it_is_there()

    async def _see_that_it_is_there(self) -> None:
        answered = await self._connection.ping()
        await answered.wait()

    async def hear(self) -> Said:
        """The station's next word; MalformedPacket for what it did not say to us, here and now."""
        said = TO_SPEAKER.decode(self._ear.hear(await _frame(self._connection)))
        if isinstance(said, Identity):
            raise MalformedPacket("message_order")
        word: Said = said
        return word

    async def hear_at_last(self) -> Said:
        """The same, however long that takes, as long as the station is there."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_after_it)
            word = await self.hear()
            nursery.cancel_scope.cancel()
        return word

    async def _look_after_it(self) -> None:
        while True:
            with trio.fail_after(SILENCE_TIMEOUT_S):
                await self._see_that_it_is_there()
            await trio.sleep(_LOOK_PAUSE_S)


async def _frame(connection: ClientConnection) -> bytes:
    data = await connection.recv()
    if not isinstance(data, bytes):
        raise MalformedPacket("message_text")
    return data


@asynccontextmanager
async def meet(
    address: StationAddress,
    trusted: bytes,
    least_generation: int,
    key: SigningKey,
    draw: Callable[[int], bytes],
    local_address: str | None = None,
) -> AsyncIterator[Meeting]:
    """Go there, and talk to no other station than the one that is `trusted`.

    That is its root's public key or fingerprint; `least_generation` the lowest that its station
    key may have; `draw` gives random bytes; we come from `local_address` if that is given. Whatever
    is in `BROKEN` may come.
    """
    with trio.fail_after(TLS_TIMEOUT_S):
        stream, tls = await open_tls(address.host, address.port, local_address)
    try:
        # It does not ping: we ask ourselves, as often as there is something to tell.
        control = Websocket(address, "/control", stream, SUBPROTOCOL, max_size=MAX_FRAME_BYTES)
        async with control as connection:
            with trio.fail_after(HELLO_TIMEOUT_S):
                identity = TO_SPEAKER.decode(await _frame(connection))
            if not isinstance(identity, Identity):
                raise MalformedPacket("message_order")
            if identity.version != VERSION:
                raise MalformedPacket("version")
            certificate = recognise(identity, tls.hash, trusted, least_generation)
            yield Meeting(connection, tls, identity, certificate, key, draw(NONCE_BYTES))
    finally:
        await trio.aclose_forcefully(stream)


def worlds_part(
    error: BaseException, worlds: tuple[type[BaseException], ...] = BROKEN
) -> BaseException:
    """What of an error is one of these; whatever is not is raised.

    That is being switched off, or a mistake; that the connection broke as well is no news then.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    broken, rest = error.split(worlds)
    if rest is not None:
        raise rest from None
    return broken or error


def counted_as(error: BaseException) -> str | None:
    """The word to count a malformed message under, if that was it."""
    error = _innermost(error)
    return error.reason if isinstance(error, MalformedPacket) else None


def why(error: BaseException) -> str:
    """The innermost reason, in the system's own words where it has any; fit for a terminal.

    It may be the text of whoever answered, who need not be the station.
    """
    error = _innermost(error)
    if isinstance(error, MalformedPacket):
        return _IN_WORDS.get(error.reason, error.reason)
    if isinstance(error, trio.TooSlowError):
        return "no answer"
    if isinstance(error, ConnectionClosed) and error.rcvd is None:
        return "the connection broke"
    if isinstance(error, OSError) and error.strerror:
        # trio adds to the text where it was going; a resolver's numbers are not the system's.
        errno = error.errno or 0
        return os.strerror(errno) if errno > 0 else error.strerror
    return shown(str(error).partition("\n")[0]) or type(error).__name__


def _innermost(error: BaseException) -> BaseException:
    while (inner := _inner(error)) is not None:
        error = inner
    return error


def _inner(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    # "All attempts to connect failed" is trio's, and says nothing that was not known.
    return error.__cause__ if isinstance(error, OSError) and error.strerror is None else None
