"""The wire of this machine: what passes, and what nobody should have sent. Needs root."""

import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from bench.fleet_load import senders_on_duty
from server.usage import ProcessUse, station_use

_ETH_P_IP = 0x0800
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
# Classic BPF (linux/filter.h, bpf_common.h), on packets that begin with their IP header.
_BPF = struct.Struct("HBBI")
_LOAD_BYTE, _LOAD_HALF_AT_X, _X_IS_HEADER = 0x30, 0x48, 0xB1
_IF_EQUAL, _RETURN = 0x15, 0x06
_IP = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")


def needs_root() -> None:
    """Skip where the wire can neither be heard nor forged."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to hear the wire and to forge addresses")


@dataclass(frozen=True, slots=True)
class Seen:
    """One UDP datagram that passed, in CLOCK_MONOTONIC."""

    at_ns: int
    source: tuple[str, int]
    to: tuple[str, int]
    data: bytes


@dataclass(slots=True)
class Sniffer:
    """Keeps every UDP datagram over loopback that comes from one of these ports.

    `dropped`, at the end, are those of them that it had no room for.
    """

    ports: frozenset[int]
    seen: list[Seen] = field(default_factory=list)
    dropped: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        # Of no protocol until it is bound: it would hear everything before it has its filter.
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        _attach(wire, _only_from(self.ports))
        wire.bind(("lo", _ETH_P_IP))
        wire.settimeout(0.2)
        self._thread = threading.Thread(target=self._run, args=(wire,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, wire: socket.socket) -> None:
        with wire:
            while not self._stopping.is_set():
                with suppress(TimeoutError):
                    self._keep(wire.recv(1 << 16))
            statistics = wire.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
            self.dropped = struct.unpack("II", statistics)[1]

    def _keep(self, packet: bytes) -> None:
        head = 4 * (packet[0] & 15)
        source, to, length, _ = _UDP.unpack_from(packet, head)
        data = packet[head + _UDP.size : head + length]
        addresses = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
        there = (addresses[0], source), (addresses[1], to)
        self.seen.append(Seen(time.monotonic_ns(), *there, data))


def _only_from(ports: frozenset[int]) -> list[tuple[int, int, int, int]]:
    """A filter for UDP from these ports: a flood from a test beside this one takes up no room."""
    program = [
        (_LOAD_BYTE, 0, 0, 9),  # RFC 791 section 3.1: the protocol
        (_IF_EQUAL, 0, len(ports) + 2, socket.IPPROTO_UDP),
        (_X_IS_HEADER, 0, 0, 0),
        (_LOAD_HALF_AT_X, 0, 0, 0),
    ]
    for more, port in zip(reversed(range(len(ports))), sorted(ports), strict=True):
        program.append((_IF_EQUAL, more + 1, 0, port))
    return [*program, (_RETURN, 0, 0, 0), (_RETURN, 0, 0, 1 << 16)]


def _attach(wire: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    code = ctypes.create_string_buffer(b"".join(_BPF.pack(*line) for line in program))
    described = struct.pack("HP", len(program), ctypes.addressof(code))
    wire.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


class Forger:
    """Sends UDP in another's name."""

    def __init__(self) -> None:
        self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)

    def send(self, source: tuple[str, int], to: tuple[str, int], data: bytes) -> None:
        """One datagram; UDP over IPv4 may go without a checksum (RFC 768)."""
        udp = _UDP.pack(source[1], to[1], _UDP.size + len(data), 0) + data
        total = _IP.size + len(udp)
        here, there = socket.inet_aton(source[0]), socket.inet_aton(to[0])
        ip = _IP.pack(0x45, 0, total, 0, 0, 64, socket.IPPROTO_UDP, 0, here, there)
        self._raw.sendto(ip + udp, (to[0], 0))

    def close(self) -> None:
        self._raw.close()


def flood(
    sends: Sequence[tuple[tuple[str, int] | None, tuple[str, int], bytes]],
    a_second: int,
    count: int,
) -> float:
    """Send `count` of these (source or None for our own, to, data), evenly; the rate reached."""
    forger = Forger()
    own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    began_s = time.monotonic()
    try:
        for n in range(count):
            source, to, data = sends[n % len(sends)]
            try:
                if source is None:
                    own.sendto(data, to)
                else:
                    forger.send(source, to, data)
            except OSError:
                pass  # a closed port answered an earlier one
            if n % 20 == 19:
                ahead_s = n / a_second - (time.monotonic() - began_s)
                if ahead_s > 0:
                    time.sleep(ahead_s)
    finally:
        forger.close()
        own.close()
    return count / (time.monotonic() - began_s)


def udp_ports(process: int) -> dict[int, tuple[str, int]]:
    """The UDP ports that a process has, and whom each is connected to (port 0: nobody)."""
    inodes = set()
    for entry in Path(f"/proc/{process}/fd").iterdir():
        try:
            inodes.add(str(entry.readlink()))
        except OSError:
            continue
    found = {}
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        parts = line.split()
        if f"socket:[{parts[9]}]" in inodes:
            found[int(parts[1].partition(":")[2], 16)] = _address(parts[2])
    return found


def _address(text: str) -> tuple[str, int]:
    address, _, port = text.partition(":")
    return socket.inet_ntoa(bytes.fromhex(address)[::-1]), int(port, 16)


def children(process: int) -> dict[str, int]:
    """A station's processes by their modules; a sender that waits for its turn is a "spare"."""
    uses = [use for use in station_use(process) if use.pid != process]
    on_duty = senders_on_duty(uses)
    return {_module(use, spare=use.pid not in on_duty): use.pid for use in uses}


def _module(use: ProcessUse, *, spare: bool) -> str:
    match use.process:
        case "control":
            return "server"
        case "sender" if spare:
            return "server.sender spare"
        case _:
            return f"server.{use.process}"
