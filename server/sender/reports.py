"""What receivers report by RTCP (RFC 3550 section 6.4.2). Pure."""

from collections import OrderedDict

from transport.errors import MalformedPacket
from transport.rtp.rtcp import Bye, ReceiverReport, parse_compound

_CAPACITY = 20_000
_FORGET_NS = 30_000_000_000


class ReceptionLog:
    """The newest report of each receiver, bounded in number and age."""

    def __init__(self) -> None:
        self._newest: OrderedDict[int, tuple[int, float]] = OrderedDict()
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
                self._newest[packet.ssrc] = (now_ns, worst / 256)
                self._newest.move_to_end(packet.ssrc)
            elif isinstance(packet, Bye):
                for ssrc in packet.ssrcs:
                    self._newest.pop(ssrc, None)
        while len(self._newest) > _CAPACITY:
            self._newest.popitem(last=False)

    def summary(self, now_ns: int) -> tuple[int, float]:
        """How many receivers reported lately, and the worst fraction lost among them."""
        while self._newest and next(iter(self._newest.values()))[0] < now_ns - _FORGET_NS:
            self._newest.popitem(last=False)
        return len(self._newest), max((lost for _, lost in self._newest.values()), default=0.0)
