"""What of the station's sound reached which loudspeaker, and how late. Sans-I/O.

Datagrams come in batches, as rows of arrays, for a process that is thousands of loudspeakers has
no time to look at each. Each frame is opened and verified once, as a loudspeaker would; every
other copy of it must be the same to the bit.
"""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from codec.errors import CorruptPacket
from codec.opus import packet_samples
from endpoints.fleet.figures import Details, Heard, Histogram
from endpoints.fleet.streams import NEVER_NS, Frame, Stream, Streams
from transport.clock.timeline import NS_PER_MS, NS_PER_SECOND, ns_of_samples, samples_of_ns
from transport.control.messages import StreamSpec
from transport.errors import MalformedPacket

Rows = NDArray[np.uint8]
Times = NDArray[np.int64]
HEADER_BYTES = 12
# So long after its first copy nobody waits for a frame: more than any queue on the way holds.
SETTLED_NS = 2 * NS_PER_SECOND
# What was under way when one turned deaf, or was so no more, counts only if it came.
_ABOUT_NS = NS_PER_SECOND // 5
_FORGOTTEN_NS = 5 * NS_PER_SECOND
# How many unlike copies of one frame are tried, for which of them is the station's.
_TRIES = 4


class _Second:
    """What came of one second of media: who, how long it took, and each one's least."""

    def __init__(self, count: int, now_ns: int) -> None:
        self.began_ns = now_ns
        self._least = np.full(count, NEVER_NS, np.int64)
        self._parts: list[tuple[Times, Times]] = []

    def add(self, indices: Times, transits_ns: Times) -> None:
        self._parts.append((indices, transits_ns))
        np.minimum.at(self._least, indices, transits_ns)

    def lateness_ns(self) -> list[Times]:
        """By how much each took longer than the quickest to the same loudspeaker."""
        return [transits - self._least[indices] for indices, transits in self._parts]


class Judge:
    """Counts what came since `begin`; loudspeakers are numbered from 0.

    All times are of this machine's clock, in nanoseconds.
    """

    def __init__(self, count: int) -> None:
        """Of so many loudspeakers."""
        self._count = count
        self.streams = Streams(count)
        # The media clock minus ours, as each loudspeaker has learnt it; NEVER_NS before.
        self._ahead_ns = np.full(count, NEVER_NS, np.int64)
        self._deaf = np.zeros(count, np.bool_)
        self._deaf_since_ns = np.zeros(count, np.int64)
        self._deaf_until_ns = np.zeros(count, np.int64)
        self._last_ns = np.zeros(count, np.int64)
        self.packets = np.zeros(count, np.int64)
        self._waiting: deque[Frame] = deque()
        self.begin(0)

    # ------------------------------------------------------------- what the members say
    def listens(
        self,
        index: int,
        specs: tuple[StreamSpec, ...],
        now_ns: int,
        unicast_ns: int | None,
        group_ns: int,
    ) -> None:
        """To exactly these from now on: see `endpoints.fleet.member.World`.

        MalformedPacket("certificate") if the station did not certify one; the others count.
        """
        wanted, fault = set(), None
        for spec in specs:
            try:
                stream = self.streams.declare(spec)
            except MalformedPacket as error:
                fault = error
                continue
            wanted.add(stream)
            since_ns = unicast_ns if spec.group is None else group_ns
            if since_ns is not None:
                stream.begin(index, since_ns)
        for stream in self.streams:
            if stream not in wanted:
                stream.end(index, now_ns)
        if fault is not None:
            raise fault

    def learn(self, index: int, ahead_ns: int | None) -> None:
        """By how much the media clock is ahead of ours; None if that is not known any more."""
        self._ahead_ns[index] = NEVER_NS if ahead_ns is None else ahead_ns

    def deafen(self, index: int, now_ns: int, *, deaf: bool) -> None:
        """This one hears nothing for as long as it is deaf, and nobody blames the station."""
        self._deaf[index] = deaf
        self._last_ns[index] = 0
        if deaf:
            self._deaf_since_ns[index] = now_ns - _ABOUT_NS
        self._deaf_until_ns[index] = NEVER_NS if deaf else now_ns + _ABOUT_NS

    def heard_at(self) -> Times:
        """When each last heard anything; 0 for never."""
        return self._last_ns

    # ------------------------------------------------------------- the window
    def begin(self, now_ns: int) -> None:
        """Measure from here on."""
        for frame in self._waiting:
            frame.counted = False
        self._expected = self._received = self._duplicate = 0
        self._corrupt = self._stray = self._too_late = 0
        self._late, self._transit = Histogram(), Histogram()
        self._seconds: dict[int, _Second] = {}
        self._longest_ns = np.zeros(self._count, np.int64)
        self._last_ns[self._last_ns > 0] = now_ns

    def settle(self, now_ns: int) -> None:
        """Judge what nobody waits for any more; a few times a second."""
        while self._waiting and self._waiting[0].first_ns + SETTLED_NS < now_ns:
            self._judge(self._waiting.popleft())
        # A second is complete when the last of its frames is.
        for number, second in list(self._seconds.items()):
            if second.began_ns + NS_PER_SECOND + SETTLED_NS < now_ns:
                self._close(number)
        self.streams.forget(now_ns - _FORGOTTEN_NS)

    def _close(self, number: int) -> None:
        for late in self._seconds.pop(number).lateness_ns():
            self._late.add(late)

    def _judge(self, frame: Frame) -> None:
        del frame.track.frames[frame.sequence]
        if not frame.counted:
            return
        got = frame.copies > 0
        deaf = self._deaf_since_ns <= frame.first_ns
        deaf &= frame.first_ns < self._deaf_until_ns
        due = (frame.stream.due(frame.first_ns) & ~deaf) | got
        received = int(np.count_nonzero(got))
        self._received += received
        self._expected += int(np.count_nonzero(due))
        self._duplicate += int(frame.copies.sum(dtype=np.int64)) - received

    # ------------------------------------------------------------- what comes
    def take(self, indices: Times, data: Rows, lengths: Times, arrivals_ns: Times) -> None:
        """RTP datagrams: for whom (n,), bytes (n, size), how many of them (n,), when (n,).

        An index below 0 is of nobody here.
        """
        hears = (indices >= 0) & ~self._deaf[indices] & (lengths >= HEADER_BYTES)
        if not hears.all():
            indices, lengths, arrivals_ns = indices[hears], lengths[hears], arrivals_ns[hears]
            data = data[hears]
        if not len(indices):
            return
        words = np.ascontiguousarray(data[:, :HEADER_BYTES]).view(">u4").astype(np.int64)
        # SSRC and sequence number: which frame it is (RFC 3550 section 5.1).
        keys = words[:, 2] << 16 | words[:, 0] & 0xFFFF
        if (keys == keys[0]).all():  # nearly always, where there are thousands
            self._take_copies(int(keys[0]), indices, data, lengths, arrivals_ns)
            return
        for key in dict.fromkeys(keys.tolist()):
            of_it = keys == key
            self._take_copies(key, indices[of_it], data[of_it], lengths[of_it], arrivals_ns[of_it])

    def _take_copies(
        self, key: int, indices: Times, data: Rows, lengths: Times, arrivals_ns: Times
    ) -> None:
        """Copies of one frame, or what says to be that."""
        stream = self.streams.by_wire(key >> 16)
        if stream is None or stream.is_past(key >> 16, key & 0xFFFF):
            self._stray += len(indices)
            return
        frame = stream.found(key >> 16, key & 0xFFFF)
        if frame is None or frame.datagram is None:
            frame = self._first_of(stream, key, indices, data, lengths, arrivals_ns)
        if frame is None or frame.datagram is None:
            self._corrupt += len(indices)
            return
        good = _equal(frame.datagram, data, lengths)
        if not good.all():
            self._corrupt += len(good) - int(np.count_nonzero(good))
            indices, arrivals_ns = indices[good], arrivals_ns[good]
        np.add.at(frame.copies, indices, 1)
        self._note(indices, arrivals_ns)
        np.minimum.at(stream.since_ns, indices, arrivals_ns)
        if frame.counted:
            self._time(frame, indices, arrivals_ns)

    def _first_of(
        self,
        stream: Stream,
        key: int,
        indices: Times,
        data: Rows,
        lengths: Times,
        arrivals_ns: Times,
    ) -> Frame | None:
        """The frame with what the station sent, if that is among these rows."""
        ssrc, sequence = key >> 16, key & 0xFFFF
        left = np.arange(len(data))
        for _ in range(_TRIES):
            if not len(left):
                break
            row = int(left[0])
            original, arrival_ns = data[row, : lengths[row]].copy(), int(arrivals_ns[row])
            media_ns = self._verify(stream, original, int(indices[row]), arrival_ns)
            if media_ns is None:
                left = left[~_equal(original, data[left], lengths[left])]
                continue
            frame = stream.found(ssrc, sequence)
            if frame is None:
                shown = stream.shown(ssrc, sequence, int(arrivals_ns[0]))
                self._waiting.extend(shown)
                frame = shown[-1]
            frame.datagram, frame.media_ns = original, media_ns
            return frame
        return None

    def _verify(self, stream: Stream, original: Rows, index: int, arrival_ns: int) -> int | None:
        """The media time of a datagram that is the station's, in ns; None if it is not."""
        ahead_ns = self._ahead_of(index)
        if ahead_ns is None:
            return None
        try:
            opened = stream.opener.open(original.tobytes(), samples_of_ns(arrival_ns + ahead_ns))
            packet_samples(opened.packet.payload)
        except (MalformedPacket, CorruptPacket):
            return None
        return ns_of_samples(opened.media_sample)

    def _ahead_of(self, index: int) -> int | None:
        """The media clock as this loudspeaker knows it, or else as anybody does."""
        if self._ahead_ns[index] == NEVER_NS:
            index = int(np.argmin(self._ahead_ns))
        ahead_ns = int(self._ahead_ns[index])
        return None if ahead_ns == NEVER_NS else ahead_ns

    def _note(self, indices: Times, arrivals_ns: Times) -> None:
        """Who has heard something, and after how long a silence."""
        np.add.at(self.packets, indices, 1)
        last_ns = self._last_ns[indices]
        gaps_ns = np.where(last_ns > 0, arrivals_ns - last_ns, 0)
        np.maximum.at(self._longest_ns, indices, gaps_ns)
        np.maximum.at(self._last_ns, indices, arrivals_ns)

    def _time(self, frame: Frame, indices: Times, arrivals_ns: Times) -> None:
        number = frame.media_ns // NS_PER_SECOND
        second = self._seconds.get(number)
        if second is None:
            second = self._seconds[number] = _Second(self._count, int(arrivals_ns[0]))
        since_media_ns = arrivals_ns - frame.media_ns
        second.add(indices, since_media_ns)
        known = self._ahead_ns[indices]
        transits_ns = (since_media_ns + known)[known != NEVER_NS]
        self._transit.add(transits_ns)
        self._too_late += int(np.count_nonzero(transits_ns > frame.stream.delay_ns))

    # ------------------------------------------------------------- figures
    def heard(self) -> Heard:
        """Of all frames that are judged, and the times of all that came."""
        return Heard(
            expected=self._expected,
            received=self._received,
            lost=self._expected - self._received,
            duplicate=self._duplicate,
            corrupt=self._corrupt,
            stray=self._stray,
            too_late=self._too_late,
            late_p50_ms=self._late.at_most_ms(0.5),
            late_p99_ms=self._late.at_most_ms(0.99),
            late_max_ms=self._late.most_ms,
            transit_p50_ms=self._transit.at_most_ms(0.5),
            transit_p99_ms=self._transit.at_most_ms(0.99),
            longest_gap_ms=float(self._gaps_ns().max(initial=0)) / NS_PER_MS,
        )

    def details(self) -> Details:
        """What `heard` is made of."""
        gaps_ms = np.round(self._gaps_ns() / NS_PER_MS, 3).tolist()
        return Details(self._late.rows(), self._transit.rows(), gaps_ms)

    def _gaps_ns(self) -> Times:
        """The longest silence of each, the last included, if others have heard more since."""
        listens = np.zeros(self._count, np.bool_)
        for stream in self.streams:
            listens |= stream.until_ns == NEVER_NS
        open_ns = np.where(listens & (self._last_ns > 0), self._last_ns.max() - self._last_ns, 0)
        return np.maximum(self._longest_ns, open_ns)


def _equal(original: Rows, data: Rows, lengths: Times) -> NDArray[np.bool_]:
    """Which rows are `original`, to the bit."""
    size = len(original)
    same: NDArray[np.bool_] = (data[:, :size] == original).all(axis=1) & (lengths == size)
    return same
