"""Answers who asks for the time, with kernel receive stamps."""

import socket

from transport.clock.exchange import PACKET_BYTES, answer
from transport.errors import MalformedPacket
from transport.net.clocks import MediaClock
from transport.net.received import ReceivedBatch
from transport.security.session_keys import open_time, seal_time, session_key, time_session

# A flood of requests must not keep the loop from what else it has to do.
_BATCH = 64
_MODE_CLIENT = 3


class TimeKeeper:
    """The station's side of the exchange: sealed for loudspeakers, plain for ordinary NTP clients.

    `secret` is the station's, of which the sessions' keys are derived. Questions are read many at
    a time; each answer leaves by itself, for the time in it is that of its leaving.
    """

    def __init__(self, udp: socket.socket, clock: MediaClock, secret: bytes) -> None:
        self._udp = udp
        self._questions = ReceivedBatch(udp, _BATCH, PACKET_BYTES * 2, overflow=True)
        self._clock = clock
        self._secret = secret
        self.answers = 0
        self.malformed = 0
        self.refused = 0

    @property
    def dropped(self) -> int:
        """Questions that the kernel had no room for."""
        return self._questions.dropped

    def serve(self) -> None:
        """Answer what waits, up to a batch; the selector calls again for the rest."""
        questions = self._questions
        count = questions.receive()
        for number in range(count):
            data = questions.data[number, : questions.lengths[number]].tobytes()
            # Rubbish is told by its length and first byte, before any clock is read.
            if len(data) < PACKET_BYTES or data[0] & 7 != _MODE_CLIENT:
                self.malformed += 1
                continue
            try:
                reply = self._reply(data, int(questions.stamps_ns[number]))
                self._udp.sendto(reply, questions.sources[number])
                self.answers += 1
            except MalformedPacket as error:
                if error.reason == "time_mac":
                    self.refused += 1
                else:
                    self.malformed += 1
            except OSError:
                pass  # this one cannot be reached; the next may

    def _reply(self, data: bytes, stamp_ns: int) -> bytes:
        session = time_session(data)
        if session is None:
            return self._answer(data, stamp_ns)
        key = session_key(self._secret, session)
        return seal_time(self._answer(open_time(data, session, key), stamp_ns), session, key)

    def _answer(self, data: bytes, stamp_ns: int) -> bytes:
        # Each by itself: what was stamped before a step of the wall clock is refused, and more than
        # one of a batch may have been.
        received_ns = self._clock.of_kernel_stamp(stamp_ns) if stamp_ns else None
        # Read after the request's seal was checked: what is yet to do counts as the way back. The
        # answer's own seal takes 3 µs here, so a loudspeaker's clock is 1.6 µs behind by it.
        now_ns = self._clock.now_ns()
        return answer(data, min(received_ns or now_ns, now_ns), now_ns, self._clock.set_ns)
