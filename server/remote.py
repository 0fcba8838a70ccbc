"""A station, asked over its HTTP API from another process: plain and synchronous."""

import http.client
import json
from typing import Any
from urllib.parse import quote

from transport.control.address import StationAddress
from transport.control.messages import spelt_alike

_TIMEOUT_S = 5.0
# The figures of 20,000 loudspeakers are less.
_MAX_REPLY = 64 << 20


class ApiError(Exception):
    """The station did not do it, or is not there; one line that says why."""


def call(
    server: str, method: str, path: str, body: object = None, timeout_s: float = _TIMEOUT_S
) -> Any:
    """What the station at `server` (`host[:port]`) answers; None if it says only that it is done.

    `path` as `path_of` makes it. ApiError if the station refuses or is not there.
    """
    try:
        address = StationAddress.parse(server)
    except ValueError as error:
        raise ApiError(str(error)) from None
    status, data = _exchange(address, method, path, body, timeout_s)
    try:
        answer = json.loads(data) if data else None
    except (ValueError, RecursionError):
        raise not_a_station(address) from None
    if not 200 <= status < 300:
        refusal = answer.get("error") if isinstance(answer, dict) else None
        raise ApiError(str(refusal or f"the station answered {status}"))
    if answer is None and status != http.HTTPStatus.NO_CONTENT:
        raise not_a_station(address)
    return answer


def rows(server: str, path: str, timeout_s: float = _TIMEOUT_S) -> list[dict[str, Any]]:
    """What the station answers where that is a list of objects; ApiError as `call`."""
    answer = call(server, "GET", path, timeout_s=timeout_s)
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise not_a_station(StationAddress.parse(server))
    return answer


def path_of(collection: str, name: str, *, nested: bool = False) -> str:
    """The path of one thing in a collection, its name in the one spelling.

    Only a `nested` name may have `/` in it. ApiError for what could not be a name.
    """
    if not name.strip("/") or ("/" in name and not nested):
        raise ApiError(f"{name!r} is no name")
    return f"{collection}/{quote(spelt_alike(name), safe='/', errors='replace')}"


def not_a_station(address: StationAddress) -> ApiError:
    """The error for an answer that no station gives."""
    return ApiError(f"what answers at {address.text} is not a station")


def _exchange(
    address: StationAddress, method: str, path: str, body: object, timeout_s: float
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
    headers = {} if body is None else {"Content-Type": "application/json"}
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, headers)
        reply = connection.getresponse()
        return reply.status, reply.read(_MAX_REPLY)
    except OSError as error:
        why = error.strerror or str(error)
        hint = "start it with `loa serve`, or name another with --server"
        raise ApiError(f"station not found at {address.text}: {why} ({hint})") from None
    except (http.client.HTTPException, ValueError):
        raise not_a_station(address) from None
    finally:
        connection.close()
