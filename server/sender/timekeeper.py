"""Answers who asks for the time, with kernel receive stamps."""

import socket

from transport.clock.exchange import PACKET_BYTES, answer
from transport.errors import MalformedPacket
from transport.net.clocks import MediaClock
from transport.net.stamped import ANCILLARY_BYTES, enable_stamps, realtime_stamp_ns

# A flood of requests must not keep the loop from fanning out.
_BATCH = 64


class TimeKeeper:
    """The station's side of the exchange."""

    def __init__(self, udp: socket.socket, clock: MediaClock) -> None:
        enable_stamps(udp)
        self._udp = udp
        self._clock = clock
        self.answers = 0
        self.malformed = 0

    def serve(self) -> None:
        """Answer what waits, up to a batch; the selector calls again for the rest."""
        for _ in range(_BATCH):
            try:
                data, ancillary, _, address = self._udp.recvmsg(PACKET_BYTES * 2, ANCILLARY_BYTES)
            except OSError:  # nothing waits
                return
            stamp_ns = realtime_stamp_ns(ancillary)
            received_ns = None if stamp_ns is None else self._clock.of_kernel_stamp(stamp_ns)
            try:
                now_ns = self._clock.now_ns()
                reply = answer(data, min(received_ns or now_ns, now_ns), now_ns, self._clock.set_ns)
                self._udp.sendto(reply, address)
                self.answers += 1
            except MalformedPacket:
                self.malformed += 1
            except OSError:
                pass  # this one cannot be reached; the next may
