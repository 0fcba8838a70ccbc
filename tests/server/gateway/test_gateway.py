"""The whole gateway, on the sockets and memory it is born with; its peers speak real TLS."""

import asyncio
import datetime as dt
import os
import select
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from server.door import MAX_EACH, Door
from server.gateway import gateway as module
from server.gateway.gateway import Gateway
from server.gateway.peer import DEAF_S, PING_S, SUBPROTOCOL
from server.keys.selfmade import CERTIFICATE, KEY, make_certificate
from server.keys.tls import server_context
from server.processes.bus import (
    FROM_GATEWAY,
    TO_GATEWAY,
    Bus,
    GatewayReport,
    WhoIsThere,
    pack_sessions,
    unpack_sessions,
)
from server.processes.child import Birth, adopt, read_secret
from server.processes.ring import REPAIR, RTP, Entry, RingWriter
from server.processes.routing import Route, RouteBook
from transport.clock.exchange import ExchangeClient
from transport.security.session_keys import (
    gateway_token,
    holder_of,
    open_time,
    seal_time,
    session_key,
)

# Never waited for unless something is broken.
PATIENCE_S = 10.0
# Sessions of two loudspeakers.
ONE, OTHER = 7 << 24 | 99, 8 << 24 | 99


class House:
    """A gateway's surroundings: its control, its producer, and whoever calls it."""

    def __init__(self, birth: Birth, certificates: Path, held: ExitStack) -> None:
        self.birth = birth
        self._context = server_context(certificates / CERTIFICATE, certificates / KEY)
        self._secret = read_secret(birth.secret)
        self.ring = RingWriter(birth.ring, birth.gateway_wake, now_ns=lambda: 0)
        self._routes = RouteBook(birth.routes)
        with adopt(birth.gateway) as listening:
            self.port = int(listening.getsockname()[1])
        self._held = held
        self._news = asyncio.Event()
        self.newest: GatewayReport | None = None

    def attend(self, control_bus: int) -> None:
        end = self._held.enter_context(adopt(control_bus))
        self.bus: Bus[WhoIsThere, GatewayReport] = Bus(end, TO_GATEWAY, FROM_GATEWAY)
        loop = asyncio.get_running_loop()
        loop.add_reader(end, self._hear)
        self._held.callback(loop.remove_reader, end)

    def _hear(self) -> None:
        for report in self.bus.receive():
            self.newest = report
            self._news.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Gateway]:
        """A gateway, until the end of the block cuts its lifeline."""
        lifeline, end = os.pipe()
        gateway = Gateway(replace(self.birth, lifeline=lifeline), self._context)
        task = asyncio.create_task(gateway.run())
        try:
            yield gateway
        finally:
            os.close(end)
            await asyncio.wait_for(task, PATIENCE_S)
            os.close(lifeline)

    async def report(self, holds: Callable[[GatewayReport], bool]) -> GatewayReport:
        """The first report from now on of which this holds."""
        async with asyncio.timeout(PATIENCE_S):
            while self.newest is None or not holds(self.newest):
                self._news.clear()
                await self._news.wait()
        return self.newest

    async def here(self, *sessions: int) -> GatewayReport:
        return await self.report(lambda r: set(unpack_sessions(r.sessions)) == set(sessions))

    async def declare(self, **streams: list[int]) -> None:
        """`s1=[ONE, OTHER]`: stream 1 goes to these sessions. Returns when that is so."""
        self._routes.write(
            Route(int(name[1:]), 20.0, sessions=pack_sessions(to)) for name, to in streams.items()
        )
        os.eventfd_write(self.birth.gateway_wake, 1)
        await self.attentive()

    async def attentive(self) -> None:
        """Until the gateway has taken its wake-up, and so all that it was woken up for."""
        async with asyncio.timeout(PATIENCE_S):
            # An eventfd that another reads tells nobody.
            while select.select([self.birth.gateway_wake], [], [], 0)[0]:  # noqa: ASYNC110
                await asyncio.sleep(0)

    def key(self, session: int) -> bytes:
        return session_key(self._secret, session)

    def call(self, session: int, token: str | None = None) -> connect:
        token = token or gateway_token(session, self.key(session))
        return connect(
            f"wss://127.0.0.1:{self.port}/media",
            ssl=trusting(),
            subprotocols=[SUBPROTOCOL],
            additional_headers={"Authorization": f"Bearer {token}"},
            open_timeout=PATIENCE_S,
            close_timeout=PATIENCE_S,
            ping_interval=None,
        )

    def sound(self, *datagrams: bytes, stream: int = 1) -> None:
        for datagram in datagrams:
            self.ring.write(Entry(stream, RTP, datagram))


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def heard(client: ClientConnection, count: int) -> list[bytes]:
    async with asyncio.timeout(PATIENCE_S):
        return [bytes(await client.recv(decode=False)) for _ in range(count)]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder, ["127.0.0.1"], dt.datetime.now(dt.UTC))
    return folder


Scenario = Callable[[House], Coroutine[Any, Any, None]]
Play = Callable[[Scenario], None]


@pytest.fixture
def play(
    births: dict[str, Birth], certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Play]:
    """Play a scenario on the loop that the process runs on."""
    with ExitStack() as held:
        # A process keeps what it has adopted until its end; a test must not.
        monkeypatch.setattr(module, "adopt", lambda fd: held.enter_context(adopt(fd)))

        def play(scenario: Scenario) -> None:
            async def main() -> None:
                with ExitStack() as during:
                    house = House(births["server.gateway"], certificates, during)
                    house.attend(births["server"].gateway_bus)
                    await scenario(house)

            uvloop.run(main())

        yield play


# ------------------------------------------------------------------ sound
def test_what_the_producer_writes_goes_to_the_sessions_declared_and_nobody_else(
    play: Play,
) -> None:
    async def scenario(house: House) -> None:
        async with house.running(), house.call(ONE) as one, house.call(OTHER) as other:
            await house.here(ONE, OTHER)
            await house.declare(s1=[ONE], s2=[ONE, OTHER])
            house.sound(b"one", stream=1)
            house.sound(b"two", stream=2)
            house.sound(b"stray", stream=3)
            house.sound(b"three", stream=2)
            assert await heard(one, 3) == [b"\0one", b"\0two", b"\0three"]
            assert await heard(other, 2) == [b"\0two", b"\0three"]
            report = await house.report(lambda r: r.datagrams == 5)
            assert (report.dropped, report.overruns) == (0, 0)

    play(scenario)


def test_repairs_do_not_go_where_nothing_is_lost(play: Play) -> None:
    async def scenario(house: House) -> None:
        async with house.running(), house.call(ONE) as client:
            await house.here(ONE)
            await house.declare(s1=[ONE])
            house.sound(b"one")
            house.ring.write(Entry(1, REPAIR, b"one again"))
            house.sound(b"two")
            assert await heard(client, 2) == [b"\0one", b"\0two"]
            assert (await house.report(lambda r: r.datagrams == 2)).overruns == 0

    play(scenario)


def test_a_burst_longer_than_one_turn_arrives_whole_and_in_order(play: Play) -> None:
    async def scenario(house: House) -> None:
        async with house.running(), house.call(ONE) as client:
            await house.here(ONE)
            await house.declare(s1=[ONE])
            house.sound(*(b"%d" % n for n in range(500)))
            assert await heard(client, 500) == [b"\0%d" % n for n in range(500)]

    play(scenario)


def test_what_was_written_before_anybody_was_declared_is_not_sent_later(play: Play) -> None:
    async def scenario(house: House) -> None:
        async with house.running(), house.call(ONE) as client:
            await house.here(ONE)
            house.sound(*[b"old"] * 3000)
            await house.attentive()
            await house.declare(s1=[ONE])
            house.sound(b"new")
            assert await heard(client, 1) == [b"\0new"]
            await house.declare()
            house.sound(*[b"unheard"] * 3000)
            await house.attentive()
            await house.declare(s1=[ONE])
            house.sound(b"newer")
            assert await heard(client, 1) == [b"\0newer"]
            assert (await house.report(lambda r: r.datagrams == 2)).overruns == 0

    play(scenario)


def test_while_nobody_is_here_it_does_not_wake_up(play: Play) -> None:
    """Seen to fail with a gateway that does not fall asleep when the last one goes."""

    async def scenario(house: House) -> None:
        async with house.running():
            async with house.call(ONE) as client:
                await house.here(ONE)
                await house.declare(s1=[ONE])
                house.sound(b"sound")
                assert await heard(client, 1) == [b"\0sound"]
            await house.here()
            house.sound(*[b"unheard"] * 10)
            await asyncio.sleep(0.05)
            assert os.eventfd_read(house.birth.gateway_wake) == 10
            async with house.call(ONE) as client:
                await house.here(ONE)
                house.sound(b"heard")
                assert await heard(client, 1) == [b"\0heard"]

    play(scenario)


def test_S16_one_that_never_reads_does_not_delay_the_frames_of_another(  # noqa: N802
    play: Play,
) -> None:
    """Seen to fail with `Peer.relay` writing whatever waits already."""

    async def scenario(house: House) -> None:
        async with house.running() as gateway, house.call(ONE) as deaf, house.call(OTHER) as other:
            deaf.transport.pause_reading()
            await house.here(ONE, OTHER)
            await house.declare(s1=[ONE, OTHER])
            for start in range(0, 3000, 100):
                sounds = [b"%d" % n + bytes(1000) for n in range(start, start + 100)]
                house.sound(*sounds)
                # The next are not written before these have been heard.
                assert await heard(other, 100) == [b"\0" + sound for sound in sounds]
            report = await house.report(lambda r: r.datagrams + r.dropped == 6000)
            # Of 3 MB the deaf one was sent what fits the buffers of two kernels, and 64 KB.
            assert 3000 < report.datagrams < 5000
            transport = gateway._peers[holder_of(ONE)]._transport
            assert transport is not None
            assert transport.get_write_buffer_size() < 2000  # above the 64 KB below TLS
            loop = asyncio.get_running_loop()
            gateway.tick(loop.time() + PING_S)
            gateway.tick(loop.time() + PING_S + 1)
            await answered(other)
            gateway.tick(loop.time() + PING_S + DEAF_S)
            await house.here(OTHER)
            deaf.transport.abort()

    play(scenario)


async def answered(client: ClientConnection) -> None:
    """Until the station has read all that this client has said, pongs included."""
    async with asyncio.timeout(PATIENCE_S):
        await (await client.ping())


# ------------------------------------------------------------------ who comes in
@pytest.mark.parametrize("wrong", ["", "x", "0" * 80])
def test_whoever_shows_no_good_token_is_told_401(play: Play, wrong: str) -> None:
    async def scenario(house: House) -> None:
        async with house.running():
            with pytest.raises(InvalidStatus) as refused:
                await house.call(ONE, wrong or " ")
            assert refused.value.response.status_code == 401
            report = await house.report(lambda r: r.refused == 1)
            assert report.sessions == b""

    play(scenario)


def test_the_token_of_another_session_s_key_is_none(play: Play) -> None:
    async def scenario(house: House) -> None:
        async with house.running():
            with pytest.raises(InvalidStatus):
                await house.call(ONE, gateway_token(ONE, house.key(OTHER)))

    play(scenario)


def test_of_two_connections_of_one_session_the_newer_wins(play: Play) -> None:
    async def scenario(house: House) -> None:
        async with house.running(), house.call(ONE) as elder:
            await house.here(ONE)
            await house.declare(s1=[ONE])
            async with house.call(ONE) as newer:
                with pytest.raises(ConnectionClosed, match="called again"):
                    await heard(elder, 1)
                house.sound(b"sound")
                assert await heard(newer, 1) == [b"\0sound"]
                await house.here(ONE)

    play(scenario)


def test_a_newer_session_of_a_loudspeaker_takes_the_place_of_its_older_one(play: Play) -> None:
    """What still comes for the older one is not lost: control hears of the newer one later."""

    async def scenario(house: House) -> None:
        async with house.running() as gateway, house.call(ONE) as elder:
            await house.here(ONE)
            await house.declare(s1=[ONE])
            async with house.call(ONE + 1) as newer:
                with pytest.raises(ConnectionClosed, match="called again"):
                    await heard(elder, 1)
                house.sound(b"one")
                assert await heard(newer, 1) == [b"\0one"]
                await house.here(ONE + 1)
                await house.declare(s1=[ONE + 1])
                house.sound(b"two")
                assert await heard(newer, 1) == [b"\0two"]
                assert len(gateway._peers) == 1

    play(scenario)


def test_an_older_session_of_a_loudspeaker_that_is_there_is_told_401(play: Play) -> None:
    async def scenario(house: House) -> None:
        async with house.running(), house.call(ONE + 1) as newer:
            await house.here(ONE + 1)
            await house.declare(s1=[ONE + 1])
            for older in (ONE, ONE - 50):
                with pytest.raises(InvalidStatus) as refused:
                    await house.call(older)
                assert refused.value.response.status_code == 401
            await house.report(lambda r: r.refused == 2)
            await house.here(ONE + 1)
            house.sound(b"sound")
            assert await heard(newer, 1) == [b"\0sound"]

    play(scenario)


def test_as_many_session_keys_as_one_loudspeaker_may_collect_take_one_place(play: Play) -> None:
    """Seen to fail with one peer a session."""

    async def scenario(house: House) -> None:
        async with house.running() as gateway, AsyncExitStack() as held:
            for session in range(ONE, ONE + 20):
                await held.enter_async_context(house.call(session))
            await house.here(ONE + 19)
            assert len(gateway._peers) == 1

    play(scenario)


async def knock(house: House, held: ExitStack, said: bytes = b"\x16") -> None:
    """Begin TLS and say no more."""
    loop = asyncio.get_running_loop()
    stranger = held.enter_context(socket.socket())
    stranger.setblocking(False)
    await loop.sock_connect(stranger, ("127.0.0.1", house.port))
    await loop.sock_sendall(stranger, said)


def test_whoever_is_enrolled_comes_in_through_a_door_full_of_strangers(play: Play) -> None:
    async def scenario(house: House) -> None:
        async with house.running() as gateway:
            with ExitStack() as held:
                for _ in range(MAX_EACH + 3):
                    await knock(house, held)
                await house.report(lambda r: r.refused == 3)
                assert len(gateway._entrance) == MAX_EACH
                async with house.call(ONE):
                    await house.here(ONE)
            await house.report(lambda r: r.refused == MAX_EACH + 3)
            assert len(gateway._entrance) == 0

    play(scenario)


def test_whoever_is_enrolled_comes_in_among_strangers_that_show_no_token(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Door", partial(Door, each=3))

    async def scenario(house: House) -> None:
        async with house.running() as gateway, AsyncExitStack() as held:
            for _ in range(5):
                _, writer = await asyncio.open_connection("127.0.0.1", house.port, ssl=trusting())
                held.callback(writer.close)
            await house.report(lambda r: r.refused == 2)
            assert len(gateway._strangers) == 3
            async with house.call(ONE):
                await house.here(ONE)
                assert len(gateway._strangers) == 2

    play(scenario)


def test_a_full_house_takes_nobody_until_somebody_goes(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PEERS", 1)

    async def scenario(house: House) -> None:
        async with house.running():
            async with house.call(ONE):
                await house.here(ONE)
                with pytest.raises((InvalidMessage, OSError)):
                    await house.call(OTHER)
            await house.here()
            async with house.call(OTHER):
                await house.here(OTHER)

    play(scenario)


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_whoever_speaks_no_tls_keeps_nothing_here(play: Play) -> None:
    async def scenario(house: House) -> None:
        async with house.running() as gateway:
            before = descriptors()
            for _ in range(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
                writer.write(b"GET /media HTTP/1.1\r\n\r\n")
                async with asyncio.timeout(PATIENCE_S):
                    await reader.read()
                writer.close()
            await house.report(lambda r: r.refused == 20)
            assert descriptors() <= before + 1  # the last may be about to be closed
            assert len(gateway._entrance) == len(gateway._strangers) == 0

    play(scenario)


# ------------------------------------------------------------------ time
def test_whoever_asks_is_told_the_time(play: Play) -> None:
    async def scenario(house: House) -> None:
        async with house.running(), house.call(ONE) as client:
            asking = ExchangeClient(lambda: 1)
            nonce, packet = asking.request()
            asking.sent(nonce, 0)
            await client.send(b"\1" + seal_time(packet, ONE, house.key(ONE)))
            (reply,) = await heard(client, 1)
            exchange = asking.receive(open_time(reply[1:], ONE, house.key(ONE)), 10**9)
            assert reply[:1] == b"\1"
            assert exchange.t3_ns >= exchange.t2_ns

    play(scenario)


def test_what_is_no_question_is_counted_and_the_next_is_answered(play: Play) -> None:
    async def scenario(house: House) -> None:
        async with house.running(), house.call(ONE) as client:
            asking = ExchangeClient(lambda: 1)
            _, packet = asking.request()
            good = b"\1" + seal_time(packet, ONE, house.key(ONE))
            others = b"\1" + seal_time(packet, OTHER, house.key(OTHER))
            rubbish = [
                b"",
                b"\0sound",
                b"\3",
                b"\2x",
                good[:-1],
                good + b"x",
                others,
                good[:-1] + b"x",
            ]
            for message in rubbish:
                await client.send(message)
            await client.send(good)
            assert len(await heard(client, 1)) == 1
            await house.report(lambda r: r.malformed == len(rubbish))

    play(scenario)


# ------------------------------------------------------------------ control, life and death
def test_one_that_goes_back_to_udp_hears_until_it_is_gone(play: Play) -> None:
    """Control sends by UDP at once; nothing is lost between that and its hanging up."""

    async def scenario(house: House) -> None:
        async with house.running():
            async with house.call(ONE) as leaving, house.call(OTHER) as other:
                await house.here(ONE, OTHER)
                await house.declare(s1=[ONE, OTHER])
                await leaving.send(b"\2")
                await house.here(OTHER)
                await house.declare(s1=[OTHER])
                house.sound(b"one")
                assert await heard(leaving, 1) == await heard(other, 1) == [b"\0one"]
            await house.report(lambda r: r.datagrams == 2)

    play(scenario)


def test_one_that_says_so_and_stays_is_cut_off(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAVING_S", 0.0)

    async def scenario(house: House) -> None:
        async with house.running(), house.call(ONE) as client:
            await house.here(ONE)
            await client.send(b"\2")
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(client.recv(), PATIENCE_S)

    play(scenario)


def test_control_is_told_of_who_comes_and_goes(play: Play) -> None:
    async def scenario(house: House) -> None:
        async with house.running():
            async with house.call(ONE), house.call(OTHER):
                await house.here(ONE, OTHER)
            await house.here()

    play(scenario)


def test_it_says_who_it_is_and_again_when_asked(play: Play) -> None:
    async def scenario(house: House) -> None:
        async with house.running():
            first = await house.report(lambda _: True)
            house.newest = None
            house.bus.send(WhoIsThere())
            assert (await house.report(lambda _: True)).instance == first.instance

    play(scenario)


def test_one_that_is_born_again_is_another_and_takes_up_when_it_is_declared_to(
    play: Play,
) -> None:
    async def scenario(house: House) -> None:
        async with AsyncExitStack() as first_life:
            await first_life.enter_async_context(house.running())
            client = await house.call(ONE)
            before = (await house.here(ONE)).instance
            await house.declare(s1=[ONE])
            await first_life.aclose()
            with pytest.raises(ConnectionClosed):
                await heard(client, 1)
        house.sound(*[b"unheard"] * 2000)
        # The port is the supervisor's: whoever calls meanwhile waits.
        calling = asyncio.create_task(wait_for(house.call(ONE)))
        async with house.running():
            client = await calling
            assert (await house.here(ONE)).instance != before
            await house.declare(s1=[ONE])
            house.sound(b"sound")
            assert await heard(client, 1) == [b"\0sound"]
            await client.close()

    play(scenario)


async def wait_for(call: connect) -> ClientConnection:
    return await call


def test_its_end_hangs_up_on_everybody(play: Play) -> None:
    async def scenario(house: House) -> None:
        async with house.running():
            client = await house.call(ONE)
            await house.here(ONE)
        with pytest.raises(ConnectionClosed):
            await heard(client, 1)

    play(scenario)
