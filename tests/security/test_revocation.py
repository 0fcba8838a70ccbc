"""Only whom the station knows may listen: loudspeakers and keys that are revoked."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from server.data import DataFolder
from tests.support.sessions import IDLE, ROOT, Peer, Room, credentials
from tests.support.stations import key_of_name
from tests.support.virtual_time import run_in_virtual_time
from transport.control.messages import Refused, Welcome
from transport.errors import MalformedPacket
from transport.security.handshake import TrustedStation, recognise

Play = Callable[[Callable[[Room], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Play a scenario with the sessions of a station, in virtual time; again, after a restart."""
    folder = DataFolder(tmp_path / "station")
    folder.create("Tân Phú")

    def play(scenario: Callable[[Room], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            room = Room(folder.database)
            await scenario(room)
            await room.end()

        run_in_virtual_time(main())

    return play


async def enrol(room: Room, name: str = "a") -> None:
    """A loudspeaker is enrolled, on the disk."""
    await room.try_code(await room.code(name), name)


async def refused(peer: Peer) -> Refused:
    """That it is refused for good, and closed; each word's signature the peer has checked."""
    await peer.closed.wait()
    (word,) = (word for word in peer.heard if isinstance(word, Refused))
    assert word is peer.heard[-1]
    assert word.final
    return word


async def comes(room: Room, name: str = "a") -> Peer:
    """It says hello."""
    peer = Peer(name=name)
    room.connect(peer)
    await peer.prove(peer.hello())
    return peer


def test_S5_a_revoked_loudspeaker_is_told_so_and_closed_within_a_second(  # noqa: N802
    play: Play,
) -> None:
    """Seen to fail without the comparison of keys in `Sessions.declare`: it listens on."""

    async def scenario(room: Room) -> None:
        await enrol(room)
        peer = await room.join()
        await room.enrolling.revoke("a")
        async with asyncio.timeout(1):
            refusal = await refused(peer)
        assert "revoked" in refusal.reason
        assert not room.is_online()
        room.speak("all")
        await asyncio.sleep(1)
        assert peer.heard[-1] == refusal

    play(scenario)


@pytest.mark.parametrize("talks", [True, False])
def test_S5_a_revoked_loudspeaker_that_does_not_read_is_closed_within_a_second(  # noqa: N802
    play: Play, talks: bool
) -> None:
    """Seen to fail with the time of every send, five seconds, for the last word too."""

    async def scenario(room: Room) -> None:
        await enrol(room)
        peer = await room.join()
        peer.reads.clear()
        room.speak("a")
        await asyncio.sleep(0.1)
        if talks:
            peer.say(IDLE)
        await room.enrolling.revoke("a")
        if talks:
            peer.say(IDLE)
        async with asyncio.timeout(1):
            await peer.closed.wait()
        assert not room.is_online()

    play(scenario)


def test_S5_a_loudspeaker_revoked_while_it_was_away_is_refused_when_it_comes_back(  # noqa: N802
    play: Play,
) -> None:
    """Seen to fail without `Store.revoke`: after a restart of the station it is welcome."""

    async def before(room: Room) -> None:
        await enrol(room)
        peer = await room.join()
        peer.go()
        await peer.closed.wait()
        await room.enrolling.revoke("a")
        await refused(await comes(room))

    async def after(room: Room) -> None:
        await refused(await comes(room))
        assert room.station.speakers == {}
        await enrol(room)  # with another code it is as any other
        assert isinstance(await (await comes(room)).hears(), Welcome)

    play(before)
    play(after)


def test_S5_what_is_on_air_goes_on_with_keys_that_nobody_revoked_has_been_told(  # noqa: N802
    play: Play,
) -> None:
    """Seen to fail without `rekey_all` in `Station._cut_off`: the keys it knows stay good."""

    async def scenario(room: Room) -> None:
        await enrol(room, "a")
        await enrol(room, "b")
        await room.join("a")
        good = await room.join("b")
        programmes = [room.speak("all"), room.speak("b")]
        room.station.opened(room.station.speakers["a"].session_number, "192.0.2.1", 50_000)
        await room.enrolling.revoke("a")
        assert [programme.rekey for programme in programmes] == [1, 1]
        assert [order.rekey for order in room.station.orders().programmes] == [1, 1]
        # Nor is anything sent to where it was.
        routes = room.station.routes(lambda _: None)
        assert [route.destinations for route in routes] == [b"", b""]
        await asyncio.sleep(1)
        assert not good.closed.is_set()

    play(scenario)


def test_S5_a_revoked_loudspeaker_is_not_known_again_by_what_was_read_before(  # noqa: N802
    play: Play,
) -> None:
    """Seen to fail with the key among what `save_endpoints` writes.

    What loudspeakers say of their networks is written later, from what was in memory then.
    """

    async def before(room: Room) -> None:
        await enrol(room)
        stale = room.station.directory.endpoint("a")
        await room.enrolling.revoke("a")
        room.store.save_endpoints([stale], 1)

    async def after(room: Room) -> None:
        await refused(await comes(room))

    play(before)
    play(after)


def test_S5_a_station_key_that_was_rotated_speaks_to_nobody(play: Play) -> None:  # noqa: N802
    """Seen to fail without `close_all` in `Sessions.rotate`: the old session goes on.

    And without the generation in `recognise`, the loudspeaker would take the old key again.
    """

    async def scenario(room: Room) -> None:
        await enrol(room)
        old = await room.join()
        room.sessions.rotate(credentials(2))
        room.speak("a")
        async with asyncio.timeout(1):
            await old.closed.wait()
        assert old.why_closed == (1012, "the station has another key now")
        new = await room.join()
        certificate = recognise(await new.identity(), new.tls_hash, ROOT.public, 2)
        known = TrustedStation(certificate.root, certificate.generation)
        with pytest.raises(MalformedPacket, match="generation"):
            recognise(await old.identity(), old.tls_hash, known.root, known.generation)

    play(scenario)


def test_S5_who_is_replaced_by_another_with_a_code_for_its_name_is_revoked(  # noqa: N802
    play: Play,
) -> None:
    """Seen to fail when `Station.enrol` does not cut off whom it replaces."""

    async def scenario(room: Room) -> None:
        await enrol(room)
        stolen = await room.join()
        programme = room.speak("a")
        await room.try_code(await room.code("a"), "another")
        async with asyncio.timeout(1):
            await refused(stolen)
        assert programme.rekey == 1
        await refused(await comes(room))
        assert room.station.directory.endpoint("a").key == key_of_name("another")

    play(scenario)
