"""What goes along with a frame in its packet, at the sender: copies, or symbols of a code.

Both stand before the frame, and a digest stands for them in its signature, so that the frame can be
verified, and sent again, without them.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

from transport.recovery import copies, erasure
from transport.recovery.blocks import BlockWriter
from transport.recovery.copies import COPIES_PAYLOAD_TYPE, Copy, CopyBook, digest
from transport.recovery.erasure import CODE_PAYLOAD_TYPE, Code, Symbols

Along: TypeAlias = Sequence[Copy] | Symbols
"""No copies is nothing."""

ALONG_PAYLOAD_TYPES: Final = frozenset({COPIES_PAYLOAD_TYPE, CODE_PAYLOAD_TYPE})


def pack(primary: bytes, along: Along, payload_type: int) -> tuple[int, bytes]:
    """A packet's payload type and payload; the type is `payload_type` if nothing goes along."""
    if isinstance(along, Symbols):
        return CODE_PAYLOAD_TYPE, erasure.pack(primary, along)
    if along:
        return COPIES_PAYLOAD_TYPE, copies.pack(primary, along)
    return payload_type, primary


def unpack(payload_type: int, payload: bytes) -> tuple[bytes, Along]:
    """A packet's own frame, and what goes along; MalformedPacket("copies") or ("symbols")."""
    if payload_type == CODE_PAYLOAD_TYPE:
        return erasure.unpack(payload)
    if payload_type == COPIES_PAYLOAD_TYPE:
        return copies.unpack(payload)
    return payload, ()


def signed_part(payload_type: int, payload: bytes) -> bytes:
    """What is signed of a payload, so that its frame can be verified without what goes along.

    That is the frame, and the digest where anything goes along. MalformedPacket as `unpack`.
    """
    if payload_type not in ALONG_PAYLOAD_TYPES:
        return payload
    primary, _ = unpack(payload_type, payload)
    return primary + digest(payload, primary)


class Provision:
    """What goes along with one stream's frames, as it is ordered."""

    def __init__(self, frame_samples: int) -> None:
        self._book = CopyBook()
        self._blocks = BlockWriter(frame_samples)
        self._offsets: tuple[int, ...] = ()

    def adapt(self, offsets: tuple[int, ...], code: Code | None) -> None:
        """From the next frame on these copies, and this code.

        Where there is a code, copies go along only with packets that have no symbols: until the
        first block is over, and after pauses.
        """
        self._offsets = offsets
        self._blocks.adapt(code)

    def along(self, media_sample: int, payload: bytes, room: int) -> Along:
        """With this frame, which is remembered; each begins later than the one before.

        `room` is how many bytes longer its payload may become.
        """
        symbols = self._blocks.along(media_sample, payload, room)
        found = self._book.copies(media_sample, self._offsets, room) if symbols is None else ()
        self._book.remember(media_sample, payload)
        return found if symbols is None else symbols
