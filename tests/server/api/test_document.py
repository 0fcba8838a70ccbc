"""The OpenAPI document: what programs that know nothing else of the station are written by."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI
from fastapi.routing import APIRoute

from server.api.rights import Of, right_of
from server.api.routes import build_api
from tests.support.asking import ask
from tests.support.people import ask_as

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]
ERROR = {"$ref": "#/components/schemas/Problem"}


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def references_in(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from references_in(inner)


def test_the_document_is_one_of_openapi_and_every_operation_says_what_it_is(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        document = (await ask(room, "GET", "/api/v1/openapi.json")).json()
        assert document["openapi"].startswith("3.1.")
        OpenAPI.model_validate(document)
        for reference in references_in(document):
            place, name = reference.removeprefix("#/components/").split("/")
            assert name in document["components"][place], reference
        assert "HTTPValidationError" not in document["components"]["schemas"]
        names = [operation["operationId"] for _, _, operation in operations_of(document)]
        assert len(names) == len(set(names)) > 40
        for method, path, operation in operations_of(document):
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)

    play_control(scenario)


def test_every_operation_says_who_may_call_it_and_how_it_refuses(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        api = build_api(room.control)
        document = api.openapi()
        assert document is api.openapi()
        assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
        rights = {
            (method, route.path_format): right_of(route)
            for route in api.routes
            if isinstance(route, APIRoute)
            for method in route.methods or ()
        }
        for method, path, operation in operations_of(document):
            right, responses = rights[method, path], operation["responses"]
            assert right is not None
            is_open = right.of is Of.NOBODY
            assert operation["security"] == ([] if is_open else [{"bearer": []}])
            assert is_open or {"401", "403"} <= responses.keys()
            assert "parameters" not in operation or {"404", "409", "422"} <= responses.keys()
            assert "requestBody" not in operation or {"408", "413", "422"} <= responses.keys()
            for status, response in responses.items():
                if int(status) >= 400:
                    assert response["content"]["application/problem+json"]["schema"] == ERROR
                    assert response["description"]
        assert "429" in document["paths"]["/api/v1/login"]["post"]["responses"]

    play_control(scenario)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("DELETE", "/api/v1/login", None, 409),
        ("POST", "/api/v1/login", {"name": "x", "password": "y"}, 401),
        ("POST", "/api/v1/volume", {"to": ["nobody"], "volume": 5}, 404),
        ("POST", "/api/v1/volume", {"to": ["nobody"], "volume": 500}, 422),
        ("GET", "/api/v1/programmes/past?limit=0", None, 422),
    ],
)
def test_what_is_refused_is_refused_as_the_document_says(
    play_control: Play, method: str, path: str, body: object, status: int
) -> None:
    # Schemathesis found the first; FastAPI's own form of 422 stood for all the others.
    async def scenario(room: Room) -> None:
        shown = room.control.access.token
        reply = await ask_as(room, shown, method, path, body)
        assert reply.status == status
        assert reply.error()
        operation = build_api(room.control).openapi()["paths"][path.partition("?")[0]]
        declared = operation[method.lower()]["responses"][str(status)]
        assert declared["content"]["application/problem+json"]["schema"] == ERROR

    play_control(scenario)
