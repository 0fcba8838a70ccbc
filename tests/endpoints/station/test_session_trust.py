"""Whose word a control session takes, and where it looks for its station."""

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from endpoints.station.session import RefusedForGood
from endpoints.station.store import SpeakerState, SpeakerStore, StoreError
from tests.support.certificate import server_tls
from tests.support.chain import GENERATION, STATION
from tests.support.station import (
    ROOT,
    Guest,
    Station,
    listen,
    refuse,
    running_station,
)
from tests.support.visitor import Visitor, store_of, visit
from transport.control.address import StationAddress
from transport.control.messages import (
    TO_SPEAKER,
    VERSION,
    Identity,
    Listen,
    Refused,
    StreamSpec,
)
from transport.control.session import TLS_TIMEOUT_S
from transport.security.certificates import StationCertificate
from transport.security.keys import SigningKey

SPEC = StreamSpec("p", 1, 2, 96, 3, 20.0, inband_fec=False, playout_delay_ms=100.0)
GROUP_SPEC = replace(SPEC, group="239.1.2.3", port=5004)


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens, and leaves loopback a moment to deliver."""
    mock_clock.autojump_threshold = 0.005
    return mock_clock


# ------------------------------------------------------------------ whose station it is
@pytest.mark.trio
async def test_a_station_of_another_root_is_told_nothing(world: MockClock, tmp_path: Path) -> None:
    async with running_station() as station:
        station.certificate = StationCertificate.issue(
            SigningKey(b"other" + bytes(27)), GENERATION, STATION.public
        )
        visitor = Visitor(store_of(tmp_path, station.port))
        await visitor.run_for(2)
    address = f"127.0.0.1:{station.port}"
    assert visitor.said == [
        f"station not found at {address}: another station answers there; trying again"
    ]
    assert station.hellos == []
    assert set(visitor.session.refused) == {"root"}


@pytest.mark.trio
async def test_who_shows_another_tls_certificate_than_the_station_vouched_for_is_told_nothing(
    world: MockClock, tmp_path: Path
) -> None:
    """Somebody in between, who passes on all that the station says."""
    async with running_station() as station:
        station.tls_hash = server_tls("another")[1]
        visitor = Visitor(store_of(tmp_path, station.port))
        await visitor.run_for(2)
    assert station.hellos == []
    assert set(visitor.session.refused) == {"tls_binding"}


@pytest.mark.trio
async def test_a_newer_key_of_the_station_is_trusted_and_the_older_never_again(
    world: MockClock, tmp_path: Path
) -> None:
    old, new = StationCertificate.issue(ROOT, 3, STATION.public), SigningKey(b"new" + bytes(29))
    async with running_station() as station:
        visitor = Visitor(store_of(tmp_path, station.port, generation=3))
        await visitor.run_for(1)
        station.key = new
        station.certificate = StationCertificate.issue(ROOT, 4, new.public)
        await visitor.run_for(1)
        station.key, station.certificate = STATION, old
        await visitor.run_for(1)
    assert visitor.speaker.trusted == [(STATION.public, 3), (new.public, 4)]
    assert set(visitor.session.refused) == {"generation"}
    visitor.store.close()
    known = SpeakerStore.open(tmp_path / "state.json").state.station
    assert known is not None
    assert (known.generation, known.session_number) == (4, 2)


@pytest.mark.trio
async def test_a_newer_key_is_kept_before_a_word_is_heard_from_it(
    world: MockClock, tmp_path: Path
) -> None:
    new = SigningKey(b"new" + bytes(29))
    async with running_station(refuse("not now", final=False)) as station:
        station.key, station.certificate = new, StationCertificate.issue(ROOT, 9, new.public)
        visitor = Visitor(store_of(tmp_path, station.port))
        await visitor.run_for(1)
    assert visitor.store.state.station is not None
    assert visitor.store.state.station.generation == 9


@pytest.mark.trio
@pytest.mark.parametrize("number", [1, 7])
async def test_a_welcome_that_is_not_the_newest_is_not_accepted(
    world: MockClock, tmp_path: Path, number: int
) -> None:
    async def welcome(station: Station, guest: Guest) -> None:
        await guest.greet()
        await guest.say(replace(station.welcome(), number=number))
        await guest.say(Listen(1, (SPEC,)))
        await listen(station, guest)

    async with running_station(welcome) as station:
        visitor = Visitor(store_of(tmp_path, station.port, session_number=7))
        await visitor.run_for(2)
    assert not visitor.speaker.welcomes
    assert not visitor.speaker.trusted
    assert not visitor.speaker.listens
    assert set(visitor.session.refused) == {"session_number"}


@pytest.mark.trio
async def test_the_number_of_a_session_is_on_the_disk_before_anything_is_obeyed(
    world: MockClock, tmp_path: Path
) -> None:
    kept: list[int] = []
    async with running_station() as station:
        store = store_of(tmp_path, station.port)
        visitor = Visitor(store)

        def welcomed(*_: object) -> None:
            station_then = SpeakerState.from_json(store.path.read_bytes()).station
            assert station_then is not None
            kept.append(station_then.session_number)

        visitor.speaker.welcomed = welcomed  # type: ignore[method-assign,assignment]
        for _ in range(3):
            await visitor.run_for(0.5)
    assert kept == [1, 2, 3]


@pytest.mark.trio
async def test_where_the_disk_is_full_no_session_begins_and_it_tries_again(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station() as station:
        store = store_of(tmp_path, station.port)
        visitor = Visitor(store)

        def full(_: object) -> None:
            raise StoreError("cannot write state.json: No space left on device")

        store.write = full  # type: ignore[method-assign,assignment]
        await visitor.run_for(2)
    assert not visitor.speaker.welcomes
    assert len(station.came_s) > 2
    (line,) = visitor.said
    assert line.endswith(": cannot write state.json: No space left on device; trying again")


@pytest.mark.trio
async def test_a_refusal_that_nobody_signed_is_not_final(world: MockClock) -> None:
    async def talk(station: Station, guest: Guest) -> None:
        await guest.greet()
        await guest.send(TO_SPEAKER.encode(Refused("go away", final=True)))

    visitor, station = await visit(talk, 2)
    assert len(station.came_s) > 2
    assert visitor.session.refused


@pytest.mark.trio
@pytest.mark.parametrize("word", [Refused("revoked", final=True)])
async def test_who_is_revoked_in_the_middle_of_a_session_ends(
    world: MockClock, tmp_path: Path, word: Refused
) -> None:
    async def talk(station: Station, guest: Guest) -> None:
        await guest.greet()
        await guest.say(station.welcome())
        await guest.say(word)
        await listen(station, guest)

    async with running_station(talk) as station:
        with pytest.RaisesGroup(
            pytest.RaisesExc(RefusedForGood, match="revoked"),
            allow_unwrapped=True,
            flatten_subgroups=True,
        ):
            await Visitor(store_of(tmp_path, station.port)).session.run()


# ------------------------------------------------------------------ before anything is proved
async def serve_once(
    talk: Callable[[trio.SocketStream], Awaitable[None]], folder: Path, seconds: float
) -> tuple[Visitor, list[float]]:
    """A loudspeaker's life where something else than a station is."""
    came_s: list[float] = []

    async def serve(stream: trio.SocketStream) -> None:
        came_s.append(trio.current_time())
        with suppress(trio.BrokenResourceError):
            await talk(stream)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    visitor = Visitor(store_of(folder, listener.socket.getsockname()[1]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        await visitor.run_for(seconds)
        nursery.cancel_scope.cancel()
    return visitor, came_s


@pytest.mark.trio
async def test_a_server_that_says_nothing_at_all_is_given_up_in_the_end(
    world: MockClock, tmp_path: Path
) -> None:
    async def silent(_: trio.SocketStream) -> None:
        await trio.sleep_forever()

    # It may be the station, which thousands call at once.
    visitor, came_s = await serve_once(silent, tmp_path, TLS_TIMEOUT_S + 5)
    assert came_s[1] - came_s[0] == pytest.approx(TLS_TIMEOUT_S + 0.25, abs=0.1)
    assert visitor.said[0].endswith(": no answer; trying again")


@pytest.mark.trio
async def test_a_server_that_speaks_tls_and_shows_no_identity_is_given_up(
    world: MockClock, tmp_path: Path
) -> None:
    async def silent(station: Station, guest: Guest) -> None:
        await trio.sleep_forever()

    visitor, station = await visit(silent, 12)
    assert station.came_s[1] - station.came_s[0] == pytest.approx(5.25, abs=0.1)
    assert visitor.said[0].endswith(": no answer; trying again")


@pytest.mark.trio
async def test_an_older_tls_is_not_spoken(world: MockClock, tmp_path: Path) -> None:
    older = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    older.maximum_version = ssl.TLSVersion.TLSv1_2

    async def speak(stream: trio.SocketStream) -> None:
        await trio.SSLStream(stream, older, server_side=True).do_handshake()

    visitor, came_s = await serve_once(speak, tmp_path, 2)
    assert len(came_s) > 2
    assert visitor.said[0].endswith(": no TLS 1.3 is spoken there; trying again")


@pytest.mark.trio
@pytest.mark.parametrize("location", ["http://127.0.0.1:1/", "http://[", "ws://elsewhere/control"])
async def test_it_does_not_go_where_somebody_sends_it(
    world: MockClock, tmp_path: Path, location: str
) -> None:
    async def redirect(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, server_tls()[0], server_side=True)
        await tls.receive_some()
        found = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        await tls.send_all(found.encode())
        await trio.sleep_forever()

    visitor, came_s = await serve_once(redirect, tmp_path, 2)
    assert len(came_s) > 2
    assert len(visitor.said) == 1


@pytest.mark.trio
@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"rubbish",
        TO_SPEAKER.encode(Refused("go away", final=True)),
        TO_SPEAKER.encode(Identity(VERSION, bytes(136), bytes(64), bytes(32))),
        TO_SPEAKER.encode(Identity(VERSION + 1, b"", b"", bytes(32))),
        "text",
    ],
    ids=["nothing", "rubbish", "refusal", "certificate", "version", "text"],
)
async def test_what_is_no_identity_ends_it_before_it_has_said_who_it_is(
    world: MockClock, first: bytes | str
) -> None:
    async def talk(station: Station, guest: Guest) -> None:
        await guest.send(first)
        heard.append(await guest.connection.recv())

    heard: list[bytes | str] = []
    visitor, station = await visit(talk, 2)
    assert len(station.came_s) > 2
    assert heard == []
    assert visitor.session.refused


# ------------------------------------------------------------------ a station that moves
@pytest.mark.trio
async def test_a_station_that_has_moved_is_found_and_its_new_address_remembered(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station() as gone:
        before = gone.port
    async with running_station() as station:
        asked: list[float] = []

        async def look() -> tuple[StationAddress, ...]:
            await trio.sleep(2)
            asked.append(trio.current_time())
            return (StationAddress("127.0.0.1", station.port),)

        visitor = Visitor(store_of(tmp_path, before), look=look)
        await visitor.run_for(10)
    assert len(asked) == 1
    assert visitor.said == [
        f"station not found at 127.0.0.1:{before}: Connection refused; trying again",
        f"joined the station at 127.0.0.1:{station.port}",
    ]
    known = SpeakerState.from_json((tmp_path / "state.json").read_bytes()).station
    assert known is not None
    assert known.address == StationAddress("127.0.0.1", station.port)


@pytest.mark.trio
async def test_impostors_on_the_network_keep_it_from_nothing(
    world: MockClock, tmp_path: Path
) -> None:
    """They claim its root by mDNS, and some of them even answer."""
    async with running_station() as impostor, running_station() as station:
        impostor.root = SigningKey(b"impostor" + bytes(24))
        impostor.certificate = StationCertificate.issue(impostor.root, 99, STATION.public)
        port = station.port

        async def look() -> tuple[StationAddress, ...]:
            await trio.lowlevel.checkpoint()
            ports = 1, impostor.port, 2, port
            return tuple(StationAddress("127.0.0.1", p) for p in ports)

        visitor = Visitor(store_of(tmp_path, 1), look=look)
        await visitor.run_for(60)
    assert impostor.hellos == []
    assert len(station.hellos) == 1
    assert visitor.session.refused == {"root": len(impostor.came_s)}


@pytest.mark.trio
async def test_nobody_is_looked_for_while_the_station_is_where_it_was(
    world: MockClock, tmp_path: Path
) -> None:
    asked: list[float] = []

    async def look() -> tuple[StationAddress, ...]:
        asked.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        return ()

    async with running_station() as station:
        await Visitor(store_of(tmp_path, station.port), look=look).run_for(30)
    assert asked == []


@pytest.mark.trio
async def test_who_looks_in_vain_looks_more_and_more_seldom(
    world: MockClock, tmp_path: Path
) -> None:
    asked: list[float] = []

    async def look() -> tuple[StationAddress, ...]:
        asked.append(trio.current_time())
        await trio.sleep(3)
        return ()

    async with running_station() as station:
        port = station.port
    await Visitor(store_of(tmp_path, port), look=look).run_for(200)
    pauses = [after - before for before, after in pairwise(asked)]
    assert pauses == pytest.approx([5, 8, 18, *[33] * (len(pauses) - 3)], abs=0.1)
    assert len(pauses) > 6


@pytest.mark.trio
async def test_where_it_is_told_to_look_it_looks_nowhere_else_and_remembers_it(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station() as station:
        there = StationAddress("127.0.0.1", station.port)
        visitor = Visitor(store_of(tmp_path, 1), server=there)
        await visitor.run_for(1)
    assert visitor.said == [f"joined the station at {there.text}"]
    assert visitor.store.state.station is not None
    assert visitor.store.state.station.address == there
