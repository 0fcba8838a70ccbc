"""The media clock, as a live source knows it: the same exchange as a loudspeaker's, blocking."""

import secrets
import socket
import threading
import time

from server.live.station import LiveError
from transport.clock.estimator import ClockEstimate, ClockEstimator
from transport.clock.exchange import PACKET_BYTES, ExchangeClient
from transport.control.address import StationAddress
from transport.errors import MalformedPacket
from transport.net.clocks import HostClock
from transport.net.stamped import (
    ANCILLARY_BYTES,
    enable_stamps,
    family_of,
    realtime_stamp_ns,
)

_BURST = 8
_PAUSE_S = 0.5
_ANSWER_S = 0.5
_TRIES = 24


class SourceClock:
    """Asks a burst, then twice a second on a thread of its own."""

    def __init__(self, address: str, port: int) -> None:
        """The station's time port at an IP address or a name; LiveError if nobody answers."""
        self._host = HostClock()
        self._client = ExchangeClient(lambda: secrets.randbits(64))
        self._estimator = ClockEstimator()
        self._udp = socket.socket(family_of(address), socket.SOCK_DGRAM)
        enable_stamps(self._udp)
        self._udp.settimeout(_ANSWER_S)
        self._server = (address, port)
        for _ in range(_TRIES):
            self._exchange()
            if self._estimator.exchanges >= _BURST:
                break
        if self._estimator.estimate is None:
            self._udp.close()
            where = StationAddress(address, port).text
            raise LiveError(f"the station's clock at {where} (UDP) does not answer")
        self._over = threading.Event()
        threading.Thread(target=self._follow, daemon=True).start()

    def close(self) -> None:
        """Ask no more; what is known holds on."""
        self._over.set()

    def now_ns(self) -> int:
        """Media time."""
        return self._known().theirs(self._host.now_ns())

    def own_ns(self, media_ns: int) -> int:
        """This machine's CLOCK_BOOTTIME at a media time."""
        return self._known().ours(media_ns)

    def sleep_until(self, media_ns: int) -> None:
        """Return at `media_ns`, or at once if that is past."""
        time.sleep(max(media_ns - self.now_ns(), 0) / 1e9)

    def _known(self) -> ClockEstimate:
        estimate = self._estimator.estimate
        if estimate is None:
            # The station's clock changed a moment ago: it has been restarted.
            raise LiveError("the station was restarted; its programme is over")
        return estimate

    def _follow(self) -> None:
        with self._udp:
            while not self._over.wait(_PAUSE_S):
                self._exchange()

    def _exchange(self) -> None:
        nonce, packet = self._client.request()
        self._client.sent(nonce, self._host.now_ns())
        try:
            self._udp.sendto(packet, self._server)
            data, ancillary, _, _ = self._udp.recvmsg(PACKET_BYTES * 2, ANCILLARY_BYTES)
        except OSError:
            return  # lost, or nobody there; the next question will tell
        stamp_ns = realtime_stamp_ns(ancillary)
        arrival_ns = None if stamp_ns is None else self._host.of_kernel_stamp(stamp_ns)
        try:
            exchange = self._client.receive(data, arrival_ns or self._host.now_ns())
        except MalformedPacket:
            return
        self._estimator.add(exchange)
