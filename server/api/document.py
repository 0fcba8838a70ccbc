"""What the OpenAPI document says of every operation beside what FastAPI reads off its function.

That is who may call it, and how it refuses: programs that know nothing else are written by it.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from typing_extensions import override

from server.api.idempotency import PARAMETER
from server.api.pages import describe_pages
from server.api.rights import Of, right_of
from server.problem import MEDIA_TYPE

_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "A session, which `POST /api/v1/login` gives, or a token (RFC 6750).",
}
_PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "Why nothing was done (RFC 9457): `detail` says it in one line, for people.",
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string", "minLength": 1},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "minLength": 1},
    },
    "required": ["type", "title", "status", "detail"],
    "additionalProperties": False,
}
_SAID = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_OF_STRANGERS = {
    401: "No session or token was shown, or one that opens nothing.",
    403: "Whoever asks may not do this here.",
}
_OF_SIGNING_IN = {
    401: "The name, the password or the code is wrong.",
    429: "Too many attempts: `Retry-After` says how many seconds to wait.",
}
_OF_WHAT_IS_ASKED = {
    404: "Something that was named does not exist.",
    422: "What was asked makes no sense.",
}
_OF_CHANGES = {409: "It cannot be done as the station is now, or by whoever asks."}
_OF_KEYS = {400: "The body, or a field of the head, cannot be read."}
_OF_BODIES = {
    **_OF_KEYS,
    408: "The body did not come whole in time.",
    413: "The body is too long.",
    503: "Too many long requests come at once.",
}


def said_in(media_type: str) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: what it answers is text of this type."""
    return {200: {"content": {media_type: {"schema": {"type": "string"}}}}}


class DocumentedAPI(FastAPI):
    """An application whose document tells all of every route."""

    @override
    def openapi(self) -> dict[str, Any]:
        """The document; it is made once."""
        if self.openapi_schema:
            return self.openapi_schema
        document = super().openapi()
        for route in self.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                for method in route.methods or ():
                    _describe(document["paths"][route.path_format][method.lower()], route, method)
        components = document.setdefault("components", {})
        components["securitySchemes"] = {"bearer": _BEARER}
        schemas = components.setdefault("schemas", {})
        # FastAPI's own form of errors, in which none is answered.
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        schemas["Problem"] = _PROBLEM
        return document


def _describe(operation: dict[str, Any], route: APIRoute, method: str) -> None:
    right = right_of(route)
    is_open = right is not None and right.of is Of.NOBODY
    operation["security"] = [] if is_open else [{"bearer": []}]
    describe_pages(operation)
    if method != "GET" and not is_open:
        operation["parameters"] = [*operation.get("parameters", ()), PARAMETER]
    responses = operation["responses"]
    refusals = _refusals(operation, writes=method != "GET", is_open=is_open)
    responses |= {str(status): {"description": why} for status, why in refusals.items()}
    for status, response in responses.items():
        if int(status) >= 400:
            response["content"] = _SAID


def _refusals(operation: dict[str, Any], *, writes: bool, is_open: bool) -> dict[int, str]:
    has_body, asks = "requestBody" in operation, "parameters" in operation
    refusals = {} if is_open else dict(_OF_STRANGERS)
    if has_body or asks:
        refusals |= _OF_WHAT_IS_ASKED
    if writes or asks:
        refusals |= _OF_CHANGES
    if writes and not is_open:
        refusals |= _OF_KEYS
    if has_body:
        refusals |= _OF_BODIES
    if is_open and has_body:
        refusals |= _OF_SIGNING_IN
    return refusals
