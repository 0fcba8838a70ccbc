"""Frames in blocks, at either end: repair symbols of those that were sent, and frames out of them.

The symbols of a block go along with the packets of the next one, evenly, so that its first frame
can still be heard if all that came of it are its last symbols: two blocks' time after it.
"""

from transport.errors import MalformedPacket
from transport.recovery.erasure import (
    HEAD_BYTES,
    MOST_FRAMES,
    MOST_IN_PACKET,
    Code,
    Symbols,
    decode,
    encode,
)

# A block that is coded and the one before it may both be waited for, in any order.
_BLOCKS_KEPT = 4
_FRAMES_KEPT = 2 * _BLOCKS_KEPT * MOST_FRAMES


class BlockWriter:
    """Makes the symbols that go along with one stream's frames."""

    def __init__(self, frame_samples: int) -> None:
        self._frame = frame_samples
        self._code: Code | None = None
        self._block: _Open | None = None
        self._coded: _Coded | None = None

    def adapt(self, code: Code | None) -> None:
        """From the next block on this much is coded; from the next frame on nothing, if None."""
        self._code = code
        if code is None:
            self._block = self._coded = None

    def along(self, media_sample: int, payload: bytes, room: int) -> Symbols | None:
        """What goes along with this frame; each begins later than the one before.

        `room` is how many bytes longer its payload may become: what does not fit is left out.
        """
        if self._code is None:
            return None
        block = self._block
        if block is None or not block.take(media_sample, payload):
            self._coded = None if block is None else _Coded(block, media_sample)
            block = self._block = _Open(self._code, self._frame, media_sample)
            block.take(media_sample, payload)
        return None if self._coded is None else self._coded.symbols(media_sample, room)


class _Open:
    """A block that is being sent."""

    def __init__(self, code: Code, frame_samples: int, begin: int) -> None:
        self.code, self.frame_samples, self.begin = code, frame_samples, begin
        self.frames: list[bytes | None] = [None] * code.frames

    def take(self, media_sample: int, payload: bytes) -> bool:
        """Whether this frame is of the block; after a hole in the sound the next may be of none."""
        place, off = divmod(media_sample - self.begin, self.frame_samples)
        if off or place >= self.code.frames:
            return False
        self.frames[place] = payload
        return True


class _Coded:
    """A block that has been sent, and its symbols, which go along with the packets after it."""

    def __init__(self, block: _Open, after: int) -> None:
        self._begin, self._after, self._samples = block.begin, after, block.frame_samples
        self._places = block.code.frames
        self._sent = sum(1 << n for n, frame in enumerate(block.frames) if frame is not None)
        # In proportion: of what was not sent nothing can be lost.
        count = -(-block.code.symbols * self._sent.bit_count() // self._places)
        self._symbols = encode(block.frames, count)

    def symbols(self, media_sample: int, room: int) -> Symbols | None:
        """Those that go along with the frame that begins then."""
        offset = media_sample - self._begin
        if offset >= 2 * self._places * self._samples:
            return None  # after a pause: they would come too late
        place = (media_sample - self._after) // self._samples
        first = place * len(self._symbols) // self._places
        end = (place + 1) * len(self._symbols) // self._places
        length = len(self._symbols[0])
        fit = min((room - HEAD_BYTES) // length, MOST_IN_PACKET)
        data = self._symbols[first : min(end, first + max(fit, 0))]
        return Symbols(self._places, offset, self._sent, first, data) if data else None


class BlockReader:
    """Finds the frames of one stream that did not come, as soon as the symbols suffice.

    What it is given is the station's own, for it was signed. Even so it is bounded: it keeps the
    newest frames and the newest blocks, by the order in which they came.
    """

    def __init__(self, frame_samples: int) -> None:
        self._samples = frame_samples
        self._frames: dict[int, bytes] = {}
        self._blocks: dict[int, _Heard] = {}

    def take(self, media_sample: int, payload: bytes) -> list[tuple[int, bytes]]:
        """A frame came, however it did. Those that follow from it: when each begins, and it.

        MalformedPacket("symbols") if the symbols that are there are of other frames.
        """
        if media_sample in self._frames:
            return []
        self._keep(media_sample, payload)
        for begin, block in self._blocks.items():
            if 0 <= media_sample - begin < block.places * self._samples:
                return self._solve(begin, block)
        return []

    def hear(self, media_sample: int, symbols: Symbols) -> list[tuple[int, bytes]]:
        """Symbols came with the packet whose frame begins then. The frames that follow, likewise.

        MalformedPacket("symbols") for symbols that no block of this stream can have, too.
        """
        if symbols.offset % self._samples:
            raise MalformedPacket("symbols")
        begin = media_sample - symbols.offset
        block = self._blocks.get(begin)
        if block is None:
            block = self._blocks[begin] = _Heard(symbols)
            if len(self._blocks) > _BLOCKS_KEPT:
                del self._blocks[next(iter(self._blocks))]
        block.take(symbols)
        return self._solve(begin, block)

    def _keep(self, media_sample: int, payload: bytes) -> None:
        self._frames[media_sample] = payload
        if len(self._frames) > _FRAMES_KEPT:
            del self._frames[next(iter(self._frames))]

    def _solve(self, begin: int, block: "_Heard") -> list[tuple[int, bytes]]:
        if block.solved:
            return []
        starts = [begin + place * self._samples for place in range(block.places)]
        frames = [
            self._frames.get(start) if block.sent >> place & 1 else None
            for place, start in enumerate(starts)
        ]
        missing = block.sent.bit_count() - sum(frame is not None for frame in frames)
        if missing > len(block.symbols):
            return []
        block.solved = True
        found = decode(frames, block.sent, block.symbols) if missing else {}
        for place, payload in found.items():
            self._keep(starts[place], payload)
        return [(starts[place], payload) for place, payload in found.items()]


class _Heard:
    """A block as far as its symbols have come."""

    def __init__(self, symbols: Symbols) -> None:
        self.places, self.sent, self._length = symbols.places, symbols.sent, symbols.length
        self.symbols: dict[int, bytes] = {}
        self.solved = False

    def take(self, symbols: Symbols) -> None:
        """More of it; MalformedPacket("symbols") if these say something else of the block."""
        if (symbols.places, symbols.sent, symbols.length) != (self.places, self.sent, self._length):
            raise MalformedPacket("symbols")
        self.symbols.update(enumerate(symbols.data, symbols.first))
