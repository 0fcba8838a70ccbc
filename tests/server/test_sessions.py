"""Control sessions with a WebSocket of our own, in virtual time: no second here is a second."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgpack
import pytest

from tests.support.sessions import IDLE, WELCOME, Peer, Room, Word, hello, lasting
from transport.control.messages import (
    SUBPROTOCOL,
    TO_SPEAKER,
    TO_STATION,
    VERSION,
    Listen,
    Ready,
    Refused,
)
from transport.control.session import HELLO_TIMEOUT_S, SILENCE_TIMEOUT_S

Play = Callable[[Callable[[Room], Coroutine[Any, Any, None]]], None]


def test_who_says_hello_is_welcomed_and_told_what_to_listen_to(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        programme = room.speak("all")
        peer = Peer()
        room.connect(peer)
        peer.say(hello())
        assert await peer.hears() == WELCOME
        told = await peer.hears()
        assert isinstance(told, Listen)
        assert [spec.programme for spec in told.streams] == [programme.name]

    play_sessions(scenario)


def test_with_nothing_on_air_the_first_word_is_silence(play_sessions: Play) -> None:
    # Or a loudspeaker that comes back would play on what has ended meanwhile.
    async def scenario(room: Room) -> None:
        peer = Peer()
        room.connect(peer)
        peer.say(hello())
        await peer.hears()
        told = await peer.hears()
        assert isinstance(told, Listen)
        assert told.streams == ()

    play_sessions(scenario)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((SUBPROTOCOL,), SUBPROTOCOL),
        (("chat", SUBPROTOCOL), SUBPROTOCOL),
        (("chat",), None),
        ((), None),
    ],
)
def test_of_the_protocols_offered_ours_is_chosen(
    play_sessions: Play, offered: tuple[str, ...], chosen: str | None
) -> None:
    async def scenario(room: Room) -> None:
        peer = Peer(subprotocols=offered)
        room.connect(peer)
        peer.say(hello())
        await peer.hears()
        assert peer.subprotocol == chosen

    play_sessions(scenario)


def test_who_speaks_another_version_is_refused_for_good(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = Peer()
        room.connect(peer)
        peer.say(hello(version=VERSION + 1))
        refusal = await peer.hears()
        assert isinstance(refusal, Refused)
        assert refusal.final
        assert f"speaks {VERSION}" in refusal.reason
        await peer.closed.wait()
        assert room.station.speakers == {}

    play_sessions(scenario)


def test_a_name_in_use_is_refused_and_may_be_asked_for_again(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        first = await room.join("a", "192.0.2.1")
        second = Peer("192.0.2.2")
        room.connect(second)
        second.say(hello("a"))
        refusal = await second.hears()
        assert isinstance(refusal, Refused)
        assert not refusal.final
        assert "192.0.2.1" in refusal.reason
        await second.closed.wait()
        assert not first.closed.is_set()

    play_sessions(scenario)


def test_a_name_whose_session_fell_silent_is_taken_over_and_the_old_session_ends(
    play_sessions: Play,
) -> None:
    async def scenario(room: Room) -> None:
        old = await room.join("a", "192.0.2.1")
        await asyncio.sleep(4)
        new = await room.join("a", "192.0.2.2")
        old.say(IDLE)
        await old.closed.wait()
        assert not new.closed.is_set()
        assert room.is_online()
        programme = room.speak("a")
        told = await new.hears()
        assert isinstance(told, Listen)
        assert [spec.programme for spec in told.streams] == [programme.name]

    play_sessions(scenario)


def test_who_connects_and_says_nothing_is_cut_off(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = Peer()
        room.connect(peer)
        with lasting(room, HELLO_TIMEOUT_S):
            await peer.closed.wait()

    play_sessions(scenario)


RUBBISH = {
    "no msgpack": b"\xc1",
    "nothing": b"",
    "no map": msgpack.packb([1, 2]),
    "an unknown word": msgpack.packb({"type": "Miracle"}),
    "a word of the station's": TO_SPEAKER.encode(WELCOME),
    "a name that is none": msgpack.packb(
        {"type": "Hello", "version": 1, "name": "all", "multicast": False, "media_port": 1}
    ),
    "a port that is none": msgpack.packb(
        {"type": "Hello", "version": 1, "name": "a", "multicast": False, "media_port": 0}
    ),
    "too much": TO_STATION.encode(hello()) + bytes(1 << 16),
}


@pytest.mark.parametrize("data", RUBBISH.values(), ids=RUBBISH)
def test_rubbish_for_a_hello_ends_the_session_with_the_reason(
    play_sessions: Play, data: bytes
) -> None:
    async def scenario(room: Room) -> None:
        peer = Peer()
        room.connect(peer)
        peer.say_bytes(data)
        answer = await peer.hears()
        await peer.closed.wait()
        assert peer.why_closed is not None
        code, why = peer.why_closed
        assert code == 1007
        assert why.startswith("message_")
        assert answer == Refused(f"no hello of protocol version 1: {why}", final=True)
        assert peer.heard_nothing_more
        assert room.station.speakers == {}

    play_sessions(scenario)


@pytest.mark.parametrize("data", RUBBISH.values(), ids=RUBBISH)
def test_rubbish_later_ends_the_session_and_the_others_go_on(
    play_sessions: Play, data: bytes
) -> None:
    async def scenario(room: Room) -> None:
        bad, good = await room.join("bad"), await room.join("good")
        bad.say_bytes(data)
        await bad.closed.wait()
        assert not room.is_online("bad")
        good.say(IDLE)
        room.speak("all")
        assert isinstance(await good.hears(), Listen)

    play_sessions(scenario)


@pytest.mark.parametrize("word", [IDLE, Ready(1)])
def test_a_first_word_that_is_no_hello_ends_the_session(play_sessions: Play, word: Word) -> None:
    async def scenario(room: Room) -> None:
        peer = Peer()
        room.connect(peer)
        peer.say(word)
        await peer.closed.wait()
        assert peer.heard_nothing_more

    play_sessions(scenario)


def test_hello_twice_ends_the_session(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        peer.say(hello())
        await peer.closed.wait()
        assert not room.is_online()

    play_sessions(scenario)


def test_a_text_frame_ends_the_session(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        peer.say_text("hello")
        await peer.closed.wait()
        assert not room.is_online()

    play_sessions(scenario)


def test_who_goes_is_offline_at_once(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        with lasting(room, 0):
            peer.go()
            await peer.closed.wait()
        assert not room.is_online()

    play_sessions(scenario)


def test_a_session_that_is_ended_as_a_word_is_being_delivered_ends(play_sessions: Play) -> None:
    # Where asyncio.wait_for is cancelled in the moment of its success, Python 3.11 swallows that,
    # and the session would be there for ever.
    async def scenario(room: Room) -> None:
        peer = await room.join()
        room.speak("a")
        await peer.hears()
        with lasting(room, 0):
            await room.end()
        assert not room.is_online()

    play_sessions(scenario)


def test_a_session_that_falls_silent_ends(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        with lasting(room, SILENCE_TIMEOUT_S):
            await peer.closed.wait()
        assert not room.is_online()

    play_sessions(scenario)


def test_telemetry_keeps_a_session_and_is_remembered(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        for _ in range(5):
            await asyncio.sleep(SILENCE_TIMEOUT_S - 1)
            peer.say(IDLE)
        await asyncio.sleep(0)
        await asyncio.sleep(1)
        assert room.is_online()
        assert room.station.speakers["a"].telemetry == IDLE
        assert room.station.speakers["a"].last_seen_ns == room.now_ns() - 1_000_000_000

    play_sessions(scenario)


def test_a_loudspeaker_that_stops_reading_is_cut_off(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        peer.reads.clear()
        room.speak("a")
        with lasting(room, 5):
            await peer.closed.wait()
        assert not room.is_online()

    play_sessions(scenario)


def test_a_loudspeaker_that_does_not_read_its_welcome_is_cut_off_and_not_counted_as_there(
    play_sessions: Play,
) -> None:
    async def scenario(room: Room) -> None:
        peer = Peer()
        peer.reads.clear()
        room.connect(peer)
        peer.say(hello())
        with lasting(room, 5):
            await peer.closed.wait()
        assert not room.is_online()

    play_sessions(scenario)


def test_a_loudspeaker_that_goes_before_its_welcome_is_not_counted_as_there(
    play_sessions: Play,
) -> None:
    async def scenario(room: Room) -> None:
        peer = Peer()
        peer.reads.clear()
        room.connect(peer)
        peer.say(hello())
        await asyncio.sleep(1)
        peer.broken = True
        peer.reads.set()
        with lasting(room, 0):
            await peer.closed.wait()
        assert not room.is_online()

    play_sessions(scenario)


def test_a_peer_that_is_gone_before_it_is_accepted_is_no_error(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = Peer()
        peer.broken = True
        room.connect(peer)
        await peer.closed.wait()

    play_sessions(scenario)


def test_a_loudspeaker_without_an_address_is_refused(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = Peer()
        peer.client = None
        room.connect(peer)
        peer.say(hello())
        assert isinstance(await peer.hears(), Refused)
        await peer.closed.wait()

    play_sessions(scenario)


def test_only_those_whom_it_concerns_are_told(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        one, two = await room.join("one"), await room.join("two")
        room.speak("one")
        assert isinstance(await one.hears(), Listen)
        await asyncio.sleep(1)
        assert two.heard_nothing_more

    play_sessions(scenario)


def test_a_state_that_was_not_sent_yet_is_replaced_by_the_newer_one(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        peer.reads.clear()
        for ssrc in range(1, 11):
            room.speak("a", ssrc=ssrc)
            await asyncio.sleep(0.01)
        peer.reads.set()
        told = [await peer.hears(), await peer.hears()]
        assert [len(listen.streams) for listen in told if isinstance(listen, Listen)] == [1, 10]
        await asyncio.sleep(1)
        assert peer.heard_nothing_more

    play_sessions(scenario)


def test_confirmation_ends_as_soon_as_all_that_were_told_have_confirmed(
    play_sessions: Play,
) -> None:
    async def scenario(room: Room) -> None:
        one, two = await room.join("one"), await room.join("two")
        room.speak("all")

        async def answer(peer: Peer, after_s: float) -> None:
            listen = await peer.hears()
            assert isinstance(listen, Listen)
            await asyncio.sleep(after_s)
            peer.say(Ready(listen.revision))

        answers = asyncio.gather(answer(one, 0.1), answer(two, 0.2))
        with lasting(room, 0.2):
            assert await room.sessions.confirm({"one", "two"}, 0.3) == set()
        await answers

    play_sessions(scenario)


def test_a_slow_one_is_named_and_waited_for_no_longer_than_asked(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        quick, slow = await room.join("quick"), await room.join("slow")
        room.speak("all")
        listen = await quick.hears()
        assert isinstance(listen, Listen)
        quick.say(Ready(listen.revision))
        await slow.hears()
        with lasting(room, 0.3):
            assert await room.sessions.confirm({"quick", "slow"}, 0.3) == {"slow"}

    play_sessions(scenario)


def test_an_old_confirmation_confirms_nothing_new(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        await asyncio.sleep(1)  # its word about the first declaration has arrived
        room.speak("a")
        await peer.hears()
        peer.say(Ready(1))
        assert await room.sessions.confirm({"a"}, 0.3) == {"a"}

    play_sessions(scenario)


def test_who_is_not_concerned_is_not_waited_for(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.join("one")
        other = await room.join("two")
        room.speak("two")
        await other.hears()
        with lasting(room, 0):
            assert await room.sessions.confirm({"one"}, 0.3) == set()

    play_sessions(scenario)
