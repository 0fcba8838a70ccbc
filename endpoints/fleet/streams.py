"""The streams that the fleet listens to: opened once for all, and who listens since when."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from transport.clock.timeline import NS_PER_MS
from transport.control.messages import StreamSpec
from transport.errors import MalformedPacket
from transport.security.keys import VerifyKey
from transport.security.sealing import StreamOpener
from transport.session.receiver import ClearOpener, Opener

# Neither begun nor ended: no time of any clock.
NEVER_NS = 1 << 62
# More missing in a row than this is another beginning, not a loss.
_MOST_MISSING = 1_000


@dataclass(slots=True)
class Frame:
    """One datagram, and which loudspeakers had how many copies of it.

    `first_ns` is when the first copy came to any of them, or when its successor showed that there
    must have been one. `datagram` is what the station sent, once it has been verified.
    """

    stream: "Stream"
    track: "Track"
    sequence: int
    first_ns: int
    copies: NDArray[np.uint8]
    counted: bool = True
    datagram: NDArray[np.uint8] | None = None
    media_ns: int = 0


@dataclass(slots=True)
class Track:
    """One SSRC on the wire: frames that are not judged yet, and how far it has come."""

    highest: int | None = None
    frames: dict[int, Frame] = field(default_factory=dict)


class Stream:
    """One programme's stream, by what it is known by. Arrays have an element a loudspeaker."""

    def __init__(self, spec: StreamSpec, opener: Opener, count: int) -> None:
        self.spec = spec
        self.opener = opener
        self.since_ns = np.full(count, NEVER_NS, np.int64)
        self.until_ns = np.zeros(count, np.int64)
        self._count = count
        self._tracks: dict[int, Track] = {}

    @property
    def delay_ns(self) -> int:
        """D."""
        return round(self.spec.playout_delay_ms * NS_PER_MS)

    def due(self, at_ns: int) -> NDArray[np.bool_]:
        """Who should hear what was sent at `at_ns`."""
        return (self.since_ns <= at_ns) & (at_ns < self.until_ns)

    def begin(self, index: int, since_ns: int) -> None:
        """This one listens, and should hear everything from `since_ns` on, or its first packet.

        Whoever listens already goes on as before.
        """
        if self.until_ns[index] < NEVER_NS:
            self.since_ns[index] = since_ns
            self.until_ns[index] = NEVER_NS

    def end(self, index: int, now_ns: int) -> None:
        """This one listens no more."""
        self.until_ns[index] = min(int(self.until_ns[index]), now_ns)

    def is_over(self, now_ns: int) -> bool:
        """Whether nobody has listened since `now_ns`."""
        return bool(self.until_ns.max() < now_ns)

    def found(self, ssrc: int, sequence: int) -> Frame | None:
        """The frame of a datagram, if it is known of and not judged yet."""
        track = self._tracks.get(ssrc)
        return None if track is None else track.frames.get(sequence)

    def is_past(self, ssrc: int, sequence: int) -> bool:
        """Whether it was judged already, or is older than anything that was heard."""
        track = self._tracks.get(ssrc)
        if track is None or track.highest is None or sequence > track.highest:
            return False
        return sequence not in track.frames

    def shown(self, ssrc: int, sequence: int, now_ns: int) -> list[Frame]:
        """The frames that a new sequence number shows there to be: what is missing, and its own."""
        track = self._tracks.get(ssrc)
        if track is None:
            # An epoch begins at sequence 0, which somebody should have heard if anybody listened.
            track = Track(-1 if self._tracks else None)
            self._tracks[ssrc] = track
        first = sequence if track.highest is None else track.highest + 1
        if sequence - first > _MOST_MISSING:
            first = sequence
        track.highest = sequence
        frames = [
            Frame(self, track, number, now_ns, np.zeros(self._count, np.uint8))
            for number in range(first, sequence + 1)
        ]
        track.frames.update((frame.sequence, frame) for frame in frames)
        return frames


class Streams:
    """All that are declared to anybody of the fleet."""

    def __init__(self, count: int) -> None:
        """Of so many loudspeakers."""
        self._count = count
        self._station: tuple[VerifyKey, int] | None = None
        self._known: dict[int, Stream] = {}
        self._by_wire: dict[int, Stream] = {}

    def trust(self, station: VerifyKey, generation: int) -> None:
        """Whose certificates hold from now on."""
        self._station = (station, generation)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._known.values())

    def by_wire(self, ssrc: int) -> Stream | None:
        """The stream whose packets bear this SSRC."""
        return self._by_wire.get(ssrc)

    def declare(self, spec: StreamSpec) -> Stream:
        """The stream of a spec, which may have other epochs than before.

        MalformedPacket("certificate") if the station did not certify it.
        """
        stream = self._known.get(spec.ssrc)
        if stream is not None and stream.spec == spec:
            return stream
        if stream is None or not _is_same(stream.spec, spec):
            stream = Stream(spec, self._opener(spec), self._count)
            self._known[spec.ssrc] = stream
        elif isinstance(stream.opener, StreamOpener) and spec.seal != stream.spec.seal:
            if self._station is None:
                raise MalformedPacket("certificate")
            stream.opener.declare(spec, *self._station)
        stream.spec = spec
        # Their own packets alone: nobody here asks for repairs, which are numbered as they are.
        own = (e.ssrc for e in spec.seal.epochs) if spec.seal is not None else (spec.ssrc,)
        self._by_wire.update(dict.fromkeys(own, stream))
        return stream

    def _opener(self, spec: StreamSpec) -> Opener:
        if spec.seal is None:
            return ClearOpener(spec)
        if self._station is None:
            raise MalformedPacket("certificate")
        return StreamOpener(spec, *self._station)

    def forget(self, now_ns: int) -> None:
        """What nobody has listened to since `now_ns` is gone."""
        over = [ssrc for ssrc, stream in self._known.items() if stream.is_over(now_ns)]
        for ssrc in over:
            stream = self._known.pop(ssrc)
            self._by_wire = {s: other for s, other in self._by_wire.items() if other is not stream}


def _is_same(spec: StreamSpec, other: StreamSpec) -> bool:
    """But for epochs, and for what differs from one loudspeaker to another."""

    def bare(of: StreamSpec) -> StreamSpec:
        return replace(of, seal=None, group=None, port=None, playout_delay_ms=1.0, priority=0)

    return bare(spec) == bare(other)
