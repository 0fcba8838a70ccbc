"""What control and a hall say to each other; several words make a packet. Pure.

Both are of one version and of one station, so a word is a msgpack array: its kind, then its fields.
"""

from dataclasses import dataclass, fields
from typing import TypeAlias, get_type_hints

import msgpack

from transport.errors import MalformedPacket

# A session's longest message, and what is around it.
MAX_PACKET_BYTES = (1 << 16) + (1 << 10)


# ------------------------------------------------------------- control to a hall
@dataclass(frozen=True, slots=True)
class Begin:
    """A life of control begins, or a hall's has: sessions of another life of control are closed."""

    instance: str


@dataclass(frozen=True, slots=True)
class Take:
    """A connection, whose descriptor travels with the packet: it has not begun TLS."""


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the loudspeaker this; not before the one before has been `Sent`."""

    session: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """What was `Said` has been taken: the next may be passed on."""

    session: int


@dataclass(frozen=True, slots=True)
class Close:
    """Close it with this code and reason (RFC 6455 7.4); nothing more is said of it."""

    session: int
    code: int
    reason: str


# ------------------------------------------------------------- a hall to control
@dataclass(frozen=True, slots=True)
class Here:
    """The answer to `Begin`, with its instance, or the first word of a hall, with none.

    All that the hall said before is void. `places` are how many connections it may hold.
    """

    instance: str
    places: int


@dataclass(frozen=True, slots=True)
class Holds:
    """What has come of the connections `taken` since `Begin`.

    `unfinished` are those that do not shake hands yet or still do, `held` all others.
    """

    taken: int
    unfinished: int
    held: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A session has begun; its number is used but once. `subprotocol` is empty if none is ours."""

    session: int
    host: str
    port: int
    subprotocol: str


@dataclass(frozen=True, slots=True)
class Said:
    """The loudspeaker has said this; the next is passed on when this is `Heard`."""

    session: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """What control had it `Say` is on its way: the peer reads."""

    session: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The loudspeaker has ended its session, or its connection is lost."""

    session: int
    code: int


Word: TypeAlias = Begin | Take | Say | Heard | Close | Here | Holds | Opened | Said | Sent | Gone
_KINDS: tuple[type[Word], ...] = (
    Begin, Take, Say, Heard, Close, Here, Holds, Opened, Said, Sent, Gone,
)  # fmt: skip
_NUMBERS = {kind: number for number, kind in enumerate(_KINDS)}
_NAMES = tuple(tuple(field.name for field in fields(kind)) for kind in _KINDS)
_FIELDS = tuple(tuple(get_type_hints(kind).values()) for kind in _KINDS)


def pack(word: Word) -> bytes:
    """One word; what a packet holds is several of them in a row."""
    number = _NUMBERS[type(word)]
    packed: bytes = msgpack.packb([number, *[getattr(word, name) for name in _NAMES[number]]])
    return packed


def unpack(packet: memoryview) -> list[Word]:
    """All words of a packet; MalformedPacket if it is none of ours."""
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_PACKET_BYTES)
    words, end = [], 0
    try:
        unpacker.feed(packet)
        for plain in unpacker:
            words.append(_word(plain))
            end = unpacker.tell()
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise MalformedPacket("message_encoding") from error
    if end != len(packet):  # the last is cut off
        raise MalformedPacket("message_size")
    return words


def _word(plain: object) -> Word:
    if not isinstance(plain, list) or not plain or type(plain[0]) is not int:
        raise MalformedPacket("message_shape")
    number, *values = plain
    if not 0 <= number < len(_KINDS):
        raise MalformedPacket("message_type")
    if tuple(map(type, values)) != _FIELDS[number]:
        raise MalformedPacket("message_field")
    return _KINDS[number](*values)
