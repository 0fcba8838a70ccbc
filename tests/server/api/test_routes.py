"""The HTTP API, by ASGI itself and in virtual time."""

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.directory import Endpoint
from tests.support.asking import ask, post, put

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]


def test_a_request_to_speak_is_granted(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        reply = await post(room, "/api/v1/live", {"to": ["a"], "bitrate": 32_000, "frame_ms": 20})
        assert reply.status == 201
        assert reply.json()["programme"] == "live-1"
        (order,) = room.ordered[-1].programmes
        assert (order.bitrate, [s.frame_ms for s in order.streams]) == (32_000, [20.0])

    play_control(scenario)


WRONG_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "no loudspeaker": ({"to": []}, "to whom?"),
    "a name that is no text": ({"to": [7]}, "to.0: "),
    "one name instead of names": ({"to": "all"}, "to: "),
    "an endless name": ({"to": ["a" * 65]}, "to.0: "),
    "too many names": ({"to": ["all"] * 10_001}, "to: "),
    "a field we do not know": ({"volume": 11}, "volume: "),
    "a field with a line break": ({"vol\nume": 11}, "vol ume: "),
    "half a character": ({"\ud800": 11}, "body: "),
    "a name of half a character": ({"to": ["\ud800"]}, "to.0: "),
    "a bitrate that is no number": ({"bitrate": "much"}, "bitrate: "),
    "a bitrate too low": ({"bitrate": 5999}, "bitrate: "),
    "a bitrate too high": ({"bitrate": 510_001}, "bitrate: "),
    "half a bit": ({"bitrate": 24_000.5}, "bitrate: "),
    "a bitrate without end": ({"bitrate": float("inf")}, "bitrate: "),
    "a frame of 7 ms": ({"frame_ms": 7}, "frame_ms must be one of"),
    "a frame of no time": ({"frame_ms": 0}, "frame_ms must be one of"),
    "a frame that is no number": ({"frame_ms": float("nan")}, "frame_ms"),
    "a frame without end": ({"frame_ms": float("inf")}, "frame_ms"),
    "a bitrate that short frames cannot": ({"frame_ms": 2.5, "bitrate": 6000}, "bitrate must be"),
    "a bitrate that long frames cannot": (
        {"frame_ms": 60, "bitrate": 510_000, "playout_delay_ms": 500},
        "bitrate must be at most",
    ),
    "a complexity there is not": ({"complexity": 11}, "complexity: "),
    "a negative complexity": ({"complexity": -1}, "complexity: "),
    "more than all lost": ({"expected_loss_percent": 101}, "expected_loss_percent: "),
    "a delay that is no number": ({"playout_delay_ms": float("nan")}, "playout_delay_ms"),
    "a delay without end": ({"playout_delay_ms": float("inf")}, "playout_delay_ms: "),
    "a delay of the past": ({"playout_delay_ms": -1}, "playout_delay_ms: "),
    "a delay beyond the longest": ({"playout_delay_ms": 10_001}, "playout_delay_ms: "),
    "a delay shorter than the frame": (
        {"frame_ms": 60, "playout_delay_ms": 66.5},
        "playout_delay_ms must be more than 66.5",
    ),
    "dtx that is no yes or no": ({"dtx": "perhaps"}, "dtx: "),
}


@pytest.mark.parametrize(("wrong", "said"), WRONG_FIELDS.values(), ids=WRONG_FIELDS)
def test_a_wrong_field_is_named_in_one_line_and_nothing_begins(
    play_control: Play, wrong: dict[str, Any], said: str
) -> None:
    async def scenario(room: Room) -> None:
        reply = await post(room, "/api/v1/live", {"to": ["all"], **wrong})
        assert reply.status == 422
        assert reply.error().startswith(said)
        await room.settle()
        assert room.control.queries.programmes() == []

    play_control(scenario)


NO_REQUESTS = {
    "nothing": b"",
    "no JSON": b"{to: all}",
    "half": b'{"to": ["all"',
    "no text": b"\xff\xfe",
    "a list": b"[]",
    "null": b"null",
    "a hundred thousand deep": b"[" * 100_000,
    "a number without end": b'{"to": ["all"], "bitrate": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("body", NO_REQUESTS.values(), ids=NO_REQUESTS)
def test_what_is_no_request_is_refused_in_one_line(play_control: Play, body: bytes) -> None:
    async def scenario(room: Room) -> None:
        reply = await ask(room, "POST", "/api/v1/live", body)
        assert reply.status in {400, 422}
        assert reply.error()

    play_control(scenario)


def test_what_is_not_even_said_to_be_json_is_refused(play_control: Play) -> None:
    # A page of a browser could send that to a station without asking.
    async def scenario(room: Room) -> None:
        reply = await ask(room, "POST", "/api/v1/live", b'{"to": ["all"]}', b"text/plain")
        assert reply.status == 422
        assert reply.error()

    play_control(scenario)


def test_a_body_of_many_megabytes_is_refused(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        reply = await ask(room, "POST", "/api/v1/live", bytes(5 << 20))
        assert reply.status == 413
        assert reply.error()

    play_control(scenario)


def test_only_lists_of_names_may_be_long(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        for path, status in (("/api/v1/stop", 413), ("/api/v1/units", 413), ("/api/v1/tone", 422)):
            reply = await ask(room, "POST", path, b" " * ((64 << 10) + 1))
            assert reply.status == status
            assert reply.error()

    play_control(scenario)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_zone_without_a_name_is_refused_in_one_line(play_control: Play, method: str) -> None:
    async def scenario(room: Room) -> None:
        reply = await ask(room, method, "/api/v1/zones/")
        assert reply.status == 404
        assert reply.error()

    play_control(scenario)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["to", "bitrate", "frame_ms", "complexity", "dtx", "playout_delay_ms", "expected_loss_percent"]
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(request_=st.dictionaries(FIELDS, JSON, max_size=4) | JSON)
def test_whatever_is_asked_the_answer_is_a_ticket_or_one_line(
    play_control: Play, request_: object
) -> None:
    async def scenario(room: Room) -> None:
        reply = await post(room, "/api/v1/live", request_)
        if reply.status != 201:
            assert reply.status in {404, 409, 422}
            assert reply.error()

    play_control(scenario)


def test_an_unknown_loudspeaker_is_answered_with_the_nearest_names(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("market")
        reply = await post(room, "/api/v1/live", {"to": ["markt"]})
        assert reply.status == 404
        assert reply.error() == "no loudspeaker 'markt'; nearest: market"

    play_control(scenario)


def test_a_vietnamese_name_is_found_however_its_accents_were_typed(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("chợ-làng")
        reply = await post(room, "/api/v1/live", {"to": [unicodedata.normalize("NFD", "chợ-làng")]})
        assert reply.status == 201

    play_control(scenario)


def test_a_producer_that_does_not_answer_is_a_conflict_in_one_line(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.obeys = False
        reply = await post(room, "/api/v1/live", {"to": ["all"]})
        assert reply.status == 409
        assert "producer" in reply.error()

    play_control(scenario)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/api/v1/live", 405),
        ("POST", "/api/v1/station", 405),
        ("GET", "/programmes/live-9.sdp", 404),
        ("GET", f"/programmes/{'x' * 65}.sdp", 422),
        ("GET", "/control", 404),
    ],
)
def test_every_other_error_is_one_line_too(
    play_control: Play, method: str, path: str, status: int
) -> None:
    async def scenario(room: Room) -> None:
        reply = await ask(room, method, path)
        assert reply.status == status
        assert reply.error()

    play_control(scenario)


def test_a_mistake_of_ours_is_one_line_too(
    play_control: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(room: Room) -> None:
        def fail() -> None:
            raise ZeroDivisionError("secret\nand long")

        monkeypatch.setattr(room.control.queries, "summary", fail)
        reply = await ask(room, "GET", "/api/v1/station")
        assert reply.status == 500
        assert "secret" not in reply.error()

    play_control(scenario)


# ------------------------------------------------------------------ what people see
def test_lists_are_lists_though_nothing_is_there(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        for path in ("/api/v1/speakers", "/api/v1/programmes"):
            reply = await ask(room, "GET", path)
            assert (reply.status, reply.json()) == (200, [])

    play_control(scenario)


def test_what_is_on_air_and_who_hears_it_is_listed(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        await post(room, "/api/v1/live", {"to": ["a"]})
        (programme,) = (await ask(room, "GET", "/api/v1/programmes")).json()
        (speaker,) = (await ask(room, "GET", "/api/v1/speakers")).json()
        station = (await ask(room, "GET", "/api/v1/station")).json()
        assert (programme["name"], programme["to"]) == ("live-1", ["a"])
        assert (speaker["name"], speaker["state"]) == ("a", "syncing")
        assert (station["speakers"], station["programmes"]) == (1, 1)

    play_control(scenario)


def test_a_description_is_served_as_sdp(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await put(room, "/api/v1/zones/z", {"definition": {"zone": "all"}, "clear": True})
        await post(room, "/api/v1/live", {"zones": ["z"]})
        reply = await ask(room, "GET", "/programmes/live-1.sdp")
        assert reply.status == 200
        assert reply.headers[b"content-type"] == b"application/sdp"
        assert reply.body.startswith(b"v=0\r\n")

    play_control(scenario)


def test_why_there_is_no_description_is_said_in_one_line(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await post(room, "/api/v1/live", {"to": ["all"]})
        reply = await ask(room, "GET", "/programmes/live-1.sdp")
        assert reply.status == 409
        assert "loa zones clear" in reply.error()

    play_control(scenario)


def test_the_interface_is_described_on_the_station_itself(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        reply = await ask(room, "GET", "/api/v1/openapi.json")
        assert set(reply.json()["paths"]) >= {"/api/v1/live", "/api/v1/station", "/api/v1/speakers"}

    play_control(scenario)


def test_the_page_that_describes_the_api_loads_nothing_from_elsewhere(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        page = (await ask(room, "GET", "/api/v1/docs")).body.decode()
        described = (await ask(room, "GET", "/api/v1/openapi.json")).json()
        assert all(path in page for path in described["paths"])
        assert "//" not in page.replace("<!doctype html>", "")

    play_control(scenario)


def test_names_given_twice_count_once(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("ạ")
        for _ in range(5):
            reply = await post(
                room, "/api/v1/live", {"to": ["ạ", unicodedata.normalize("NFD", "ạ")] * 5000}
            )
            assert reply.status == 201
        assert [p.request.to for p in room.control.station.programmes.values()] == [("ạ",)] * 5

    play_control(scenario)


def test_more_names_than_can_be_remembered_are_refused_and_nothing_breaks(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        names = [f"{n:05}" + "ạ" * 59 for n in range(10_000)]
        for name in names:
            room.control.station.directory.put_endpoint(
                Endpoint(name, room.control.station.directory.root)
            )
        replies = [(await post(room, "/api/v1/live", {"to": names})).status for _ in range(3)]
        assert replies == [201, 201, 409]
        assert (await post(room, "/api/v1/live", {"zones": ["all"]})).status == 201
        assert (await post(room, "/api/v1/stop", {})).status == 200

    play_control(scenario)
