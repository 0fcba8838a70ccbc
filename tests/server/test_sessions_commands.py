"""How loud loudspeakers are told to be, and what they are asked to do, over their sessions."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import msgpack
import pytest

from tests.support.sessions import IDLE, Peer, Room, lasting
from transport.control.messages import Adjust, Done, Listen, Welcome

Play = Callable[[Callable[[Room], Coroutine[Any, Any, None]]], None]


def set_volume(room: Room, name: str, volume: int, *, muted: bool = False) -> None:
    directory = room.station.directory
    directory.put_endpoint(replace(directory.endpoint(name), volume=volume, muted=muted))
    room.publish()


def asked(room: Room, *names: str, action: str = "identify") -> asyncio.Task[dict[str, str]]:
    """These are asked to do something; what becomes of it."""
    return asyncio.create_task(room.sessions.command(names, action, 0.0))


# ------------------------------------------------------------------ how loud
def test_who_joins_is_told_how_loud_to_be(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        assert peer.adjusted == [Adjust(100, muted=False)]

    play_sessions(scenario)


def test_who_comes_back_is_told_what_was_changed_meanwhile(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        before = await room.join()
        before.go()
        await before.closed.wait()
        set_volume(room, "a", 30, muted=True)
        after = await room.join()
        assert before.adjusted == [Adjust(100, muted=False)]
        assert after.adjusted == [Adjust(30, muted=True)]

    play_sessions(scenario)


def test_a_trim_is_told_at_once_and_in_every_session_that_follows(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        before = await room.join()
        directory = room.station.directory
        directory.put_endpoint(replace(directory.endpoint("a"), trim_us=-1200))
        room.publish()
        await asyncio.sleep(1)
        assert before.adjusted[1:] == [Adjust(100, muted=False, trim_us=-1200)]
        before.go()
        await before.closed.wait()
        after = await room.join()
        assert after.adjusted == [Adjust(100, muted=False, trim_us=-1200)]

    play_sessions(scenario)


def test_how_loud_to_be_is_told_before_what_to_listen_to(play_sessions: Play) -> None:
    # Or who comes back in the middle of a programme would begin too loud.
    async def scenario(room: Room) -> None:
        room.register()
        peer = Peer()
        room.connect(peer)
        await peer.prove(peer.hello())
        await asyncio.sleep(1)
        assert [type(word) for word in peer.heard] == [Welcome, Adjust, Listen]

    play_sessions(scenario)


def test_only_whose_loudness_changes_is_told(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        one, two = await room.join("one"), await room.join("two")
        set_volume(room, "one", 50)
        await asyncio.sleep(1)
        assert one.adjusted[1:] == [Adjust(50, muted=False)]
        assert two.adjusted[1:] == []
        assert one.heard_nothing_more

    play_sessions(scenario)


def test_what_else_changes_makes_nobody_repeat_how_loud_to_be(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        room.speak("a")
        await peer.hears()
        set_volume(room, "a", 100)
        await asyncio.sleep(1)
        assert len(peer.adjusted) == 1

    play_sessions(scenario)


def test_a_loudness_that_was_not_sent_yet_is_replaced_by_the_newer_one(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        peer.reads.clear()
        for volume in range(90, 0, -10):
            set_volume(room, "a", volume)
            await asyncio.sleep(0.01)
        peer.reads.set()
        await asyncio.sleep(1)
        assert [adjust.volume for adjust in peer.adjusted] == [100, 90, 10]

    play_sessions(scenario)


# ------------------------------------------------------------------ what to do
def test_who_does_as_asked_says_so(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        answers = asyncio.create_task(room.sessions.command(["a"], "tone", 3.0))
        command = await peer.is_commanded()
        assert (command.action, command.seconds) == ("tone", 3.0)
        peer.say(Done(command.id))
        assert await answers == {"a": ""}

    play_sessions(scenario)


def test_who_cannot_says_why(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        answers = asked(room, "a")
        peer.say(Done((await peer.is_commanded()).id, "live-1 is being heard"))
        assert await answers == {"a": "live-1 is being heard"}

    play_sessions(scenario)


def test_who_is_offline_is_named_and_not_waited_for(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        peer.go()
        await peer.closed.wait()
        with lasting(room, 0):
            assert await asked(room, "a", "never") == {
                "a": "it is offline",
                "never": "it is offline",
            }

    play_sessions(scenario)


def test_who_does_not_answer_is_waited_for_two_seconds_and_the_others_are_heard(
    play_sessions: Play,
) -> None:
    async def scenario(room: Room) -> None:
        good = await room.join("good")
        await room.join("silent")
        with lasting(room, 2):
            answers = asked(room, "good", "silent")
            good.say(Done((await good.is_commanded()).id))
            assert await answers == {"good": "", "silent": "no answer within 2 s"}

    play_sessions(scenario)


def test_who_goes_before_it_answers_gives_no_answer(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        answers = asked(room, "a")
        await peer.is_commanded()
        peer.go()
        assert await answers == {"a": "no answer within 2 s"}

    play_sessions(scenario)


def test_each_answer_is_to_its_own_question(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        first, second = asked(room, "a", action="tone"), asked(room, "a")
        tone, identify = await peer.is_commanded(), await peer.is_commanded()
        assert (tone.action, identify.action) == ("tone", "identify")
        peer.say(Done(identify.id, "the second"))
        peer.say(Done(tone.id, "the first"))
        assert (await first, await second) == ({"a": "the first"}, {"a": "the second"})

    play_sessions(scenario)


def test_an_answer_that_nobody_waits_for_is_nothing(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        answers = asked(room, "a")
        late = await peer.is_commanded()
        await answers
        for number in (late.id, late.id, 0, 1 << 40):
            peer.say(Done(number, "late"))
        answers = asked(room, "a")
        command = await peer.is_commanded()
        peer.say(Done(command.id, "in time"))
        peer.say(Done(command.id, "and again"))
        assert await answers == {"a": "in time"}
        assert room.is_online()

    play_sessions(scenario)


def test_who_has_not_answered_to_four_is_not_asked_a_fifth(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        waiting = [asked(room, "a") for _ in range(4)]
        await peer.is_commanded()
        with lasting(room, 0):
            assert await asked(room, "a") == {
                "a": "it has not answered yet to what it was asked before"
            }
        await asyncio.gather(*waiting)
        answers = asked(room, "a")
        commands = [await peer.is_commanded() for _ in range(4)]
        peer.say(Done(commands[-1].id))
        assert await answers == {"a": ""}

    play_sessions(scenario)


def test_a_command_is_not_repeated_to_who_comes_back(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        answers = asked(room, "a", action="restart")
        await peer.is_commanded()
        peer.go()
        await peer.closed.wait()
        after = await room.join()
        await answers
        await asyncio.sleep(1)
        assert after.heard_nothing_more

    play_sessions(scenario)


def test_an_answer_keeps_a_session(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        for _ in range(4):
            await asyncio.sleep(9)
            peer.say(Done(1))
        await asyncio.sleep(1)
        assert room.is_online()

    play_sessions(scenario)


@pytest.mark.parametrize("number", [None, "1", 1.5, [1]])
def test_an_answer_that_is_none_ends_the_session(play_sessions: Play, number: object) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.join()
        peer.say_bytes(msgpack.packb({"type": "Done", "id": number, "error": ""}))
        await peer.closed.wait()
        assert not room.is_online()

    play_sessions(scenario)


def test_a_session_whose_successor_is_already_forgotten_ends_in_peace(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        old = await room.join("a", "192.0.2.1")
        old.reads.clear()
        new = await room.join("a", "192.0.2.2")
        new.go()
        await new.closed.wait()
        room.station.forget("a")
        old.say(IDLE)
        await old.closed.wait()
        assert room.station.speakers == {}

    play_sessions(scenario)
