"""How live audio reaches the producer: a TCP stream of msgpack objects, straight from the source.

Client: `{"version": 1, "ticket": T}`; then `[media_sample, s16le bytes]` any number of times;
then `None`. Producer: `{"accepted": true, "reason": ""}` after the first, or
`{"accepted": false, "reason": str, "final": bool}`, where `final` says that the same ticket will
not be good again; `{"ended": true}` after the last. The ticket names the programme and is the right
to speak.
"""

import socket
from collections.abc import Iterator
from typing import Any

import msgpack

from codec.format import Samples
from codec.pcm import samples_of_pcm16

VERSION = 1
MAX_BLOCK_SAMPLES = 48_000
# The largest object there is, a whole block, and what may have come after it in one read.
_MAX_BUFFER = 1 << 18
_MAX_TEXT = 1000
_MAX_ITEMS = 16


class IngestError(Exception):
    """The other end does not speak this protocol, or refused; the text says why."""


class ObjectStream:
    """msgpack objects over a connected blocking socket, bounded in size."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._unpacker = msgpack.Unpacker(
            raw=False,
            max_buffer_size=_MAX_BUFFER,
            max_bin_len=2 * MAX_BLOCK_SAMPLES,
            max_str_len=_MAX_TEXT,
            # Lists are made as long as announced, before anything of them has come.
            max_array_len=_MAX_ITEMS,
            max_map_len=_MAX_ITEMS,
            max_ext_len=0,
        )

    def send(self, item: Any) -> None:
        """One object; OSError if the connection is gone."""
        self._connection.sendall(msgpack.packb(item))

    def receive(self) -> Iterator[Any]:
        """Objects until the other end closes; IngestError if what it sends is no msgpack."""
        while data := self._connection.recv(1 << 16):
            try:
                self._unpacker.feed(data)
                yield from self._unpacker
            except (ValueError, msgpack.exceptions.UnpackException) as error:
                raise IngestError("not the ingest protocol") from error


def block_of(item: Any) -> tuple[int, Samples]:
    """The media sample and the mono float32 samples of one block; IngestError if it is none."""
    match item:
        case [int(start), bytes(data)] if not isinstance(start, bool) and 0 <= start < 1 << 53:
            if 0 < len(data) <= 2 * MAX_BLOCK_SAMPLES and len(data) % 2 == 0:
                return start, samples_of_pcm16(data)
    raise IngestError("a block is [media sample, up to a second of s16le]")
