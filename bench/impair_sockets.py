"""The sockets of `loa impair`: UDP through the model, TCP as it comes."""

import select
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from bench.impair_crossings import Client, Crossings
from transport.control.address import StationAddress
from transport.net.clocks import HostClock
from transport.net.stamped import (
    ANCILLARY_BYTES,
    connected_socket,
    enable_stamps,
    family_of,
    realtime_stamp_ns,
    udp_socket,
)

_BATCH = 64
_MAX_UDP_BYTES = 65_535
_MAX_CONNECTIONS = 256
_CHUNK_BYTES = 65_536
_CONNECT_S = 5.0
_ACCEPT_AGAIN_S = 0.1


class PortError(Exception):
    """A port that cannot be used; one line."""


class UdpProxy:
    """Listens on ports of one address, and stands for each client before another address.

    Every client has a socket of its own there, so it is told from the others by its port; what
    comes back to that goes to the client alone.
    """

    def __init__(
        self, listen: str, to: str, ports: Sequence[tuple[int, int]], crossings: Crossings
    ):
        """`ports` are pairs: where to listen, where to send. PortError if one is in use."""
        self.unsent = 0
        self._to, self._crossings = to, crossings
        self._clock = HostClock()
        self._begun_ns = self._clock.now_ns()
        self._listening: dict[socket.socket, tuple[int, int]] = {}
        self._stations: dict[Client, socket.socket] = {}
        self._clients: dict[socket.socket, Client] = {}
        for port, target in ports:
            try:
                self._listening[udp_socket(listen, port)] = (port, target)
            except OSError as error:
                self.close()
                raise PortError(_refused("UDP", listen, port, error)) from None
        for udp in self._listening:
            enable_stamps(udp)
        self._of_port = {port: udp for udp, (port, _) in self._listening.items()}

    def close(self) -> None:
        """All sockets."""
        for udp in (*self._listening, *self._clients):
            udp.close()

    def turn(self, until_ns: int) -> None:
        """Wait for the next datagram or what is due, not beyond `until_ns`; hand on what there is.

        Times are those of `now_ns`.
        """
        next_ns = self._crossings.next_due_ns()
        wake_ns = until_ns if next_ns is None else min(until_ns, next_ns)
        # Not epoll, which knows of milliseconds alone: this is to the microsecond.
        patience_s = max(0, wake_ns - self.now_ns()) / 1e9
        ready, _, _ = select.select([*self._listening, *self._clients], [], [], patience_s)
        self._hand_on()
        for udp in ready:
            self._read(udp)
            self._hand_on()

    def now_ns(self) -> int:
        """Since this began."""
        return self._clock.now_ns() - self._begun_ns

    def _read(self, udp: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionError):  # empty; or nobody is there now
            for _ in range(_BATCH):
                client = self._clients.get(udp)
                if client is None and udp not in self._listening:
                    return  # whose it was had to go a moment ago
                data, ancillary, _, source = udp.recvmsg(_MAX_UDP_BYTES, ANCILLARY_BYTES)
                came_ns = self._came_ns(realtime_stamp_ns(ancillary))
                if client is not None:
                    self._crossings.send(client, data, came_ns, up=False)
                    continue
                port, target = self._listening[udp]
                client = Client(port, source[0], source[1])
                if client in self._crossings or self._admit(client, target):
                    self._crossings.send(client, data, came_ns, up=True)

    def _came_ns(self, stamp_ns: int | None) -> int:
        """By the kernel's stamp: that this process was busy meanwhile is no part of the model."""
        came_ns = None if stamp_ns is None else self._clock.of_kernel_stamp(stamp_ns)
        return self.now_ns() if came_ns is None else max(0, came_ns - self._begun_ns)

    def _admit(self, client: Client, target: int) -> bool:
        for gone in self._crossings.make_room():
            station = self._stations.pop(gone)
            del self._clients[station]
            station.close()
        try:
            station = connected_socket(self._to, target)
        except OSError:  # no route there just now
            return False
        enable_stamps(station)
        self._stations[client], self._clients[station] = station, client
        return True

    def _hand_on(self) -> None:
        for due in self._crossings.due(self.now_ns()):
            client = due.client
            self._crossings.handed_on(due, self.now_ns())
            try:
                if due.up:
                    self._stations[client].send(due.data)
                else:
                    self._of_port[client.port].sendto(due.data, (client.address, client.source))
            except OSError:  # its buffer is full, or nobody is there now
                self.unsent += 1


class TcpPassage:
    """One TCP port passed through to another address, unchanged: two threads a connection."""

    def __init__(self, listen: str, port: int, to: str) -> None:
        """PortError if it is in use."""
        self._target = (to, port)
        self._room = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        try:
            self._listening = socket.create_server(
                (listen, port), family=family_of(listen), backlog=_MAX_CONNECTIONS
            )
        except OSError as error:
            raise PortError(_refused("TCP", listen, port, error)) from None
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more; what is open ends with the process."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept
        self._listening.close()

    def _accept(self) -> None:
        while self._listening.fileno() >= 0:
            try:
                caller, _ = self._listening.accept()
            except OSError:  # closed; or no descriptor is left, which passes
                time.sleep(_ACCEPT_AGAIN_S)
                continue
            if self._room.acquire(blocking=False):
                threading.Thread(target=self._converse, args=(caller,), daemon=True).start()
            else:
                caller.close()

    def _converse(self, caller: socket.socket) -> None:
        try:
            with caller, socket.create_connection(self._target, _CONNECT_S) as station:
                station.settimeout(None)
                for end in (caller, station):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(target=_pump, args=(station, caller), daemon=True)
                back.start()
                _pump(caller, station)
                back.join()
        except OSError:
            pass  # whoever called sees that nobody answers
        finally:
            self._room.release()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(_CHUNK_BYTES):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # one of them broke: so does the other
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def resolved(address: StationAddress) -> str:
    """Its IP address; PortError if nobody knows that name."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise PortError(f"{address.host}: {error.strerror or error}") from None
    return str(found[0][4][0])


def _refused(kind: str, listen: str, port: int, error: OSError) -> str:
    why = error.strerror or error
    return f"cannot use {kind} port {port} on {listen}: {why} (choose another --listen)"
