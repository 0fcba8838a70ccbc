"""What control must know again when it has died, as one record. Pure.

What is said of each loudspeaker is packed when it changes, and not whenever anything does: there
may be 10,000, and a record is written ten times a second while they come.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import msgpack

from server.directory import Endpoint
from server.programmes import Programme, programme_of
from server.speakers import Speaker


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a record says; of each loudspeaker also its delivery, and whether it hears groups."""

    count: int
    speakers: list[tuple[Speaker, str, bool]]
    programmes: list[Programme]


class Memory:
    """Loudspeakers and requests as they are packed."""

    def __init__(self) -> None:
        self._speakers: dict[str, bytes] = {}
        # A request may name 20,000 loudspeakers, and stays as it is.
        self._requests: dict[str, bytes] = {}

    def put(self, speaker: Speaker, endpoint: Endpoint) -> None:
        """A loudspeaker is so now; when it was last seen is not kept up."""
        row = [speaker.to_plain(), endpoint.delivery, endpoint.multicast]
        self._speakers[speaker.name] = msgpack.packb(row)

    def drop(self, name: str) -> None:
        """Of this loudspeaker nothing is to be known again."""
        self._speakers.pop(name, None)

    def record(self, count: int, programmes: Iterable[Programme]) -> bytes:
        """All of it; so many programmes there have been."""
        programmes = list(programmes)
        self._requests = {p.name: self._request(p) for p in programmes}
        rows = [_row(p) | {"request": self._requests[p.name]} for p in programmes]
        packer = msgpack.Packer()
        head: bytes = msgpack.packb([count, rows], default=_row)
        length: bytes = packer.pack_array_header(len(self._speakers))
        return b"".join((head, length, *self._speakers.values()))

    def _request(self, programme: Programme) -> bytes:
        known = self._requests.get(programme.name)
        return msgpack.packb(_row(programme.request)) if known is None else known


def read_record(record: bytes) -> Remembered:
    """What `Memory.record` said; ValueError if that makes no sense."""
    try:
        (count, rows), speakers = _unpacked(record)
        return Remembered(
            int(count),
            [(Speaker.of_plain(row[0]), str(row[1]), bool(row[2])) for row in speakers],
            [programme_of(row | {"request": msgpack.unpackb(row["request"])}) for row in rows],
        )
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise ValueError(f"no station's memory: {error!r}") from error


def numbers_on_air(record: bytes) -> list[int]:
    """The numbers of the programmes in a record; of what makes no sense, none."""
    try:
        return [programme.number for programme in read_record(record).programmes]
    except ValueError:
        return []


def _unpacked(record: bytes) -> list[Any]:
    unpacker = msgpack.Unpacker(max_buffer_size=len(record))
    unpacker.feed(record)
    parts = list(unpacker)
    if unpacker.tell() != len(record):
        raise ValueError("it is cut off")
    return parts


def _row(value: Any) -> dict[str, Any]:
    """A dataclass, its values as they are."""
    return {field.name: getattr(value, field.name) for field in fields(value)}
