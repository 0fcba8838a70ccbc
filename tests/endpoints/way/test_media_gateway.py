"""To the gateway and back, as UDP goes: real sockets on loopback, on trio's virtual clock."""

from itertools import count, pairwise

import pytest
import trio
from trio.testing import MockClock

from endpoints.way.path import KEEP_ALIVE_NS, RETRY_NS
from endpoints.way.relay import LEAVING
from tests.support.station import SECOND, true_ns
from tests.support.ways_of_media import (
    AHEAD_NS,
    RTCP,
    RTP,
    SESSION,
    both_ends,
)

GIVEN_UP_S = 1.5
FRAME_S = 0.02


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens, and leaves loopback a moment to deliver."""
    mock_clock.autojump_threshold = 0.01
    return mock_clock


@pytest.mark.trio
async def test_where_udp_is_blocked_sound_comes_by_the_gateway(world: MockClock) -> None:
    async with both_ends(blocked=True) as here:
        await trio.sleep(1.4)
        assert here.gateway.came == []
        await trio.sleep(0.3)
        assert here.media.way == "gateway"
        sent_ns = true_ns()
        await here.gateway.here[SESSION].send(b"\0" + RTP)
        await here.gateway.here[SESSION].send(b"\0" + RTCP)
        await trio.sleep(0.1)
    assert here.player.received == [(RTP, sent_ns + AHEAD_NS), (RTCP, sent_ns + AHEAD_NS)]
    assert len(here.port.asked) == 4
    assert here.said == [
        f"no UDP from the station: sound comes by its gateway at 127.0.0.1:{here.gateway.port}"
    ]


@pytest.mark.trio
@pytest.mark.parametrize("content", [b"", b"\0stun", b"\xff rubbish"])
async def test_what_comes_by_the_gateway_and_is_no_rtp_is_dropped_and_counted(
    world: MockClock, content: bytes
) -> None:
    async with both_ends(blocked=True) as here:
        await trio.sleep(2)
        await here.gateway.here[SESSION].send(b"\0" + content)
        await trio.sleep(0.1)
    assert here.player.heard == []
    assert here.media.dropped == {"first_byte": 1}


@pytest.mark.trio
async def test_while_the_gateway_serves_udp_is_tried_every_fifteen_seconds(
    world: MockClock,
) -> None:
    async with both_ends(blocked=True) as here:
        await trio.sleep(90)
        assert here.media.way == "gateway"
    begun = here.asked_s()[::4]
    # The first was given up before the gateway was there.
    assert begun[1] - begun[0] == pytest.approx(RETRY_NS / SECOND + GIVEN_UP_S, abs=0.05)
    pauses = [after - before for before, after in pairwise(begun[1:])]
    assert pauses == pytest.approx([KEEP_ALIVE_NS / SECOND + GIVEN_UP_S] * len(pauses), abs=0.05)


@pytest.mark.trio
async def test_the_gateway_is_left_when_udp_works_again(world: MockClock) -> None:
    async with both_ends(blocked=True) as here:
        await trio.sleep(2)
        here.port.blocked = False
        await trio.sleep(20)
        assert here.media.way == "udp"
        assert here.gateway.heard == [LEAVING]
        assert not here.gateway.here
        await trio.sleep(60)
    assert len(here.gateway.came) == 1
    assert here.said[1:] == ["UDP from the station goes through again"]


@pytest.mark.trio
async def test_a_way_that_is_blocked_in_mid_programme_is_left_within_seventeen_seconds(
    world: MockClock,
) -> None:
    async with both_ends() as here:
        await trio.sleep(16)
        here.port.blocked = True
        await trio.sleep(17)
        assert here.media.way == "gateway"


@pytest.mark.trio
async def test_no_frame_is_lost_on_the_way_to_the_gateway_and_back(world: MockClock) -> None:
    """The station sends by the gateway to whoever has come there and has not said that it leaves.

    UDP goes through all the time; only the keep-alives are not answered for a while.
    """
    sent: list[bytes] = []
    async with both_ends() as here:
        await trio.sleep(14)
        world.autojump_threshold = 0.003

        async def speak() -> None:
            for number in count():
                frame = RTP + number.to_bytes(4)
                sent.append(frame)
                here_now = here.gateway.here.get(SESSION)
                if here_now is None or LEAVING in here.gateway.heard:
                    await here.port.send(SESSION, frame)
                else:
                    await here_now.send(b"\0" + frame)
                await trio.sleep(FRAME_S)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak)
            ways = set()
            for second in range(11):
                here.port.blocked = second < 6
                ways.add(here.media.way)
                await trio.sleep(1)
            nursery.cancel_scope.cancel()
        await trio.sleep(0.1)
    assert ways == {"udp", "gateway"}
    assert here.media.way == "udp"
    assert here.player.heard == sent


@pytest.mark.trio
async def test_a_session_that_follows_comes_to_the_gateway_at_once_and_then_leaves_the_old(
    world: MockClock,
) -> None:
    """When control is born again, a loudspeaker behind a wall hears on."""
    async with both_ends(blocked=True) as here:
        await trio.sleep(3)
        here.welcome(SESSION + 1)
        await here.gateway.here[SESSION].send(b"\0" + RTP)
        await trio.sleep(0.2)
        assert here.media.way == "gateway"
        assert set(here.gateway.here) == {SESSION, SESSION + 1}
        await here.gateway.here[SESSION + 1].send(b"\0" + RTP)
        await trio.sleep(3)
        assert set(here.gateway.here) == {SESSION + 1}
    assert here.player.heard == [RTP, RTP]
    assert len(here.gateway.came) == 2


@pytest.mark.trio
async def test_the_old_sessions_connection_is_kept_until_the_new_one_is_let_in(
    world: MockClock,
) -> None:
    async with both_ends(blocked=True) as here:
        await trio.sleep(3)
        here.gateway.open = False
        here.welcome(SESSION + 1)
        await trio.sleep(5)
        await here.gateway.here[SESSION].send(b"\0" + RTP)
        here.gateway.open = True
        await trio.sleep(8)
        assert set(here.gateway.here) == {SESSION + 1}
    assert here.player.heard == [RTP]


@pytest.mark.trio
async def test_many_sessions_in_a_row_leave_one_connection(world: MockClock) -> None:
    async with both_ends(blocked=True) as here:
        await trio.sleep(2)
        for session in range(SESSION + 1, SESSION + 20):
            here.welcome(session)
            await trio.sleep(0.01)
        await trio.sleep(5)
        assert set(here.gateway.here) == {SESSION + 19}
        here.port.blocked = False
        await trio.sleep(20)
        assert not here.gateway.here
        assert here.media.way == "udp"


@pytest.mark.trio
async def test_a_gateway_that_is_gone_is_come_back_to(world: MockClock) -> None:
    async with both_ends(blocked=True) as here:
        await trio.sleep(10)
        await here.gateway.here[SESSION].aclose()
        await trio.sleep(0.05)
        assert here.media.way == "none"
        await here.media.reachable()
        assert here.media.way == "gateway"


@pytest.mark.trio
async def test_time_goes_through_the_gateway_both_ways(world: MockClock) -> None:
    answers: list[tuple[bytes, int]] = []
    async with both_ends(blocked=True) as here:
        here.media.hear_time(lambda data, now_ns: answers.append((data, now_ns)))
        assert not here.media.send_time(b"too early")
        await trio.sleep(2)
        assert here.media.send_time(b"a question")
        await trio.sleep(0.1)
        answered_ns = true_ns()
        await here.gateway.here[SESSION].send(b"\1an answer")
        await trio.sleep(0.1)
    assert here.gateway.heard == [b"\1a question"]
    assert answers == [(b"an answer", answered_ns + AHEAD_NS)]
    assert here.player.heard == []


@pytest.mark.trio
async def test_answers_that_nobody_wants_are_passed_over(world: MockClock) -> None:
    async with both_ends(blocked=True) as here:
        await trio.sleep(2)
        await here.gateway.here[SESSION].send(b"\1an answer")
        await trio.sleep(0.1)
    assert not here.media.dropped
