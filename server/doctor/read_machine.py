"""Reads what `machine` judges: clocks, limits, sockets, memory and what the kernel has."""

import ctypes
import ipaddress
import os
import re
import resource
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from server.doctor.machine import (
    RECEIVE_BYTES,
    SEND_BYTES,
    BufferFacts,
    DescriptorFacts,
    KernelFacts,
    MemoryFacts,
    MulticastFacts,
    Port,
    PortFacts,
    ProcessorFacts,
)
from server.ports import bound_ports, multicast_interface
from server.processes.ring import RING_BYTES
from server.settings import Settings, SettingsError
from transport.net.batch import library_function
from transport.net.stamped import enable_stamps, udp_socket

_PROC: Final = Path("/proc")
# systemd-timesyncd(8) makes it once it has synchronised the clock.
_SYNCHRONISED: Final = Path("/run/systemd/timesync/synchronized")
# struct timex has 208 bytes where pointers have 64 bits; 0 in `modes`, its first, changes nothing.
_TIMEX_BYTES, _TIME_ERROR = 208, 5
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_LISTEN = "0A"  # include/net/tcp_states.h
_STEPS: Final = (("TCP", (0, 1, 4)), ("UDP", (0, 2, 3)))


# ------------------------------------------------------------------ the network
def ports_facts(settings: Settings, process: int | None) -> PortFacts:
    """Binds them for a moment if no station runs; else looks which of them `process` has."""
    first = settings.port
    wanted = tuple((kind, first + step) for kind, steps in _STEPS for step in steps)
    wanted = wanted if first else ()
    if process is not None:
        return PortFacts(wanted, is_running=True, held=ports_of(process))
    ends: list[socket.socket] = []
    try:
        for _, end in bound_ports(settings):
            ends.append(end)
    except SettingsError as error:
        return PortFacts(wanted, is_running=False, problem=str(error))
    finally:
        for end in ends:
            end.close()
    return PortFacts(wanted, is_running=False)


def ports_of(process: int) -> frozenset[Port] | None:
    """The ports that a process listens at, or has bound; None if it cannot be seen."""
    try:
        links = [str(entry.readlink()) for entry in _descriptors(process)]
    except OSError:
        return None
    own = {found[1] for link in links if (found := _SOCKET.fullmatch(link))}
    return frozenset(port for inode, port in _bound() if inode in own)


def _descriptors(process: int) -> Iterator[Path]:
    for entry in (_PROC / str(process) / "fd").iterdir():
        if entry.is_symlink():  # not closed in between
            yield entry


def _bound() -> Iterator[tuple[str, Port]]:
    """Each bound socket's inode and port, as proc(5) has them."""
    for name in ("tcp", "tcp6", "udp", "udp6"):
        with suppress(OSError):
            for line in (_PROC / "net" / name).read_text().splitlines()[1:]:
                words = line.split()
                kind = name[:3].upper()
                if kind == "UDP" or words[3] == _LISTEN:
                    yield words[9], (kind, int(words[1].rpartition(":")[2], 16))


def multicast_facts(settings: Settings) -> MulticastFacts:
    """The interface that multicast leaves by."""
    try:
        interface = multicast_interface(settings)
    except SettingsError as error:
        return MulticastFacts(str(error))
    loops = ipaddress.ip_address(interface).is_loopback
    only_here = ipaddress.ip_address(settings.bind).is_loopback
    return MulticastFacts(None, interface, loops and not only_here)


def buffer_facts() -> BufferFacts:
    """What the kernel grants this user; it doubles what it is asked for (socket(7))."""
    with closing(udp_socket("127.0.0.1", 0)) as udp:
        receive = udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        send = one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
    return BufferFacts(min(receive, RECEIVE_BYTES), min(send, SEND_BYTES))


# ------------------------------------------------------------------ the rest
def clock_is_synchronised() -> bool | None:
    """Whether somebody keeps the wall clock right (adjtimex(2)); None if it cannot be asked."""
    with suppress(OSError):
        if _SYNCHRONISED.exists():
            return True
    adjtimex = library_function("adjtimex", [ctypes.c_void_p])
    if adjtimex is None:
        return None
    state = adjtimex(ctypes.byref(ctypes.create_string_buffer(_TIMEX_BYTES)))
    return None if state < 0 else state != _TIME_ERROR


def descriptor_facts(process: int | None, speakers: int, halls: int) -> DescriptorFacts:
    """The limit of the running station, `process`, or what one would have that began here."""
    limit = None if process is None else _limit_of(process)
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    unlimited = limit == resource.RLIM_INFINITY
    return DescriptorFacts(None if unlimited else limit, speakers, halls, process is not None)


def _limit_of(process: int) -> int | None:
    """Its hard limit; None if it cannot be seen."""
    with suppress(OSError):
        for line in (_PROC / str(process) / "limits").read_text().splitlines():
            if line.startswith("Max open files"):
                hard = line.split()[4]
                return int(hard) if hard.isdecimal() else resource.RLIM_INFINITY
    return None


def memory_facts(speakers: int, *, is_running: bool) -> MemoryFacts:
    """What can be had without swapping, as the kernel estimates it; OSError if it does not."""
    for line in (_PROC / "meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return MemoryFacts(int(value.split()[0]) * 1024, RING_BYTES, speakers, is_running)
    raise OSError(0, "/proc/meminfo has no MemAvailable")


def processor_facts(senders: int) -> ProcessorFacts:
    """Those that this process may run on."""
    return ProcessorFacts(len(os.sched_getaffinity(0)), senders)


def kernel_facts() -> KernelFacts:
    """Tries each."""
    return KernelFacts(
        has_memfd=_has_memfd(),
        has_stamps=_has_stamps(),
        has_sendmmsg=library_function("sendmmsg", []) is not None,
    )


def _has_memfd() -> bool:
    try:
        os.close(os.memfd_create("loa-doctor"))
    except OSError:
        return False
    return True


def _has_stamps() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        try:
            enable_stamps(udp)
        except OSError:
            return False
    return True
