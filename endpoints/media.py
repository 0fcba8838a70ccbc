"""The loudspeaker's media sockets: one for unicast, two for each multicast group."""

from collections.abc import Callable
from contextlib import suppress

import trio

from endpoints.player import Player
from transport.control.messages import Listen
from transport.net.clocks import Clock
from transport.net.stamped import MAX_DATAGRAM, multicast_socket, udp_socket
from transport.session.sender import report_pause_ns

_DISTURBED_S = 0.05


class Media:
    """Feeds datagrams to the player, and sends its reports."""

    def __init__(self, player: Player, clock: Clock, uniform: Callable[[], float]) -> None:
        self._player = player
        self._clock = clock
        self._uniform = uniform
        self._unicast = trio.socket.from_stdlib_socket(udp_socket("0.0.0.0", 0))  # noqa: S104
        self._groups: dict[tuple[str, int], trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        self._report_to: tuple[str, int] | None = None

    @property
    def port(self) -> int:
        """Where unicast is wanted."""
        return int(self._unicast.getsockname()[1])

    def report_to(self, address: str, port: int) -> None:
        """Where the station hears RTCP."""
        self._report_to = (address, port)

    async def run(self) -> None:
        """Receive and report until cancelled; the sockets are closed then."""
        with self._unicast:
            await self._run()

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._receive, self._unicast)
            nursery.start_soon(self._report_for_ever)

    def join(self, listen: Listen, interface: str) -> None:
        """Join the groups of these streams and leave all others; OSError if one cannot be."""
        wanted = {
            (spec.group, spec.port + step)
            for spec in listen.streams
            if spec.group is not None and spec.port is not None
            for step in (0, 1)
        }
        for key in [key for key in self._groups if key not in wanted]:
            self._groups.pop(key).cancel()
        for group, port in wanted - set(self._groups):
            udp = trio.socket.from_stdlib_socket(multicast_socket(group, port, interface))
            scope = trio.CancelScope()
            self._groups[group, port] = scope
            if self._nursery is not None:
                self._nursery.start_soon(self._receive_group, udp, scope)

    async def _receive_group(self, udp: trio.socket.SocketType, scope: trio.CancelScope) -> None:
        with udp, scope:
            await self._receive(udp)

    async def _receive(self, udp: trio.socket.SocketType) -> None:
        while True:
            try:
                data = await udp.recv(MAX_DATAGRAM)
            except OSError:  # a report of ours met a closed port
                await trio.sleep(_DISTURBED_S)
                continue
            self._player.receive(data, self._clock.now_ns())

    async def _report_for_ever(self) -> None:
        while True:
            await trio.sleep(report_pause_ns(self._uniform(), we_sent=False) / 1e9)
            for report in self._player.reports(self._clock.now_ns()):
                await self._send_report(report)

    async def _send_report(self, report: bytes) -> None:
        if self._report_to is not None:
            with suppress(OSError):  # reports are repeated
                await self._unicast.sendto(report, self._report_to)
