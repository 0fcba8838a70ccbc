"""The wire of this machine: what passes, and what nobody should have sent. Needs root."""

import os
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

_ETH_P_IP = 0x0800
_OUTGOING = 4
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
    """Keeps every UDP datagram over loopback that comes from one of these ports."""

    ports: frozenset[int]
    seen: list[Seen] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
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
                try:
                    packet, (_, _, kind, _, _) = wire.recvfrom(1 << 16)
                except TimeoutError:
                    continue
                if kind != _OUTGOING:  # loopback shows each one twice
                    self._keep(packet)

    def _keep(self, packet: bytes) -> None:
        head = 4 * (packet[0] & 15)
        if packet[9] != socket.IPPROTO_UDP or len(packet) < head + _UDP.size:
            return
        source, to, length, _ = _UDP.unpack_from(packet, head)
        if source in self.ports:
            data = packet[head + _UDP.size : head + length]
            addresses = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
            there = (addresses[0], source), (addresses[1], to)
            self.seen.append(Seen(time.monotonic_ns(), *there, data))


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
    """A station's processes by their modules."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if parent == process and b"-m" in words:
            found[words[words.index(b"-m") + 1].decode()] = int(entry.name)
    return found
