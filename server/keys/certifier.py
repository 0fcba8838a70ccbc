"""Certificates of streams: which key may speak on which, and how loud a claim it may make. Pure."""

from collections import OrderedDict

from server.processes.bus import StreamOrder, StreamReport
from transport.security.certificates import StreamCertificate
from transport.security.keys import SigningKey

# Every stream of as many programmes as there may be, three times over.
_KEPT = 512


class Certifier:
    """Signs each stream's certificate once, with the station's key; no loudspeaker costs another.

    A new one is made when the station's key or its generation is another.
    """

    def __init__(self, station: SigningKey, generation: int) -> None:
        self._station = station
        self._generation = generation
        self._made: OrderedDict[tuple[int, bytes, int, bool], bytes] = OrderedDict()

    def certificate(
        self, order: StreamOrder, report: StreamReport, priority: int, test: bool
    ) -> bytes:
        """That the key the producer drew may speak in this stream, up to this priority."""
        wanted = order.serial, report.public, priority, test
        made = self._made.get(wanted)
        if made is None:
            certificate = StreamCertificate.issue(self._station, self._generation, *wanted)
            made = self._made[wanted] = certificate.serialise()
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return made
