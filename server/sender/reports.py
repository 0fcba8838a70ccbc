"""What receivers report by RTCP (RFC 3550 section 6.4.2). Pure."""

from collections import OrderedDict

from transport.errors import MalformedPacket
from transport.rtp.rtcp import Bye, ReceiverReport, parse_compound

_CAPACITY = 20_000
_FORGET_NS = 30_000_000_000


# A receiver, and the sources it reports on.
_Of = tuple[int, tuple[int, ...]]


class ReceptionLog:
    """The newest report of each receiver on each stream, bounded in number and age."""

    def __init__(self) -> None:
        self._newest: OrderedDict[_Of, tuple[int, float]] = OrderedDict()
        self.malformed = 0

    def receive(self, data: bytes, now_ns: int) -> None:
        """One compound packet from anybody."""
        try:
            packets = parse_compound(data)
        except MalformedPacket:
            self.malformed += 1
            return
        for packet in packets:
            if isinstance(packet, ReceiverReport):
                worst = max((block.fraction_lost for block in packet.reports), default=0)
                of = (packet.ssrc, tuple(block.ssrc for block in packet.reports))
                self._newest[of] = (now_ns, worst / 256)
                self._newest.move_to_end(of)
            elif isinstance(packet, Bye):
                for of in [of for of in self._newest if of[0] in packet.ssrcs]:
                    del self._newest[of]
        while len(self._newest) > _CAPACITY:
            self._newest.popitem(last=False)

    def summary(self, now_ns: int) -> tuple[int, float]:
        """How many receivers reported lately, and the worst fraction lost among them."""
        while self._newest and next(iter(self._newest.values()))[0] < now_ns - _FORGET_NS:
            self._newest.popitem(last=False)
        receivers = len({receiver for receiver, _ in self._newest})
        return receivers, max((lost for _, lost in self._newest.values()), default=0.0)
