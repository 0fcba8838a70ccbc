"""Messages as bytes: msgpack maps, limited in size and depth, checked against the dataclass.

A message is a map of its fields plus `"type"`. Unknown fields are skipped, so that a newer peer
can say more; a missing or ill-typed one makes the whole message malformed.
"""

import types
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

from transport.errors import MalformedPacket

MAX_MESSAGE_BYTES = 1 << 16
_MAX_DEPTH = 8

Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Vocabulary(Generic[Message]):
    """The messages that may travel one way, by name. A sender's own mistake raises TypeError."""

    types: dict[str, type[Message]]
    max_bytes: int = MAX_MESSAGE_BYTES

    def encode(self, message: Message) -> bytes:
        """The bytes of one message."""
        name = type(message).__name__
        if self.types.get(name) is not type(message):
            raise TypeError(f"{name} is not a word of this direction")
        packed: bytes = msgpack.packb({"type": name, **_to_plain(message)})
        return packed

    def decode(self, data: bytes) -> Message:
        """The message in `data`; MalformedPacket if there is none."""
        if len(data) > self.max_bytes:
            raise MalformedPacket("message_size")
        try:
            plain = msgpack.unpackb(data, raw=False, strict_map_key=True)
        except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
            raise MalformedPacket("message_encoding") from error
        if not isinstance(plain, dict) or not isinstance(plain.get("type"), str):
            raise MalformedPacket("message_shape")
        _check_depth(plain, _MAX_DEPTH)
        wanted = self.types.get(plain["type"])
        if wanted is None:
            raise MalformedPacket("message_type")
        message: Message = _from_plain(wanted, plain)
        return message


def vocabulary(*kinds: type[Any], max_bytes: int = MAX_MESSAGE_BYTES) -> Vocabulary[Any]:
    """A vocabulary of these dataclasses, in messages no longer than `max_bytes`."""
    return Vocabulary({kind.__name__: kind for kind in kinds}, max_bytes)


def _check_depth(value: object, left: int) -> None:
    if left == 0:
        raise MalformedPacket("message_depth")
    if isinstance(value, dict):
        for item in value.values():
            _check_depth(item, left - 1)
    elif isinstance(value, list):
        for item in value:
            _check_depth(item, left - 1)


def _to_plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    return value


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _from_plain(kind: Any, value: Any) -> Any:
    if is_dataclass(kind):
        return _record_from_plain(kind, value)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):  # the only union in use is "or None"
        if value is None:
            return None
        return _from_plain(next(a for a in get_args(kind) if a is not type(None)), value)
    if origin is tuple:
        if not isinstance(value, list):
            raise MalformedPacket("message_field")
        return tuple(_from_plain(get_args(kind)[0], item) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:  # exact: True must not pass for 1
        raise MalformedPacket("message_field")
    return value


def _record_from_plain(kind: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        raise MalformedPacket("message_field")
    hints = _hints(kind)
    found = {}
    for field in fields(kind):
        if field.name in value:
            found[field.name] = _from_plain(hints[field.name], value[field.name])
        elif field.default is MISSING:
            raise MalformedPacket("message_field")
    try:
        return kind(**found)
    except ValueError as error:
        raise MalformedPacket("message_value") from error
