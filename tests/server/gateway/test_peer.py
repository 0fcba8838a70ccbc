"""One connection, on a transport that the test holds in its hands."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override
from websockets.client import ClientProtocol
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from server.gateway.peer import DEAF_S, PING_S, SUBPROTOCOL, Peer, frame_of

Run = Callable[[Coroutine[Any, Any, None]], None]


class Wire(asyncio.Transport):
    """What the peer is sent; `unread` is what waits in TLS."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.unread = 0
        self._ended = ""

    def ended(self) -> str:
        """How, if it has."""
        return self._ended

    @override
    def write(self, data: Any) -> None:
        assert not self._ended
        self.sent.append(bytes(data))

    @override
    def get_write_buffer_size(self) -> int:
        return self.unread

    @override
    def is_closing(self) -> bool:
        return bool(self._ended)

    @override
    def close(self) -> None:
        self._ended = self._ended or "closed"

    @override
    def abort(self) -> None:
        self._ended = "cut off"


class Room:
    """A hall that admits `good`, a peer in it, and the client at the other end."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.answer: bytes | None = None
        self.complaints = 0
        self.gone = 0
        self.wire = Wire()
        self.client = ClientProtocol(
            parse_uri("wss://station/media"), subprotocols=[SUBPROTOCOL], max_size=None
        )
        self.peer = Peer(self, "192.0.2.1")
        self.peer.connection_made(self.wire)

    def met(self, peer: Peer) -> None:
        self.seen = peer

    def admit(self, peer: Peer, token: str) -> bool:
        if token == "good":
            peer.session = 1
        return peer.session is not None

    def hear(self, peer: Peer, message: bytes) -> bytes | None:
        assert peer is self.peer
        self.heard.append(message)
        return self.answer

    def malformed(self) -> None:
        self.complaints += 1

    def lost(self, peer: Peer) -> None:
        assert peer is self.peer
        self.gone += 1

    def call(
        self,
        authorization: str | None = "Bearer good",
        path: str = "/media",
        subprotocol: str | None = SUBPROTOCOL,
    ) -> Response:
        request = self.client.connect()
        request.path = path
        del request.headers["Sec-WebSocket-Protocol"]
        if subprotocol is not None:
            request.headers["Sec-WebSocket-Protocol"] = Subprotocol(subprotocol)
        if authorization is not None:
            request.headers["Authorization"] = authorization
        self.client.send_request(request)
        self.say()
        (response,) = self.events()
        assert isinstance(response, Response)
        return response

    def say(self) -> None:
        """What the client has to say goes to the peer, in one piece."""
        data = b"".join(self.client.data_to_send())
        if data and not self.wire.ended():
            self.peer.data_received(data)

    def events(self) -> list[Any]:
        """What the client is told."""
        for data in self.wire.sent:
            self.client.receive_data(data)
        self.wire.sent.clear()
        return self.client.events_received()


@pytest.fixture
def play(run: Run) -> Callable[[Callable[[Room], None]], None]:
    def play(scenario: Callable[[Room], None]) -> None:
        async def main() -> None:
            scenario(Room())

        run(main())

    return play


Play = Callable[[Callable[[Room], None]], None]


def test_whoever_shows_a_good_token_comes_in(play: Play) -> None:
    def scenario(room: Room) -> None:
        response = room.call()
        assert response.status_code == 101
        assert response.headers["Sec-WebSocket-Protocol"] == SUBPROTOCOL
        assert "Sec-WebSocket-Extensions" not in response.headers
        assert room.client.state is State.OPEN

    play(scenario)


@pytest.mark.parametrize(
    "authorization", [None, "Bearer bad", "good", "Basic good", "Bearer", "Bearer  good", ""]
)
def test_whoever_shows_none_is_told_401_and_hung_up_on(
    play: Play, authorization: str | None
) -> None:
    def scenario(room: Room) -> None:
        assert room.call(authorization).status_code == 401
        assert room.wire.ended() == "closed"
        assert not room.peer.relay(frame_of(b"\0sound"))

    play(scenario)


def test_two_tokens_are_none(play: Play) -> None:
    def scenario(room: Room) -> None:
        request = room.client.connect()
        request.headers["Authorization"] = "Bearer good"
        request.headers["Authorization"] = "Bearer bad"
        room.client.send_request(request)
        room.say()
        assert room.events()[0].status_code == 401

    play(scenario)


@pytest.mark.parametrize("subprotocol", [None, "loa.media.1", "loa.control.v2"])
def test_whoever_speaks_another_protocol_is_turned_away(
    play: Play, subprotocol: str | None
) -> None:
    def scenario(room: Room) -> None:
        assert room.call(subprotocol=subprotocol).status_code == 400
        assert room.peer.session is None

    play(scenario)


def test_there_is_nothing_but_media(play: Play) -> None:
    def scenario(room: Room) -> None:
        assert room.call(path="/control").status_code == 404

    play(scenario)


def test_a_request_without_an_upgrade_is_answered_and_hung_up_on(play: Play) -> None:
    def scenario(room: Room) -> None:
        room.peer.data_received(b"GET /media HTTP/1.1\r\nHost: x\r\n\r\n")
        assert room.wire.sent[0].startswith(b"HTTP/1.1 426")
        assert room.wire.ended() == "closed"

    play(scenario)


def test_whoever_says_nothing_for_five_seconds_is_cut_off(run: Run) -> None:
    async def main() -> None:
        room = Room()
        await asyncio.sleep(4.99)
        assert not room.wire.ended()
        await asyncio.sleep(0.02)
        assert room.wire.ended() == "cut off"

    run(main())


def test_whoever_has_come_in_may_be_silent(run: Run) -> None:
    async def main() -> None:
        room = Room()
        room.call()
        await asyncio.sleep(600)
        assert not room.wire.ended()

    run(main())


def test_a_datagram_is_one_binary_frame(play: Play) -> None:
    def scenario(room: Room) -> None:
        room.call()
        for length in (0, 100, 200, 1500):
            assert room.peer.relay(frame_of(b"\0" + bytes(length)))
            (frame,) = room.events()
            assert (frame.opcode, bytes(frame.data)) == (Opcode.BINARY, bytes(length + 1))

    play(scenario)


def test_what_is_asked_is_answered(play: Play) -> None:
    def scenario(room: Room) -> None:
        room.call()
        room.answer = b"\1reply"
        room.client.send_binary(b"\1question")
        room.say()
        assert room.heard == [b"\1question"]
        assert [bytes(frame.data) for frame in room.events()] == [b"\1reply"]

    play(scenario)


def test_nothing_is_sent_to_who_does_not_read(play: Play) -> None:
    def scenario(room: Room) -> None:
        room.call()
        room.wire.unread = 1  # in TLS: below it 64 KB wait already
        assert not room.peer.relay(frame_of(b"\0sound"))
        room.wire.unread = 0
        assert room.peer.relay(frame_of(b"\0sound"))
        assert len(room.events()) == 1

    play(scenario)


def test_whoever_answers_no_ping_for_ten_seconds_is_cut_off(play: Play) -> None:
    """Seen to fail with `tick` only sending pings."""

    def scenario(room: Room) -> None:
        room.call()
        room.peer.tick(PING_S)
        room.peer.tick(PING_S + DEAF_S - 0.1)
        assert not room.wire.ended()
        room.peer.tick(PING_S + DEAF_S)
        assert room.wire.ended() == "cut off"

    play(scenario)


def test_whoever_answers_only_the_last_ping_stays(play: Play) -> None:
    def scenario(room: Room) -> None:
        room.call()
        for now_s in (PING_S, 2 * PING_S):
            room.peer.tick(now_s)
        pings = [frame for frame in room.events() if frame.opcode is Opcode.PING]
        room.client.data_to_send()  # not its own answers
        room.client.send_pong(pings[-1].data)
        room.say()
        room.peer.tick(PING_S + DEAF_S)
        assert len(pings) == 2
        assert not room.wire.ended()

    play(scenario)


def test_whoever_answers_all_pings_stays_for_ever(play: Play) -> None:
    def scenario(room: Room) -> None:
        room.call()
        for second in range(1000):
            room.peer.tick(float(second))
            room.events()
            room.say()
        assert not room.wire.ended()

    play(scenario)


def test_a_pong_that_was_not_asked_for_proves_nothing(play: Play) -> None:
    def scenario(room: Room) -> None:
        room.call()
        room.peer.tick(PING_S)
        room.client.send_pong(b"I am here")
        room.say()
        room.peer.tick(PING_S + DEAF_S)
        assert room.wire.ended() == "cut off"

    play(scenario)


def test_whoever_says_too_much_is_cut_off(play: Play) -> None:
    def scenario(room: Room) -> None:
        room.call()
        for _ in range(300):
            room.client.send_binary(bytes(73))
            room.say()
        assert room.wire.ended() == "cut off"
        assert len(room.heard) < 250
        assert room.complaints == 1

    play(scenario)


def test_whoever_asks_for_pongs_and_reads_none_is_cut_off(play: Play) -> None:
    def scenario(room: Room) -> None:
        room.call()
        room.wire.unread = 70_000
        room.client.send_ping(b"")
        room.say()
        assert room.wire.ended() == "cut off"

    play(scenario)


@pytest.mark.parametrize(
    "frames",
    [
        [Frame(Opcode.TEXT, b"hello")],
        [Frame(Opcode.BINARY, bytes(10), fin=False), Frame(Opcode.CONT, bytes(10))],
        [Frame(Opcode.BINARY, bytes(129))],
    ],
)
def test_what_nobody_says_ends_the_connection(play: Play, frames: list[Frame]) -> None:
    def scenario(room: Room) -> None:
        room.call()
        for frame in frames:
            if not room.wire.ended():
                room.peer.data_received(frame.serialize(mask=True))
        assert room.wire.ended() == "closed"
        assert room.heard == []

    play(scenario)


def test_a_newer_connection_s_elder_is_told_why_it_has_to_go(play: Play) -> None:
    def scenario(room: Room) -> None:
        room.call()
        room.peer.go_away(CloseCode.POLICY_VIOLATION, "this session has called again")
        (frame,) = room.events()
        assert Close.parse(frame.data).code == CloseCode.POLICY_VIOLATION
        assert room.wire.ended() == "closed"

    play(scenario)


def test_a_loss_is_told_once(play: Play) -> None:
    def scenario(room: Room) -> None:
        room.call()
        for _ in range(2):
            room.peer.connection_lost(None)
        assert room.gone == 1
        assert not room.peer.relay(frame_of(b"\0sound"))
        room.peer.tick(1e9)

    play(scenario)


GOOD = (
    b"GET /media HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: loa.media.2\r\nAuthorization: Bearer good\r\n\r\n"
)
_CHUNKS = st.lists(
    st.one_of(
        st.binary(max_size=200),
        st.just(GOOD),
        st.builds(
            lambda opcode, data, fin: Frame(opcode, data, fin).serialize(mask=True),
            st.sampled_from([Opcode.BINARY, Opcode.TEXT, Opcode.CONT]),
            st.binary(max_size=140),
            st.booleans(),
        ),
        st.builds(
            lambda opcode, data: Frame(opcode, data).serialize(mask=True),
            st.sampled_from([Opcode.PING, Opcode.PONG, Opcode.CLOSE]),
            st.binary(max_size=125),
        ),
    ),
    max_size=6,
)


@given(chunks=_CHUNKS, together=st.booleans())
def test_whatever_is_said_nothing_is_raised_or_written_after_the_end(
    chunks: list[bytes], together: bool
) -> None:
    async def main() -> None:
        room = Room()
        for data in [b"".join(chunks)] if together else chunks:
            if room.wire.ended():
                break
            room.peer.data_received(data)
        room.peer.relay(frame_of(b"\0sound"))
        room.peer.tick(PING_S)
        room.peer.eof_received()
        room.peer.connection_lost(None)

    asyncio.run(main())
