"""Asking the station for the right to speak."""

from dataclasses import dataclass

from server.remote import ApiError, Credentials, call, not_a_station
from transport.control.address import StationAddress


class LiveError(Exception):
    """Speaking is not possible; one line that says why."""


class LiveOverError(LiveError):
    """The programme is over, and will not be again."""


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


def ask(server: str, request: dict[str, object], credentials: Credentials) -> Grant:
    """A ticket from the station at `server`; LiveError if it refuses or is not there."""
    try:
        answer = call(server, "POST", "/api/v1/live", request, credentials=credentials)
    except ApiError as error:
        raise LiveError(str(error)) from None
    address = StationAddress.parse(server)
    try:
        sdp = answer["sdp"]
        return Grant(
            host=address.host,
            programme=answer["programme"],
            ticket=answer["ticket"],
            ingest_port=answer["ingest_port"],
            time_port=answer["time_port"],
            playout_delay_ms=answer["playout_delay_ms"],
            listening=tuple(answer["listening"]),
            not_listening=tuple(answer["not_listening"]),
            sdp=f"https://{address.text}{sdp}" if sdp else None,
        )
    except (KeyError, TypeError):
        raise LiveError(str(not_a_station(address))) from None
