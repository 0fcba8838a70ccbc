"""Keeps asking the station for its time."""

import secrets
from collections.abc import Callable
from contextlib import suppress

import trio

from transport.clock.estimator import ClockEstimate, ClockEstimator
from transport.clock.exchange import PACKET_BYTES, ExchangeClient
from transport.errors import MalformedPacket
from transport.net.clocks import Clock
from transport.net.stamped import ANCILLARY_BYTES, enable_stamps, realtime_stamp_ns, udp_socket

_BURST = 8
_BURST_PAUSE_S = 0.03
_PAUSE_S = 0.5
# After a minute the skew is known, and half the questions do.
_LATER_PAUSE_S = 1.0
_SETTLED_EXCHANGES = 100


class TimeSync:
    """One UDP socket, one estimator. The estimate outlives the connection to the station."""

    def __init__(self, clock: Clock, clock_changed: Callable[[], None]) -> None:
        self._clock = clock
        self._clock_changed = clock_changed
        self._client = ExchangeClient(lambda: secrets.randbits(64))
        self._estimator = ClockEstimator()
        # On every address: answers are matched by nonce, not by where they come in.
        udp = udp_socket("0.0.0.0", 0)  # noqa: S104
        enable_stamps(udp)
        self._socket = trio.socket.from_stdlib_socket(udp)
        self._server: tuple[str, int] | None = None
        self._burst_left = 0
        self._hurry = trio.Event()
        self.malformed = 0

    @property
    def estimate(self) -> ClockEstimate | None:
        """The newest knowledge of the media clock; None before the first burst."""
        return self._estimator.estimate

    def ask(self, address: str, port: int) -> None:
        """The station is there: begin with a burst."""
        self._server = (address, port)
        self._begin_burst()

    def _begin_burst(self) -> None:
        self._burst_left = _BURST
        self._hurry.set()

    async def run(self) -> None:
        """Ask and listen until cancelled; the socket is closed then."""
        with self._socket:
            await self._run()

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_for_ever)
            nursery.start_soon(self._listen_for_ever)

    async def _ask_for_ever(self) -> None:
        while True:
            if self._server is not None:
                await self._ask_once(self._server)
            with trio.move_on_after(self._pause_s()):
                await self._hurry.wait()
            self._hurry = trio.Event()

    def _pause_s(self) -> float:
        if self._burst_left > 0:
            self._burst_left -= 1
            return _BURST_PAUSE_S
        settled = self._estimator.exchanges > _SETTLED_EXCHANGES
        return _LATER_PAUSE_S if settled else _PAUSE_S

    async def _ask_once(self, server: tuple[str, int]) -> None:
        nonce, packet = self._client.request()
        self._client.sent(nonce, self._clock.now_ns())
        with suppress(OSError):  # no route just now; the next question may find one
            await self._socket.sendto(packet, server)

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = await self._socket.recvmsg(
                    PACKET_BYTES * 2, ANCILLARY_BYTES
                )
            except OSError:  # an earlier question met a closed port
                continue
            self._receive(data, realtime_stamp_ns(ancillary))

    def _receive(self, data: bytes, stamp_ns: int | None) -> None:
        arrival_ns = (
            self._clock.now_ns() if stamp_ns is None else self._clock.of_kernel_stamp(stamp_ns)
        )
        if arrival_ns is None:
            return  # the wall clock was stepped meanwhile
        try:
            exchange = self._client.receive(data, arrival_ns)
        except MalformedPacket:
            self.malformed += 1
            return
        if self._estimator.add(exchange):
            self._clock_changed()
            self._begin_burst()
        elif self._estimator.in_doubt and not self._burst_left:
            self._begin_burst()  # to know in a moment whether a clock has been stepped
