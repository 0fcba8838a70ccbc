"""What is judged of the machine that a station runs on. Pure."""

from dataclasses import dataclass
from typing import Final

from server.doctor.findings import Finding, Level, size_text

# What sockets ask for: UDP in `transport.net.stamped`, between processes in `server.processes.bus`.
RECEIVE_BYTES: Final = 1 << 20
SEND_BYTES: Final = 1 << 20
# Of a process's descriptors sessions may take three quarters; see `server.hall.hall`.
_OF_ALL = 0.75
# More is a step and no slewing: adjtimex(2) slews by 500 ppm at most, 1 ms in two seconds.
STEP_NS: Final = 1_000_000
# What the processes of a station without loudspeakers take together, and a little more.
PROCESSES_BYTES: Final = 250 * 10**6
_SPEAKER_BYTES: Final = 40_000

Port = tuple[str, int]


@dataclass(frozen=True, slots=True)
class PortFacts:
    """`wanted` by the settings; `held` by the station, None if it does not run or hides that.

    `problem` is what binding them said where it does not run.
    """

    wanted: tuple[Port, ...]
    is_running: bool
    held: frozenset[Port] | None = None
    problem: str | None = None


def check_ports(facts: PortFacts) -> Finding:
    """They are free, or the running station's own."""
    if facts.problem is not None:
        return Finding("ports", Level.WRONG, facts.problem)
    shown = ", ".join(f"{kind} {port}" for kind, port in facts.wanted) or "any"
    if not facts.is_running:
        return Finding("ports", Level.OK, f"{shown}: free")
    if facts.held is None:
        return Finding("ports", Level.LOOK, f"{shown}: cannot be seen", "run as the station's user")
    missing = [port for port in facts.wanted if port not in facts.held]
    if missing:
        kind, port = missing[0]
        remedy = "was it started with other options? set them in loa.toml; else restart it"
        found = f"the station does not have {kind} port {port}"
        return Finding("ports", Level.WRONG, found, remedy)
    return Finding("ports", Level.OK, f"{shown}: the station's")


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """`is_synchronised` is None where the kernel does not say; how far it stepped meanwhile."""

    is_synchronised: bool | None
    stepped_ns: int


def check_clock(facts: ClockFacts) -> Finding:
    """Somebody keeps the wall clock right, without steps.

    Sound goes by another clock; this one dates the audit log, certificates and sessions.
    """
    if abs(facts.stepped_ns) > STEP_NS:
        found = f"the clock was stepped by {facts.stepped_ns / 1e9:+.3f} s just now"
        remedy = "have one program alone set it, and that slew it (chrony, systemd-timesyncd)"
        return Finding("clock", Level.LOOK, found, remedy)
    if facts.is_synchronised is None:
        return Finding("clock", Level.LOOK, "the kernel does not say how it is", _SYNCHRONISE)
    if not facts.is_synchronised:
        return Finding("clock", Level.LOOK, "it is not synchronised", _SYNCHRONISE)
    return Finding("clock", Level.OK, "synchronised, and not stepped")


_SYNCHRONISE = "have `timedatectl set-ntp true` or chrony keep it, for the audit log's times"


@dataclass(frozen=True, slots=True)
class DescriptorFacts:
    """`limit` of one process, None for none; `speakers` share `halls`, or control without any."""

    limit: int | None
    speakers: int
    halls: int
    is_running: bool


def check_descriptors(facts: DescriptorFacts) -> Finding:
    """Every loudspeaker's session has one."""
    if facts.limit is None:
        return Finding("descriptors", Level.OK, "as many as there are")
    places = int(facts.limit * _OF_ALL) * max(1, facts.halls)
    whose = "the station's processes" if facts.is_running else "here"
    found = f"{facts.limit} ({whose}), for {facts.speakers} loudspeakers"
    if facts.speakers > places:
        remedy = "raise LimitNOFILE= of its service (or `ulimit -Hn`), or set more `halls`"
        return Finding("descriptors", Level.WRONG, found, remedy)
    return Finding("descriptors", Level.OK, found)


@dataclass(frozen=True, slots=True)
class BufferFacts:
    """Bytes that the kernel granted when asked for RECEIVE_BYTES and SEND_BYTES."""

    receive: int
    send: int


def check_buffers(facts: BufferFacts) -> Finding:
    """Sockets have room for a busy moment."""
    asked = {
        "net.core.rmem_max": (facts.receive, RECEIVE_BYTES),
        "net.core.wmem_max": (facts.send, SEND_BYTES),
    }
    little = {name: wanted for name, (granted, wanted) in asked.items() if granted < wanted}
    found = f"sockets receive into {facts.receive} bytes and send from {facts.send}"
    if little:
        settings = " ".join(f"{name}={wanted}" for name, wanted in little.items())
        remedy = f"`sysctl -w {settings}`, and the same in /etc/sysctl.d, or a burst is lost"
        return Finding("buffers", Level.LOOK, found, remedy)
    return Finding("buffers", Level.OK, found)


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """Bytes that can be had, and those of the ring, which is memory and no file in /dev/shm."""

    available: int
    ring: int
    speakers: int
    is_running: bool


def check_memory(facts: MemoryFacts) -> Finding:
    """Room for the ring, the processes and the loudspeakers' states."""
    found = f"{size_text(facts.available)} can be had"
    needed = facts.ring + facts.speakers * _SPEAKER_BYTES + PROCESSES_BYTES
    if not facts.is_running and facts.available < needed:
        remedy = f"a station with {facts.speakers} loudspeakers takes about {size_text(needed)}"
        return Finding("memory", Level.WRONG, found, remedy)
    if facts.is_running and facts.available < facts.ring:
        return Finding("memory", Level.WRONG, found, "end other programs before the kernel does")
    return Finding("memory", Level.OK, found)


@dataclass(frozen=True, slots=True)
class ProcessorFacts:
    """How many this process may use, and how many senders are to share them."""

    count: int
    senders: int


def check_processors(facts: ProcessorFacts) -> Finding:
    """A sender has one, and there is one for the others."""
    found = f"{facts.count}, where `senders` is {facts.senders}"
    if facts.count < 2:
        remedy = "give the machine two or more, or sound is late whenever control is busy"
        return Finding("processors", Level.LOOK, found, remedy)
    if facts.senders >= facts.count:
        return Finding("processors", Level.LOOK, found, "set it lower, so that one is left")
    return Finding("processors", Level.OK, found)


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """Whether there is memory without a file, stamps on what is received, many sent by one call."""

    has_memfd: bool
    has_stamps: bool
    has_sendmmsg: bool


def check_kernel(facts: KernelFacts) -> Finding:
    """It has what the station is built on."""
    if not facts.has_memfd:
        remedy = "run on Linux 3.17 or newer, and let the service's filter allow it"
        return Finding("kernel", Level.WRONG, "memfd_create fails", remedy)
    missing = [
        name
        for name, there in (("SO_TIMESTAMPNS", facts.has_stamps), ("sendmmsg", facts.has_sendmmsg))
        if not there
    ]
    if missing:
        remedy = "loudspeakers keep time and the sender its beat less well: use a newer system"
        return Finding("kernel", Level.LOOK, f"it has no {' and no '.join(missing)}", remedy)
    return Finding("kernel", Level.OK, "memfd, SO_TIMESTAMPNS and sendmmsg are there")


@dataclass(frozen=True, slots=True)
class MulticastFacts:
    """The address it leaves by; `is_local` if that is loopback though others may call."""

    problem: str | None
    interface: str = ""
    is_local: bool = False


def check_multicast(facts: MulticastFacts) -> Finding:
    """It leaves by an interface, to where loudspeakers are."""
    if facts.problem is not None:
        return Finding("multicast", Level.WRONG, facts.problem)
    if facts.is_local:
        found = f"it leaves by {facts.interface}, which no other machine hears"
        return Finding("multicast", Level.LOOK, found, "set `interface` to an address of this one")
    return Finding("multicast", Level.OK, f"it leaves by {facts.interface}")
