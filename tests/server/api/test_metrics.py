"""GET /metrics, by ASGI itself and in virtual time."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.api.routes import build_api
from tests.support import asking
from tests.support.asking import ask
from tests.support.sessions import IDLE

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]


async def look(room: Room) -> dict[str, float]:
    """What a scrape finds, by name; of several samples with a name the last."""
    reply = await ask(room, "GET", "/metrics")
    assert reply.status == 200
    assert reply.headers[b"content-type"] == b"text/plain; version=0.0.4; charset=utf-8"
    families = text_string_to_metric_families(reply.body.decode())
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_what_is_enrolled_online_and_on_air_is_told(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        before = await look(room)
        room.enrol("away")
        room.join("here")
        told = await look(room)
        assert before["loa_speakers_registered"] == before["loa_speakers_online"] == 0
        assert told["loa_speakers_registered"] == told["loa_speakers_enrolled"] == 2
        assert told["loa_speakers_online"] == told["loa_control_sessions"] == 1
        assert told["loa_programmes"] == 0

    play_control(scenario)


def test_a_session_that_begins_is_a_join(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.connect("a")
        await room.connect("a")
        told = await look(room)
        assert told["loa_control_joins_total"] == 2
        assert told["loa_control_sessions"] == 1

    play_control(scenario)


def test_the_reports_of_the_other_processes_are_told(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        told = await look(room)
        neighbours = room.control.neighbours
        assert told["loa_sender_datagrams_total"] == neighbours.sender_reports[0].datagrams > 0
        assert told["loa_usher_time_answers_total"] == neighbours.usher_report.time_answers > 0
        assert told["loa_gateway_datagrams_total"] == neighbours.gateway_report.datagrams > 0
        assert told["loa_producer_programmes"] == 0

    play_control(scenario)


def test_how_late_the_loop_is_is_counted_from_the_first_look_on(
    play_control: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One for all requests, as a station has it.
    monkeypatch.setattr(asking, "build_api", cache(build_api))

    async def scenario(room: Room) -> None:
        assert (await look(room))["loa_control_loop_lag_seconds_count"] == 0
        await room.settle(10)
        assert (await look(room))["loa_control_loop_lag_seconds_count"] == pytest.approx(40, abs=1)

    play_control(scenario)


def test_connections_that_are_not_through_tls_are_told_by_who_accepts_them(
    play_control: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "build_api", lambda control: build_api(control, lambda: 12))

    async def scenario(room: Room) -> None:
        assert (await look(room))["loa_control_handshakes"] == 12

    play_control(scenario)


def test_a_fault_that_a_loudspeaker_tells_is_counted(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        for name, fault in (("a", "the amplifier is hot"), ("b", "")):
            room.join(name)
            room.control.station.speakers[name].telemetry = replace(IDLE, fault=fault)
        assert (await look(room))["loa_speakers_faulty"] == 1

    play_control(scenario)


def test_whoever_shows_no_token_sees_nothing(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        reply = await ask(room, "GET", "/metrics", shown=b"")
        assert reply.status == 401
        assert b"loa_" not in reply.body

    play_control(scenario)
