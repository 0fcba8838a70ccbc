"""What receivers report by RTCP (RFC 3550 section 6.4.2). Pure."""

from collections import OrderedDict
from dataclasses import dataclass, field

from transport.errors import MalformedPacket
from transport.rtp.rtcp import Bye, ReceiverReport, parse_compound

# Anybody may send reports. RFC 3550 section 6.3 gives all receivers of a stream together some three
# reports a second, so of honest ones a hundred are heard of within what is remembered.
CAPACITY = 1_000
# A report on 15 streams; a longer one takes as long to read as 20 of the usual.
MAX_REPORT = 512
# And of strangers' words only so many are read, for they are figures and the rest is sound.
MOST_READ = 50
READ_WITHIN_NS = 100_000_000
_FORGET_NS = 30_000_000_000
# Streams that one receiver reports on.
_MAX_STREAMS = 32
# Compounds begin with a sender's or a receiver's report: the rest is not worth parsing.
_TYPES = frozenset({200, 201})


@dataclass(slots=True)
class _Receiver:
    """The newest report on each set of sources: when, and the worst fraction lost among them."""

    heard_ns: int = 0
    newest: dict[tuple[int, ...], tuple[int, float]] = field(default_factory=dict)

    def hear(self, sources: tuple[int, ...], now_ns: int, worst: float) -> None:
        self.heard_ns = now_ns
        self.newest.pop(sources, None)
        self.newest[sources] = (now_ns, worst)
        if len(self.newest) > _MAX_STREAMS:
            del self.newest[next(iter(self.newest))]

    def worst_since(self, since_ns: int) -> float:
        return max((worst for at, worst in self.newest.values() if at >= since_ns), default=0.0)


class ReceptionLog:
    """The newest reports of each receiver, bounded in number, age and what reading them costs.

    `refused` counts those that came faster than they are read.
    """

    def __init__(self) -> None:
        self._receivers: OrderedDict[int, _Receiver] = OrderedDict()
        self._read = 0
        self._since_ns = 0
        self.malformed = 0
        self.refused = 0

    def receive(self, data: bytes, now_ns: int) -> None:
        """One compound packet from anybody."""
        if not 8 <= len(data) <= MAX_REPORT or data[1] not in _TYPES or data[0] >> 6 != 2:
            self.malformed += 1
            return
        if not self._has_time(now_ns):
            self.refused += 1
            return
        try:
            packets = parse_compound(data)
        except MalformedPacket:
            self.malformed += 1
            return
        for packet in packets:
            if isinstance(packet, ReceiverReport):
                self._hear(packet, now_ns)
            elif isinstance(packet, Bye):
                for ssrc in packet.ssrcs:
                    self._receivers.pop(ssrc, None)

    def _has_time(self, now_ns: int) -> bool:
        if now_ns - self._since_ns >= READ_WITHIN_NS:
            self._since_ns, self._read = now_ns, 0
        self._read += 1
        return self._read <= MOST_READ

    def _hear(self, report: ReceiverReport, now_ns: int) -> None:
        receiver = self._receivers.pop(report.ssrc, None) or _Receiver()
        self._receivers[report.ssrc] = receiver
        worst = max((block.fraction_lost for block in report.reports), default=0)
        receiver.hear(tuple(block.ssrc for block in report.reports), now_ns, worst / 256)
        if len(self._receivers) > CAPACITY:
            self._receivers.popitem(last=False)

    def summary(self, now_ns: int) -> tuple[int, float]:
        """How many receivers reported lately, and the worst fraction lost among them."""
        since_ns = now_ns - _FORGET_NS
        while self._receivers and next(iter(self._receivers.values())).heard_ns < since_ns:
            self._receivers.popitem(last=False)
        lost = (receiver.worst_since(since_ns) for receiver in self._receivers.values())
        return len(self._receivers), max(lost, default=0.0)
