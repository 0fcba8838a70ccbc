"""PROTOCOL.md suffices to read every vector, and to drop what must be dropped."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.protocol.newcomer import (
    Dropped,
    read_ingest,
    read_message,
    read_rtcp,
    read_sap,
    read_txt,
)
from tests.protocol.page import VECTORS, Vector, of
from tests.protocol.sceptic import (
    check_streams,
    read_bundle,
    read_certificate,
    read_code,
    read_copies,
    read_frame,
    read_identity,
    read_repair,
    read_request,
    read_rtp_of_now,
    read_sealed,
    read_sealed_time,
    read_signed,
    read_stun,
    read_token,
)
from tests.protocol.solver import read_symbols

_LISTEN = VECTORS["listen"]
_STREAM = read_message(_LISTEN.data, _LISTEN.direction)["streams"][0]
_READERS: dict[str, Callable[[bytes], Any]] = {
    "bundle": read_bundle,
    "certificate": read_certificate,
    "code": read_code,
    "copies": read_copies,
    "identity": read_identity,
    "ingest": read_ingest,
    "listen": check_streams,
    "repair": lambda data: read_repair(data, _STREAM),
    "request": read_request,
    "rtcp": read_rtcp,
    "rtp": lambda data: read_rtp_of_now(data, _STREAM["timestamp_offset"]),
    "sap": read_sap,
    "sealed": lambda data: read_sealed(data, _STREAM),
    "signed": lambda data: read_signed(data, _STREAM),
    "stun": read_stun,
    "symbols": read_symbols,
    "time": read_sealed_time,
    "token": read_token,
    "txt": read_txt,
}


def newcomer(vector: Vector) -> Any:
    """What the newcomer takes a vector for."""
    match vector.kind:
        case "message":
            return read_message(vector.data, vector.direction)
        case "frame":
            return read_frame(vector.data, vector.direction)
        case kind:
            return _READERS[kind](vector.data)


@of("both", "read")
def test_the_page_suffices_to_read_a_vector(vector: Vector) -> None:
    assert newcomer(vector) == vector.meaning


@of("refuse")
def test_the_page_suffices_to_drop_what_must_be_dropped(vector: Vector) -> None:
    with pytest.raises(Dropped):
        newcomer(vector)


def test_the_page_suffices_to_believe_the_streams_of_a_listen() -> None:
    check_streams(_LISTEN.data)


def test_what_is_sealed_is_what_was_signed() -> None:
    for name in ("rtp", "rtp_copies", "rtp_symbols", "rtcp_bye"):
        sealed, signed = VECTORS[f"{name}_sealed"], VECTORS[f"{name}_signed"]
        assert sealed.meaning["signed"] == signed.hex
    assert VECTORS["rtcp_bye_signed"].meaning["clear"] == VECTORS["rtcp_bye"].hex


def test_what_is_bundled_are_repairs_and_they_are_of_what_is_signed() -> None:
    repairs = [VECTORS[name] for name in ("repair", "repair_copies")]
    assert VECTORS["bundle"].meaning == [repair.hex for repair in repairs]
    for repair, name in zip(repairs, ("rtp_signed", "rtp_copies_signed"), strict=True):
        assert repair.meaning["signature"] == VECTORS[name].meaning["signature"]
    assert VECTORS["rtp_copies_signed"].data.endswith(VECTORS["copies"].data)
