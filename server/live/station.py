"""Asking the station for the right to speak."""

import http.client
import json
from dataclasses import dataclass
from typing import Any

from transport.control.address import StationAddress

_TIMEOUT_S = 5.0
_MAX_REPLY = 4 << 20


class LiveError(Exception):
    """Speaking is not possible; one line that says why."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What the station granted."""

    host: str
    programme: str
    ticket: str
    ingest_port: int
    time_port: int
    playout_delay_ms: float
    listening: tuple[str, ...]
    not_listening: tuple[str, ...]
    sdp: str | None


def ask(server: str, request: dict[str, object]) -> Grant:
    """A ticket from the station at `server`; LiveError if it refuses or is not there."""
    try:
        address = StationAddress.parse(server)
    except ValueError as error:
        raise LiveError(str(error)) from None
    host, port = address.host, address.port
    answer = _post(host, port, request)
    try:
        sdp = answer["sdp"]
        return Grant(
            host=host,
            programme=answer["programme"],
            ticket=answer["ticket"],
            ingest_port=answer["ingest_port"],
            time_port=answer["time_port"],
            playout_delay_ms=answer["playout_delay_ms"],
            listening=tuple(answer["listening"]),
            not_listening=tuple(answer["not_listening"]),
            sdp=f"http://{host}:{port}{sdp}" if sdp else None,
        )
    except (KeyError, TypeError):
        raise _no_station(host, port) from None


def _no_station(host: str, port: int) -> LiveError:
    return LiveError(f"what answers at {host}:{port} is not a station")


def _post(host: str, port: int, request: dict[str, object]) -> dict[str, Any]:
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request(
            "POST", "/api/live", json.dumps(request), {"Content-Type": "application/json"}
        )
        reply = connection.getresponse()
        body = json.loads(reply.read(_MAX_REPLY))
    except OSError as error:
        why = error.strerror or str(error)
        raise LiveError(f"station not found at {host}:{port}: {why}") from None
    except (http.client.HTTPException, ValueError):
        raise _no_station(host, port) from None
    finally:
        connection.close()
    if reply.status != http.HTTPStatus.CREATED or not isinstance(body, dict):
        refusal = body.get("error") if isinstance(body, dict) else None
        raise LiveError(refusal or f"the station answered {reply.status}")
    return body
