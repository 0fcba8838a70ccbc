"""Loudspeakers that come with codes, over sessions, with a store: what is said is on the disk."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.enrolment import EnrolmentError
from server.errors import NoSuchError, StationError
from server.store.store import Store
from tests.support.sessions import Peer, Room, lasting
from tests.support.stations import key_of_name, signer_of_name
from transport.control.messages import (
    VERSION,
    Done,
    Enrolled,
    Listen,
    Pending,
    Refused,
    Welcome,
)
from transport.security.keys import shown_fingerprint

Play = Callable[[Callable[[Room], Coroutine[Any, Any, None]]], None]
ROOT = "Tân Phú"
VILLAGE = f"{ROOT}/Thôn 3"


def fingerprint_of(name: str) -> str:
    return shown_fingerprint(key_of_name(name))


def stored_keys(room: Room) -> dict[str, bytes | None]:
    """As the disk has them."""
    return {endpoint.name: endpoint.key for endpoint in room.store.load().endpoints}


def break_store(room: Room) -> None:
    """From now on nothing can be written."""
    with room.store._transaction() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")


# ------------------------------------------------------------------ with a name
def test_who_has_a_code_is_registered_told_so_and_comes_again(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        secret = await room.code("market")
        peer, word = await room.try_code(secret, "new-1f2e")
        assert word == Enrolled("market")
        await peer.closed.wait()
        key = peer.key.public
        assert stored_keys(room) == {"market": key}
        assert room.store.load().codes == room.enrolment.codes == ()
        again = Peer(name="market", key=peer.key)
        room.connect(again)
        await again.prove(again.hello())
        assert isinstance(await again.hears(), Welcome)

    play_sessions(scenario)


def test_it_is_registered_in_the_unit_of_the_code_with_the_network_it_says(
    play_sessions: Play,
) -> None:
    async def scenario(room: Room) -> None:
        room.store.add_unit(room.station.directory.add_unit(VILLAGE))
        (issued,) = await room.enrolling.issue(["market"], VILLAGE, 60)
        peer = Peer()
        room.connect(peer)
        await peer.prove(replace(await peer.enrol(issued.secret), delivery="wan"))
        await peer.hears()
        (endpoint,) = room.store.load().endpoints
        assert endpoint == room.station.directory.endpoint("market")
        assert (endpoint.unit, endpoint.delivery) == (VILLAGE, "wan")

    play_sessions(scenario)


def test_a_code_admits_one_loudspeaker(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        secret = await room.code("market")
        await room.try_code(secret, "first")
        second, word = await room.try_code(secret, "second")
        assert isinstance(word, Refused)
        assert word.final
        assert "was used" in word.reason
        await second.closed.wait()
        assert stored_keys(room) == {"market": key_of_name("first")}

    play_sessions(scenario)


def test_of_two_that_come_with_one_code_at_once_exactly_one_is_admitted(
    play_sessions: Play,
) -> None:
    async def scenario(room: Room) -> None:
        secret = await room.code("market")
        peers = [Peer(name=f"n{number}") for number in range(2)]
        for peer in peers:
            room.connect(peer)
        frames = [await peer.frame(await peer.enrol(secret)) for peer in peers]
        for peer, frame in zip(peers, frames, strict=True):
            peer.say_bytes(frame)
        words = [await peer.hears() for peer in peers]
        assert [isinstance(word, Enrolled) for word in words].count(True) == 1
        (lost,) = (word for word in words if isinstance(word, Refused))
        assert "another loudspeaker is using this code" in lost.reason
        assert len(stored_keys(room)) == 1

    play_sessions(scenario)


def test_a_thousand_come_at_once_among_strangers(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        names = [f"n{number:03}" for number in range(1000)]
        issued = await room.enrolling.issue(names, None, 60)
        strangers = [Peer(name=f"stranger {number}") for number in range(100)]
        for stranger in strangers:
            room.connect(stranger)
            await stranger.prove(await stranger.enrol(b"x" * 10))
        tried = (room.try_code(secret, code.name) for code, secret in issued)
        with lasting(room, 0):  # nobody is told to try again later
            words = [word for _, word in await asyncio.gather(*tried)]
        assert words == [Enrolled(name) for name in names]
        assert stored_keys(room) == {name: key_of_name(name) for name in names}
        assert room.store.load().codes == ()
        for stranger in strangers:
            await stranger.closed.wait()
        why = [stranger.why_closed and stranger.why_closed[0] for stranger in strangers]
        assert (why.count(1000), why.count(1013)) == (50, 50)

    play_sessions(scenario)


def test_those_who_come_while_the_disk_is_busy_are_written_together(
    play_sessions: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    enrol = Store.enrol

    def counted(store: Store, enrolled: Any, seen_at: int) -> None:
        written.append(len(enrolled))
        enrol(store, enrolled, seen_at)

    monkeypatch.setattr(Store, "enrol", counted)

    async def scenario(room: Room) -> None:
        issued = await room.enrolling.issue([f"n{n}" for n in range(200)], None, 60)
        await asyncio.gather(*(room.try_code(secret, code.name) for code, secret in issued))
        assert sum(written) == 200
        assert len(written) < 50

    play_sessions(scenario)


def test_a_code_that_cannot_be_written_as_used_is_used_by_nobody(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        secret = await room.code("market")
        break_store(room)
        _, word = await room.try_code(secret)
        assert isinstance(word, Refused)
        assert not word.final
        assert "nothing was changed" in word.reason
        assert room.station.directory.endpoints == {}
        await room.keeper.do(lambda: None)  # what was refused is to be written down as well
        room.store.close()  # the next connection is a new one
        assert stored_keys(room) == {}
        _, word = await room.try_code(secret)
        assert word == Enrolled("market")

    play_sessions(scenario)


def test_who_never_heard_that_it_was_enrolled_hears_it_when_it_comes_again(
    play_sessions: Play,
) -> None:
    async def scenario(room: Room) -> None:
        secret = await room.code("market")
        lost = Peer(name="x")
        room.connect(lost)
        frame = await lost.frame(await lost.enrol(secret))
        lost.say_bytes(frame)
        lost.broken = True
        await lost.closed.wait()
        while not room.station.directory.endpoints:  # noqa: ASYNC110 - the disk takes its time
            await asyncio.sleep(0.001)
        _, word = await room.try_code(secret, "x")
        assert word == Enrolled("market")

    play_sessions(scenario)


def test_a_code_for_a_name_replaces_its_key_and_all_keys_on_air(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.try_code(await room.code("market"), "first")
        old = Peer(name="market", key=signer_of_name("first"))
        room.connect(old)
        await old.prove(old.hello())
        await old.hears()
        programme = room.speak("all")
        directory = room.station.directory
        directory.put_endpoint(replace(directory.endpoint("market"), volume=30))
        _, word = await room.try_code(await room.code("market"), "second")
        assert word == Enrolled("market")
        await old.closed.wait()
        refusal = old.heard[-1]
        assert isinstance(refusal, Refused)
        assert refusal.final
        assert programme.rekey == 1
        assert directory.endpoint("market").volume == 30
        assert stored_keys(room) == {"market": key_of_name("second")}

    play_sessions(scenario)


def test_who_is_enrolled_already_is_not_enrolled_by_another_name(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.try_code(await room.code("market"), "x")
        secret = await room.code("school")
        _, word = await room.try_code(secret, "x")
        assert isinstance(word, Refused)
        assert word.final
        assert "is enrolled already, as 'market': revoke that first" in word.reason
        _, word = await room.try_code(secret, "y")  # the code is as good as it was
        assert word == Enrolled("school")

    play_sessions(scenario)


def test_a_code_that_is_known_with_a_key_that_is_not_its_own_is_told_nothing(
    play_sessions: Play,
) -> None:
    async def scenario(room: Room) -> None:
        secret = await room.code("market")
        thief = Peer(name="x")
        room.connect(thief)
        frame = bytearray(await thief.frame(await thief.enrol(secret)))
        frame[0] ^= 1
        thief.say_bytes(bytes(frame))
        await thief.closed.wait()
        assert thief.why_closed == (1007, "signature")
        assert thief.heard == []
        _, word = await room.try_code(secret, "y")
        assert word == Enrolled("market")

    play_sessions(scenario)


def test_a_code_that_is_cancelled_or_too_old_is_none(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        cancelled, short = await room.code("a"), await room.code("b", minutes=1)
        await room.enrolling.cancel(
            next(code.number for code in room.enrolment.codes if code.name == "a")
        )
        await asyncio.sleep(60)
        for secret in (cancelled, short):
            _, word = await room.try_code(secret)
            assert isinstance(word, Refused)
            assert word.final
        await room.code("c")  # forgets those that are too old
        assert [code.name for code in room.store.load().codes] == ["c"]

    play_sessions(scenario)


def test_another_version_is_refused_with_a_code_too(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        secret = await room.code("market")
        peer = Peer()
        room.connect(peer)
        await peer.prove(replace(await peer.enrol(secret), version=VERSION + 1))
        word = await peer.hears()
        assert isinstance(word, Refused)
        assert word.final
        assert len(room.enrolment.codes) == 1

    play_sessions(scenario)


def test_codes_survive_a_restart(play_sessions: Play, database: Path) -> None:
    secrets: list[bytes] = []

    async def before(room: Room) -> None:
        secrets.append(await room.code("market"))

    async def after(room: Room) -> None:
        _, word = await room.try_code(secrets[0])
        assert word == Enrolled("market")

    play_sessions(before)
    play_sessions(after)


# ------------------------------------------------------------------ without a name
async def waits(room: Room, name: str = "x") -> tuple[Peer, bytes]:
    """A loudspeaker waits to be approved; the secret of its code."""
    secret = await room.code("")
    peer, word = await room.try_code(secret, name)
    assert isinstance(word, Pending)
    return peer, secret


def test_who_waits_is_approved_under_the_name_that_a_person_gives_it(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer, secret = await waits(room)
        await asyncio.sleep(600)
        assert not peer.closed.is_set()
        (waiting,) = room.enrolment.waiting
        assert (waiting.wish, waiting.address) == ("x", "192.0.2.1")
        assert await room.enrolling.approve(fingerprint_of("x"), "cho\u031b\u0323", None) == "chợ"
        assert await peer.hears() == Enrolled("chợ")
        await peer.closed.wait()
        assert stored_keys(room) == {"chợ": peer.key.public}
        assert room.store.load().codes == room.enrolment.codes == ()
        assert room.enrolment.waiting == ()
        _, word = await room.try_code(secret, "y")
        assert isinstance(word, Refused)

    play_sessions(scenario)


def test_who_is_refused_is_refused_for_good_and_the_code_is_spent(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer, secret = await waits(room)
        await room.enrolling.refuse(fingerprint_of("x"))
        word = await peer.hears()
        assert isinstance(word, Refused)
        assert word.final
        await peer.closed.wait()
        assert room.store.load().codes == ()
        assert stored_keys(room) == {}
        _, word = await room.try_code(secret, "x")
        assert isinstance(word, Refused)

    play_sessions(scenario)


def test_who_goes_waits_no_more_and_may_come_back(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer, secret = await waits(room)
        peer.go()
        await peer.closed.wait()
        assert room.enrolment.waiting == ()
        with pytest.raises(NoSuchError, match="waits to be approved"):
            await room.enrolling.approve(fingerprint_of("x"), "a", None)
        _, word = await room.try_code(secret, "x")
        assert isinstance(word, Pending)

    play_sessions(scenario)


def test_who_comes_again_while_it_waits_takes_its_own_place(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        old, secret = await waits(room)
        new, word = await room.try_code(secret, "x")
        assert isinstance(word, Pending)
        await old.closed.wait()
        assert len(room.enrolment.waiting) == 1
        await room.enrolling.approve(fingerprint_of("x"), "a", None)
        assert await new.hears() == Enrolled("a")

    play_sessions(scenario)


def test_another_cannot_use_the_code_of_who_waits(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        _, secret = await waits(room)
        _, word = await room.try_code(secret, "y")
        assert word == Refused("another loudspeaker is using this code", final=False)

    play_sessions(scenario)


def test_who_waits_and_says_something_has_done_with_waiting(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer, _ = await waits(room)
        peer.say(Done(1))
        await peer.closed.wait()
        assert room.enrolment.waiting == ()

    play_sessions(scenario)


def test_a_code_that_is_cancelled_sends_away_who_waits_with_it(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer, _ = await waits(room)
        (code,) = room.enrolment.codes
        await room.enrolling.cancel(code.number)
        word = await peer.hears()
        assert isinstance(word, Refused)
        assert room.store.load().codes == ()

    play_sessions(scenario)


def test_nobody_is_approved_into_the_place_of_one_that_is_enrolled(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.try_code(await room.code("market"), "first")
        await waits(room)
        with pytest.raises(EnrolmentError, match="revoke it first, or choose another name"):
            await room.enrolling.approve(fingerprint_of("x"), "market", None)
        await room.enrolling.revoke("market")
        await room.enrolling.approve(fingerprint_of("x"), "market", None)
        assert stored_keys(room) == {"market": key_of_name("x")}

    play_sessions(scenario)


WRONG: list[tuple[str, str | None, str]] = [
    ("?", None, "is no loudspeaker's name"),
    ("a", f"{ROOT}/x", "no unit"),
]


@pytest.mark.parametrize(("name", "unit", "why"), WRONG)
def test_what_cannot_be_approved_is_one_line_and_it_waits_on(
    play_sessions: Play, name: str, unit: str | None, why: str
) -> None:
    async def scenario(room: Room) -> None:
        peer, _ = await waits(room)
        with pytest.raises(StationError, match=why) as error:
            await room.enrolling.approve(fingerprint_of("x"), name, unit)
        assert len(str(error.value).splitlines()) == 1
        assert len(room.enrolment.waiting) == 1
        assert peer.heard_nothing_more

    play_sessions(scenario)


def test_an_approval_that_cannot_be_written_is_none_and_it_waits_on(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        peer, _ = await waits(room)
        break_store(room)
        with pytest.raises(StationError, match="nothing was changed"):
            await room.enrolling.approve(fingerprint_of("x"), "a", None)
        room.store.close()
        assert room.enrolment.is_held(room.enrolment.codes[0])
        await room.enrolling.approve(fingerprint_of("x"), "a", None)
        assert await peer.hears() == Enrolled("a")

    play_sessions(scenario)


# ------------------------------------------------------------------ what a person may ask for
def test_a_code_in_a_unit_that_is_none_is_refused(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        with pytest.raises(NoSuchError, match="no unit"):
            await room.enrolling.issue(["a"], f"{ROOT}/x", 60)
        assert room.enrolment.codes == ()

    play_sessions(scenario)


def test_codes_that_cannot_be_written_are_none(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        break_store(room)
        with pytest.raises(StationError, match="nothing was changed"):
            await room.code("a")
        assert room.enrolment.codes == ()

    play_sessions(scenario)


def test_who_is_revoked_is_not_revoked_again(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.try_code(await room.code("a"), "x")
        await room.enrolling.revoke("a")
        with pytest.raises(StationError, match="nothing to revoke"):
            await room.enrolling.revoke("a")
        with pytest.raises(NoSuchError, match="no loudspeaker 'b'"):
            await room.enrolling.revoke("b")

    play_sessions(scenario)


def test_who_is_revoked_can_be_enrolled_again_and_hears_what_is_on_air(play_sessions: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.try_code(await room.code("a"), "x")
        await room.enrolling.revoke("a")
        room.speak("a")
        _, word = await room.try_code(await room.code("a"), "x")
        assert word == Enrolled("a")
        peer = Peer(name="a", key=signer_of_name("x"))
        room.connect(peer)
        await peer.prove(peer.hello())
        assert isinstance(await peer.hears(), Welcome)
        told = await peer.hears()
        assert isinstance(told, Listen)
        assert len(told.streams) == 1

    play_sessions(scenario)
