"""Control's events into declarations: real buses, a producer and a sender of our own."""

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.data import DataFolder
from server.errors import NoSuchError, StationError
from server.keys.folder import KeyFolder
from server.keys.token import TokenFile
from server.processes import routing
from server.processes.bus import WhoIsThere
from server.processes.routing import unpack_destinations
from server.programmes import LiveRequest
from transport.control.messages import Listen, Telemetry
from transport.security.certificates import StationCertificate, StreamCertificate
from transport.security.keys import VerifyKey

# The fixture's room; see conftest.
Room = Any
Play = Callable[..., None]

TO_ALL = LiveRequest(("all",))
# The first stream of the first programme.
LIVE_1 = 8


def ordered(room: Room) -> list[str]:
    """What the producer was last told to encode."""
    return [order.programme for order in room.ordered[-1].programmes]


def routed(room: Room) -> dict[int, list[tuple[str, int, int]]]:
    """Where the senders were last told to send."""
    return {r.stream: unpack_destinations(r.destinations) for r in room.routed[-1].routes}


def listens(room: Room, name: str) -> Listen:
    """What a loudspeaker would be told now."""
    listen: Listen = room.control.station.listen(name, 0, room.control._certify)
    return listen


def test_control_is_ready_when_producer_and_sender_have_reported(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        assert not room.control.ready.is_set()
        await asyncio.wait_for(room.start(), 1)

    play_control(scenario, started=False)


def test_a_producer_born_again_is_told_everything_again(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        await room.settle()
        room.ordered.clear()
        room.producer_life = "producer 2"
        room.numbers.clear()
        room.report()
        await room.settle()
        assert ordered(room) == ["live-1"]
        assert list(routed(room)) == [LIVE_1]

    play_control(scenario)


def test_a_report_without_news_makes_nobody_repeat_anything(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        await room.settle()
        room.ordered.clear()
        for _ in range(5):
            room.report()
            await room.settle()
        assert room.ordered == []

    play_control(scenario)


def tell(room: Room, telemetry: Telemetry) -> None:
    """The one loudspeaker there is says how it is."""
    (speaker,) = room.control.station.speakers.values()
    speaker.telemetry, speaker.last_seen_ns = telemetry, room.control._clock.now_ns()


def test_what_loudspeakers_tell_changes_the_copies_and_a_control_born_again_knows(
    play_control: Play,
) -> None:
    def copies(room: Room) -> Any:
        (order,) = room.ordered[-1].programmes
        return [stream.copies for stream in order.streams]

    async def scenario(room: Room) -> None:
        room.join("a", delivery="wan")
        await room.control.open_live(TO_ALL)
        await room.settle()
        assert copies(room) == [(20_160,)]
        lossy = Telemetry("playing", -20.0, 5.0, 6.0, 7, 8, 9, 10, 12.0, hearing="live-1", loss=0.2)
        tell(room, lossy)
        before = len(room.routed)
        await room.settle(3.0)
        assert copies(room) == [(2_880,)]
        assert len(room.routed) == before  # who is sent what has not changed
        await room.restart_control()
        await room.settle()
        assert copies(room) == [(2_880,)]

    play_control(scenario)


def test_copies_that_the_producer_did_not_hear_of_are_ordered_again(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a", delivery="wan")
        await room.control.open_live(TO_ALL)
        await room.settle()
        lossy = Telemetry("playing", -20.0, 5.0, 6.0, 7, 8, 9, 10, 12.0, hearing="live-1", loss=0.2)
        tell(room, lossy)
        room.stop_reading()
        while room.control.neighbours._producer.send(WhoIsThere()):
            pass
        await room.settle(3.0)
        room.serve_producer()
        await room.settle(0.3)
        room.serve_producer()
        assert room.ordered[-1].programmes[0].streams[0].copies == (2_880,)

    play_control(scenario)


def test_a_ticket_comes_with_all_a_source_must_know(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        grant = await room.control.open_live(replace(TO_ALL, playout_delay_ms=100.0))
        ports = room.control.queries.summary()["ports"]
        assert grant["programme"] == "live-1"
        assert grant["ticket"] == room.ordered[-1].programmes[0].ticket
        assert (grant["ingest_port"], grant["time_port"]) == (ports["ingest"], ports["time"])
        assert grant["playout_delay_ms"] == 100.0
        assert len(set(ports.values())) == 6

    play_control(scenario)


def test_the_ticket_waits_until_the_producer_has_numbered_the_stream(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.obeys = False
        asking = asyncio.create_task(room.control.open_live(TO_ALL))
        await room.settle(1.0)
        assert not asking.done()
        room.report()
        assert (await asking)["programme"] == "live-1"

    play_control(scenario)


def test_of_those_addressed_who_is_offline_is_named(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        for name in ("here", "gone", "other"):
            room.join(name)
        room.control.station.speakers["gone"].session = None
        grant = await room.control.open_live(LiveRequest(("here", "gone")))
        assert grant["listening"] == ["here"]
        assert grant["not_listening"] == ["gone"]

    play_control(scenario)


def test_only_what_goes_out_in_clear_has_a_description(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a", multicast=True)
        for name, clear in {"sealed": False, "open": True}.items():
            await room.control.editing.put_zone(name, {"speakers": ["a"]}, clear=clear)
        grant = await room.control.open_live(LiveRequest(zones=("sealed",)))
        assert grant["sdp"] is None
        with pytest.raises(StationError, match="loa zones clear ZONE on"):
            room.control.queries.description("live-1")
        grant = await room.control.open_live(LiveRequest(zones=("open",)))
        assert grant["sdp"] == "/programmes/live-2.sdp"
        assert "a=ptime:10\r\n" in room.control.queries.description("live-2")
        await room.settle()
        (twin,) = (route for route in room.routed[-1].routes if route.announce is not None)
        assert twin.announce == room.control.queries.description("live-2")
        assert twin.stream == room.ordered[-1].programmes[1].streams[0].clear
        with pytest.raises(NoSuchError, match="'live-9'"):
            room.control.queries.description("live-9")

    play_control(scenario)


def test_a_producer_that_does_not_answer_is_told_of_in_two_seconds(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.obeys = False
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(StationError, match="producer does not answer"):
            await room.control.open_live(TO_ALL)
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(2.0, abs=0.1)

    play_control(scenario)


def test_a_programme_nobody_got_a_ticket_for_is_taken_back(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.obeys = False
        with pytest.raises(StationError):
            await room.control.open_live(TO_ALL)
        await room.settle()
        assert ordered(room) == []
        assert room.control.queries.programmes() == []

    play_control(scenario)


def test_a_programme_the_producer_refuses_is_refused_and_taken_back(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.state = "ended"
        with pytest.raises(StationError, match="could not begin"):
            await room.control.open_live(TO_ALL)
        await room.settle()
        assert ordered(room) == []

    play_control(scenario)


def test_routes_that_there_is_no_room_for_are_refused_and_taken_back(
    play_control: Play, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "MAX_ROUTES_BYTES", 5_000)

    async def scenario(room: Room) -> None:
        room.join("one")
        await room.control.open_live(LiveRequest(("one",)))
        room.join_all({f"s{n}": "192.0.2.9" for n in range(300)})
        with pytest.raises(StationError, match="address fewer"):
            await room.control.open_live(TO_ALL)
        await room.settle()
        assert ordered(room) == ["live-1"]
        assert len(routed(room)[LIVE_1]) == 1
        # And whoever asks for less is served.
        assert (await room.control.open_live(LiveRequest(("s1",))))["programme"] == "live-3"

    play_control(scenario)
    assert "the former routes still hold" in caplog.text


def test_an_order_that_could_not_be_delivered_is_given_again(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        room.stop_reading()
        neighbours = room.control.neighbours
        neighbours._producer._end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        while neighbours.declare():  # more than that holds
            pass
        room.control.stop(["live-1"], "it was stopped")
        room.serve_producer()
        assert ordered(room) == ["live-1"]
        await room.settle()
        room.serve_producer()
        assert ordered(room) == []

    play_control(scenario)


def test_once_delivered_a_declaration_is_not_repeated(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        await room.settle()
        before = len(room.routed)
        await room.settle(5.0)
        assert len(room.routed) == before

    play_control(scenario)


def test_what_is_heard_out_is_no_longer_declared(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        room.control.station.programmes["live-1"].ended_at_ns = 0  # long ago
        await room.settle()
        assert routed(room) == {}
        assert ordered(room) == []

    play_control(scenario)


def test_loudspeakers_that_come_all_at_once_are_declared_once(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        await room.settle()
        room.routed.clear()
        room.join_all({f"s{n}": f"192.0.2.{n // 250}" for n in range(500)})
        assert room.routed == []
        await room.settle()
        assert len(room.routed) == 1
        assert len(routed(room)[LIVE_1]) == 500

    play_control(scenario)


# ------------------------------------------------------------------ control is killed
def test_a_control_born_again_declares_what_the_last_one_did(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.state = "live"
        room.join("a")
        room.join("b", multicast=True)
        grant = await room.control.open_live(TO_ALL)
        await room.settle()
        before = (room.ordered[-1], room.routed[-1], listens(room, "a"))
        room.ordered.clear()
        room.routed.clear()
        await room.restart_control()
        await room.settle()
        # Nothing less was declared at any time, or sound would have ended.
        assert {*room.ordered} == {before[0]}
        assert {*room.routed} == {before[1]}
        assert listens(room, "a") == before[2]
        assert room.ordered[0].programmes[0].ticket == grant["ticket"]

    play_control(scenario)


def test_a_control_born_again_goes_on_counting(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        await room.restart_control()
        assert (await room.control.open_live(TO_ALL))["programme"] == "live-2"

    play_control(scenario)


def test_loudspeakers_are_offline_to_a_control_born_again_until_they_return(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        await room.restart_control()
        assert [row["state"] for row in room.control.queries.speakers()] == ["offline"]
        room.join("a")
        assert [row["state"] for row in room.control.queries.speakers()] == ["syncing"]

    play_control(scenario)


def test_what_ended_while_control_was_dead_is_heard_out_and_forgotten(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.state = "live"
        await room.control.open_live(TO_ALL)
        await room.kill_control()
        room.state = "ended"
        await room.restart_control()
        await room.settle()
        assert room.control.station.programmes["live-1"].ended_at_ns is not None
        assert ordered(room) == []

    play_control(scenario)


def test_a_notebook_of_nonsense_is_told_of_and_control_begins_with_nothing(
    play_control: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        room.control._notebook.write(b"of a later version")
        await room.restart_control()
        assert room.control.queries.programmes() == []

    play_control(scenario)
    assert "begins with nothing" in caplog.text


def test_a_torn_notebook_is_taken_for_an_empty_one(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(TO_ALL)
        os.ftruncate(room.births["server"].notebook, 0)
        await room.restart_control()
        assert room.control.queries.programmes() == []

    play_control(scenario)


# ------------------------------------------------------------------ what people see
def test_tickets_are_shown_to_nobody_else(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        grant = await room.control.open_live(TO_ALL)
        shown = str(
            [
                room.control.queries.programmes(),
                room.control.queries.speakers(),
                room.control.queries.summary(),
            ]
        )
        assert grant["ticket"] not in shown

    play_control(scenario)


def test_a_programme_is_shown_as_the_producer_reports_it(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        await room.control.open_live(LiveRequest(("a",)))
        (row,) = room.control.queries.programmes()
        assert (row["name"], row["to"], row["state"]) == ("live-1", ["a"], "waiting")
        assert (row["seconds"], row["level_dbfs"], row["sdp"]) == (1.5, -20.0, None)

    play_control(scenario)


def test_the_figures_of_senders_and_usher_are_shown(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        assert room.control.queries.summary()["sender"] == {
            "datagrams": 1,
            "overruns": 2,
            "errors": 3,
            "stale": 4,
            "queue": 5,
            "late_p99_ms": 200.0,
            "late_max_ms": 200.0,
        }
        assert room.control.queries.summary()["usher"] == {
            "time_answers": 4,
            "malformed": 5,
            "refused": 6,
            "dropped": 9,
            "paths": 8,
            "receivers_reporting": 7,
            "worst_fraction_lost": 0.5,
        }

    play_control(scenario)


def test_a_loudspeaker_is_shown_as_it_says_it_is_while_it_is_heard_of(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        speaker = room.control.station.speakers["a"]
        speaker.telemetry = Telemetry("playing", -20.0, 5.0, 6.0, 7, 8, 9, 10, 12.0, 11)
        assert room.control.queries.speakers()[0]["state"] == "playing"
        speaker.last_seen_ns -= 6_000_000_000
        assert room.control.queries.speakers()[0]["state"] == "offline"
        assert room.control.queries.speakers()[0]["last_seen_s"] == pytest.approx(6.0, abs=0.2)

    play_control(scenario)


# ------------------------------------------------------------------ keys that change meanwhile
def folder_of(room: Room) -> DataFolder:
    """The station's."""
    return DataFolder(Path(room.births["server"].data))


def test_a_key_rotated_on_the_disk_is_taken_up_in_seconds_and_every_session_ends(
    play_control: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(room: Room) -> None:
        peers = [await room.connect(name) for name in "ab"]
        KeyFolder(folder_of(room).keys).rotate()
        for peer in peers:
            await asyncio.wait_for(peer.closed.wait(), 3)
            assert peer.why_closed == (1012, "the station has another key now")
        shown = StationCertificate.parse((await (await room.connect("a")).identity()).certificate)
        assert shown.generation == 2

    play_control(scenario)
    assert "generation 2" in caplog.text


def test_what_was_on_air_goes_on_with_certificates_of_the_new_generation(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        room.state = "live"
        room.join("a")
        await room.control.open_live(TO_ALL)
        await room.settle()
        first = VerifyKey(room.control._own.keys.key.public)
        (before,) = listens(room, "a").streams
        order = room.ordered[-1]
        KeyFolder(folder_of(room).keys).rotate()
        await room.settle(3)
        second = VerifyKey(room.control._own.keys.key.public)
        (after,) = listens(room, "a").streams
        assert before.seal is not None
        assert after.seal is not None
        old = StreamCertificate.parse(before.seal.certificate, first, 1)
        new = StreamCertificate.parse(after.seal.certificate, second, 2)
        assert (new.public, new.serial) == (old.public, old.serial)
        assert after.seal.epochs == before.seal.epochs
        assert room.ordered[-1] == order, "the producer has nothing to do with it"

    play_control(scenario)


def test_a_token_made_anew_is_the_only_one_in_seconds(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        old = room.control.access.token
        TokenFile(folder_of(room).token).renew()
        await room.settle(3)
        assert room.control.access.token == TokenFile(folder_of(room).token).load() != old

    play_control(scenario)


def test_a_key_that_cannot_be_read_any_more_ends_nothing_and_is_told_of_once(
    play_control: Play, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(room: Room) -> None:
        peer = await room.connect("a")
        (folder_of(room).keys / "station.cert").write_bytes(b"nonsense")
        folder_of(room).token.unlink()
        await room.settle(5)
        assert not peer.closed.is_set()
        assert (await room.control.open_live(TO_ALL))["programme"] == "live-1"
        assert isinstance(await peer.hears(), Listen)

    play_control(scenario)
    said = [message for message in caplog.messages if "goes on as before" in message]
    assert len(said) == 2
