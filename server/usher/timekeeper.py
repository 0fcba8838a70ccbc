"""Answers who asks for the time, with kernel receive stamps."""

import socket

from transport.clock.exchange import PACKET_BYTES, answer
from transport.errors import MalformedPacket
from transport.net.clocks import MediaClock
from transport.net.stamped import (
    ANCILLARY_BYTES,
    enable_stamps,
    realtime_stamp_ns,
    type_ancillary,
)
from transport.security.session_keys import open_time, seal_time, session_key, time_session

# A flood of requests must not keep the loop from fanning out.
_BATCH = 64
_MODE_CLIENT = 3


class TimeKeeper:
    """The station's side of the exchange: sealed for loudspeakers, plain for ordinary NTP clients.

    `secret` is the station's, of which the sessions' keys are derived.
    """

    def __init__(self, udp: socket.socket, clock: MediaClock, secret: bytes) -> None:
        enable_stamps(udp)
        self._udp = udp
        self._clock = clock
        self._secret = secret
        self.answers = 0
        self.malformed = 0
        self.refused = 0

    def serve(self) -> None:
        """Answer what waits, up to a batch; the selector calls again for the rest."""
        for _ in range(_BATCH):
            try:
                data, ancillary, _, address = self._udp.recvmsg(PACKET_BYTES * 2, ANCILLARY_BYTES)
            except OSError:  # nothing waits
                return
            # Rubbish is told by its length and first byte, before any clock is read.
            if len(data) < PACKET_BYTES or data[0] & 7 != _MODE_CLIENT:
                self.malformed += 1
                continue
            try:
                reply = self._reply(data, ancillary)
                self._udp.sendto(reply, address)
                self.answers += 1
            except MalformedPacket as error:
                if error.reason == "time_mac":
                    self.refused += 1
                else:
                    self.malformed += 1
            except OSError:
                pass  # this one cannot be reached; the next may

    def _reply(self, data: bytes, ancillary: type_ancillary) -> bytes:
        session = time_session(data)
        if session is None:
            return self._answer(data, ancillary)
        key = session_key(self._secret, session)
        return seal_time(self._answer(open_time(data, session, key), ancillary), session, key)

    def _answer(self, data: bytes, ancillary: type_ancillary) -> bytes:
        stamp_ns = realtime_stamp_ns(ancillary)
        received_ns = None if stamp_ns is None else self._clock.of_kernel_stamp(stamp_ns)
        # Read after the request's seal was checked: what is yet to do counts as the way back. The
        # answer's own seal takes 3 µs here, so a loudspeaker's clock is 1.6 µs behind by it.
        now_ns = self._clock.now_ns()
        return answer(data, min(received_ns or now_ns, now_ns), now_ns, self._clock.set_ns)
