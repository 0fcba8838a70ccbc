"""How the API says what is wrong: problem details (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The reply; `detail` is one line for people, and the status is all that a program need know.

    So its type is `about:blank`, of which the title is the status's own name (section 4.2.1).
    """
    # The text may quote what a stranger sent: line breaks, or half a character.
    line = " ".join(detail.split()).encode(errors="replace").decode()
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": line,
    }
    return JSONResponse(body, status, headers, MEDIA_TYPE)


def detail_of(answer: object) -> str:
    """The line in what was answered; empty if it is no problem."""
    return str(answer.get("detail") or "") if isinstance(answer, dict) else ""
