"""The log as it leaves the station: JSON, a line each, for any language. Pure. See AUDIT.md."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from server.audit.head import Head
from server.audit.row import HASH_BYTES, Row, instant
from transport.security.keys import PUBLIC_BYTES

FORMAT: Final = 1
# A row is far shorter; what is longer is no line of ours, and need not be read whole.
MAX_LINE_BYTES: Final = 64 << 10
_ROW_KEYS = ("seq", "at", "who", "where", "what", "on", "why", "outcome", "hash")
_HEAD_KEYS = ("head", "hash", "at", "kind", "station", "delegate", "signature")
_BEGINNING_KEYS = ("loa_audit", "root")
_INSTANT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})\.([0-9]{9})Z")
_HEXADECIMAL = re.compile(r"(?:[0-9a-f]{2})+")
_NS_PER_SECOND = 1_000_000_000


class LineError(ValueError):
    """A line that no station writes; says in a few words why."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first line: the public key of the root that the station had at the first row there is."""

    root: bytes


Line = Beginning | Row | Head


def beginning_line(beginning: Beginning) -> str:
    """The first line, without its end."""
    return _json({"loa_audit": FORMAT, "root": beginning.root.hex()})


def row_line(row: Row) -> str:
    """A row's line; its details stand there as a text, so that not a byte of them can differ."""
    values = (row.seq, *row.texts, row.hash.hex())
    return _json(dict(zip(_ROW_KEYS, values, strict=True)))


def head_line(head: Head) -> str:
    """A head's line, in an export and wherever heads are anchored."""
    certificates = (head.station.hex(), head.delegate.hex(), head.signature.hex())
    values = (head.seq, head.hash.hex(), instant(head.at_ns), head.kind, *certificates)
    return _json(dict(zip(_HEAD_KEYS, values, strict=True)))


def parse_line(data: bytes) -> Line:
    """What a line says; LineError for any that no station writes."""
    try:
        said = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except LineError:
        raise
    except (ValueError, RecursionError):
        raise LineError("it is no JSON") from None
    if not isinstance(said, dict):
        raise LineError("it is no object")
    match tuple(said):
        case keys if keys == _ROW_KEYS:
            return _row(said)
        case keys if keys == _HEAD_KEYS:
            return _head(said)
        case keys if keys == _BEGINNING_KEYS:
            return _beginning(said)
    raise LineError("it has other fields than a row or a head")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise LineError("it says a field twice")
    return made


def _no_number(_: str) -> Any:
    raise LineError("it is no JSON")


def _row(said: dict[str, Any]) -> Row:
    texts = tuple(said[key] for key in _ROW_KEYS[1:-1])
    if not all(isinstance(text, str) for text in texts):
        raise LineError("a row's parts are texts")
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise LineError("it holds half a character") from None
    return Row(_number(said["seq"]), texts, _bytes(said["hash"], HASH_BYTES))


def _head(said: dict[str, Any]) -> Head:
    if said["kind"] not in ("kept", "closing", "cut"):
        raise LineError("a head is kept, closing or cut")
    return Head(
        _number(said["head"]),
        _bytes(said["hash"], HASH_BYTES),
        _ns(said["at"]),
        said["kind"],
        _bytes(said["station"]),
        _bytes(said["delegate"]),
        _bytes(said["signature"]),
    )


def _beginning(said: dict[str, Any]) -> Beginning:
    if said["loa_audit"] != FORMAT or not isinstance(said["loa_audit"], int):
        raise LineError("it is of another version: a newer `loa audit verify` may read it")
    return Beginning(_bytes(said["root"], PUBLIC_BYTES))


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise LineError("a row's number is a whole number")
    return value


def _bytes(value: object, length: int | None = None) -> bytes:
    if not isinstance(value, str) or not _HEXADECIMAL.fullmatch(value):
        raise LineError("keys, hashes and signatures are lower hexadecimal digits")
    data = bytes.fromhex(value)
    if length is not None and len(data) != length:
        raise LineError(f"it has {len(data)} bytes where {length} belong")
    return data


def _ns(value: object) -> int:
    found = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    try:
        if found is None:
            raise ValueError
        at = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
    except ValueError:
        raise LineError("a time is written 2026-01-31T12:00:00.000000000Z") from None
    ns = int(at.timestamp()) * _NS_PER_SECOND + int(found[2])
    if ns < 0:
        raise LineError("a time is after 1970")
    return ns


def _json(plain: dict[str, Any]) -> str:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
