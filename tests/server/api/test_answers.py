"""Answers have the form that the OpenAPI document says; where FastAPI does not see to it, we do."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter

from server.api.answers import SpeakerAnswer
from server.directory import Endpoint
from tests.support.asking import ask
from tests.support.stations import key_of_name
from tests.support.visitor import TELEMETRY

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]
ROOT = "Tân Phú"


def test_rows_of_loudspeakers_are_as_described_whether_they_have_told_of_themselves_or_not(
    play_control: Play,
) -> None:
    # A field that `server.views` has and the answer has not makes this fail, and the other way.
    async def scenario(room: Room) -> None:
        room.join("tells")
        room.join("silent")
        room.control.station.speakers["tells"].told(TELEMETRY)
        room.control.station.enrol(Endpoint("away", ROOT, key=key_of_name("away")))
        reply = await ask(room, "GET", "/api/v1/speakers")
        rows = TypeAdapter(list[SpeakerAnswer]).validate_json(reply.body)
        described = set(SpeakerAnswer.model_fields)
        told = {row.name: described - row.model_fields_set for row in rows}
        assert told["tells"] == set()
        assert told["away"] == told["silent"]
        assert "uptime_s" in told["away"]

    play_control(scenario)


def test_every_answer_that_is_json_has_a_form_of_its_own(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        document = (await ask(room, "GET", "/api/v1/openapi.json")).json()
        assert document["info"]["version"] == version("loa")
        plain = []
        for path, item in document["paths"].items():
            for method, operation in item.items():
                for status in operation["responses"].keys() & {"200", "201"}:
                    content = operation["responses"][status]["content"]
                    schema = content.get("application/json", {}).get("schema", {})
                    of_one = schema.get("items", schema)
                    if "application/json" in content and of_one.get("type") == "object":
                        plain.append((method, path))
                    assert content, (method, path)
        assert plain == []

    play_control(scenario)
