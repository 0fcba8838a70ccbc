"""Control's uvicorn, as it is configured, over real loopback sockets and in real time."""

import asyncio
import hashlib
import os
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from server.__main__ import _open_store
from server.keys.tls import Trust, certificate_hash
from server.limits import Limits
from server.processes.child import Birth
from server.remote import ApiError, Credentials, call
from tests.support.serving import serving
from tests.support.stations import signer_of_name
from tests.support.tls import station_tls
from transport.control.messages import (
    SUBPROTOCOL,
    TO_SPEAKER,
    TO_STATION,
    VERSION,
    Adjust,
    Hello,
    Listen,
    Refused,
    Welcome,
)
from transport.security.certificates import StationCertificate
from transport.security.handshake import Ear, prove, recognise
from transport.security.keys import VerifyKey

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]
Word = Welcome | Refused | Adjust | Listen

# Never waited for unless something is broken.
PATIENCE_S = 20.0


class Loudspeaker:
    """One that was enrolled, at its end of a real connection."""

    def __init__(self, connection: ClientConnection, name: str) -> None:
        self.connection = connection
        self._key = signer_of_name(name)
        self._name = name
        self._ear: Ear | None = None

    async def hello(self) -> None:
        """See who the station is, and say who we are."""
        identity = TO_SPEAKER.decode(await self._frame())
        secured = self.connection.transport.get_extra_info("ssl_object")
        seen = hashlib.sha256(secured.getpeercert(binary_form=True)).digest()
        root = StationCertificate.parse(identity.certificate).root
        station = VerifyKey(recognise(identity, seen, root, 1).public)
        nonce = bytes(32)
        self._ear = Ear(station, self._key.public, nonce, identity.nonce)
        hello = Hello(VERSION, self._name, False, self._key.public, nonce)
        await self.connection.send(prove(self._key, identity.nonce, seen, TO_STATION.encode(hello)))

    async def word(self) -> Word:
        """The next of the station's words, if it is truly its own."""
        assert self._ear is not None
        heard: Word = TO_SPEAKER.decode(self._ear.hear(await self._frame()))
        return heard

    async def is_told_everything(self) -> None:
        """Until it has heard all that a newcomer is told."""
        for kind in (Welcome, Adjust, Listen):
            assert isinstance(await self.word(), kind)

    async def _frame(self) -> bytes:
        data = await asyncio.wait_for(self.connection.recv(), PATIENCE_S)
        assert isinstance(data, bytes)
        return data


@asynccontextmanager
async def session(address: str, name: str = "a") -> AsyncIterator[Loudspeaker]:
    async with connect(
        f"wss://{address}/control",
        ssl=station_tls().calling(),
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        proxy=None,
        close_timeout=0.1,
    ) as connection:
        yield Loudspeaker(connection, name)


def test_a_loudspeaker_s_session_over_a_real_socket(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.enrol("a")
        async with serving(room) as address, session(address) as speaker:
            await speaker.hello()
            welcome = await speaker.word()
            assert isinstance(welcome, Welcome)
            ports = room.control.queries.summary()["ports"]
            assert (welcome.time_port, welcome.media_port) == (ports["time"], ports["media"])
            assert await speaker.word() == Adjust(100, muted=False)
            assert isinstance(await speaker.word(), Listen)
            assert speaker.connection.subprotocol == SUBPROTOCOL
            # It would cost 87 KB a session.
            response = speaker.connection.response
            assert "Sec-WebSocket-Extensions" not in response.headers  # type: ignore[union-attr]
            assert room.control.station.speakers["a"].address == "127.0.0.1"

    play_control(scenario, real_time=True)


@pytest.mark.parametrize("said", ["hello", b"\xc1"], ids=["text", "rubbish"])
def test_what_does_not_belong_ends_that_session_and_no_other(
    play_control: Play, said: str | bytes
) -> None:
    async def scenario(room: Room) -> None:
        room.enrol("a", "good")
        async with (
            serving(room) as address,
            session(address) as bad,
            session(address, "good") as good,
        ):
            for speaker in (good, bad):
                await speaker.hello()
                await speaker.is_told_everything()
            await bad.connection.send(said)
            with pytest.raises(ConnectionClosed):
                await bad.word()
            pong = await good.connection.ping()
            await asyncio.wait_for(pong, PATIENCE_S)
            assert room.control.station.speakers["good"].session is not None

    play_control(scenario, real_time=True)


def test_a_message_larger_than_any_of_ours_is_not_even_read(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.enrol("a")
        async with serving(room) as address, session(address) as speaker:
            await speaker.hello()
            await speaker.is_told_everything()
            await speaker.connection.send(bytes((1 << 16) + 1))
            with pytest.raises(ConnectionClosed):
                await speaker.word()
            assert speaker.connection.close_code == 1009  # RFC 6455: too big to process

    play_control(scenario, real_time=True)


def test_who_is_not_enrolled_is_refused_over_a_real_socket(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        async with serving(room) as address, session(address) as stranger:
            await stranger.hello()
            refusal = await stranger.word()
            assert isinstance(refusal, Refused)
            assert "not enrolled" in refusal.reason

    play_control(scenario, real_time=True)


def test_who_says_nothing_is_sent_away_and_a_session_is_not(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.enrol("a")
        async with (
            # In which a busy machine, too, must have begun the session.
            serving(room, Limits(patience_s=1.0)) as address,
            session(address) as speaker,
        ):
            await speaker.hello()
            await speaker.is_told_everything()
            host, port = address.split(":")
            context: ssl.SSLContext = station_tls().calling()
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
            writer.close()
            await asyncio.wait_for(await speaker.connection.ping(), PATIENCE_S)

    play_control(scenario, real_time=True)


def test_the_api_is_asked_with_the_token_of_the_moment(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        trust = Trust(certificate_hash(Path(room.births["server"].tls_certificate)))
        access = room.control.access
        async with serving(room) as address:

            def ask(token: str) -> Any:
                credentials = Credentials(token, trust)
                return call(address, "GET", "/api/v1/station", credentials=credentials)

            first = access.token
            assert (await asyncio.to_thread(ask, first))["name"] == room.control.name
            access.token = "f" * 64
            with pytest.raises(ApiError, match="does not take this token"):
                await asyncio.to_thread(ask, first)
            assert await asyncio.to_thread(ask, access.token)

    play_control(scenario, real_time=True)


def test_an_interrupt_does_not_stop_the_serving(play_control: Play) -> None:
    # Ctrl-C reaches the whole group, and the supervisor alone shall answer it.
    async def scenario(room: Room) -> None:
        room.enrol("a")
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            async with serving(room) as address:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(0)
                async with session(address) as speaker:
                    await speaker.hello()
                    assert isinstance(await speaker.word(), Welcome)
                assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        finally:
            signal.signal(signal.SIGINT, before)

    play_control(scenario, real_time=True)


def test_a_folder_without_a_station_ends_control_with_one_line(
    births: dict[str, Birth], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"^loa serve: there is no station at ") as ended:
        _open_store(replace(births["server"], data=str(tmp_path)))
    assert len(str(ended.value).splitlines()) == 1
