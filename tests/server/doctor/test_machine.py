"""What is judged of a machine, on made facts: each check passes and fails."""

import pytest

from server.doctor.findings import Finding, Level, size_text
from server.doctor.machine import (
    PROCESSES_BYTES,
    RECEIVE_BYTES,
    SEND_BYTES,
    STEP_NS,
    BufferFacts,
    ClockFacts,
    DescriptorFacts,
    KernelFacts,
    MemoryFacts,
    MulticastFacts,
    PortFacts,
    ProcessorFacts,
    check_buffers,
    check_clock,
    check_descriptors,
    check_kernel,
    check_memory,
    check_multicast,
    check_ports,
    check_processors,
)
from server.processes import bus
from transport.net import stamped

PORTS = (("TCP", 7460), ("UDP", 7460))
RING = 10**7


def is_level(finding: Finding, level: Level, *words: str) -> None:
    assert finding.level is level, finding
    assert (finding.row["level"], finding.row["check"]) == (str(level), finding.check)
    for word in words:
        assert word in finding.line


def test_ports_that_are_free_or_the_stations() -> None:
    is_level(check_ports(PortFacts(PORTS, is_running=False)), Level.OK, "TCP 7460", "free")
    is_level(check_ports(PortFacts((), is_running=False)), Level.OK, "any")
    held = PortFacts(PORTS, is_running=True, held=frozenset({*PORTS, ("UDP", 9)}))
    is_level(check_ports(held), Level.OK, "the station's")


def test_ports_that_another_has() -> None:
    taken = PortFacts(PORTS, is_running=False, problem="cannot use TCP port 7460 (choose another)")
    is_level(check_ports(taken), Level.WRONG, "choose another")
    other = PortFacts(PORTS, is_running=True, held=frozenset(PORTS[:1]))
    is_level(check_ports(other), Level.WRONG, "UDP port 7460", "loa.toml")
    is_level(check_ports(PortFacts(PORTS, is_running=True)), Level.LOOK, "station's user")


@pytest.mark.parametrize(
    ("is_synchronised", "stepped_ns", "level"),
    [
        (True, 0, Level.OK),
        (True, -STEP_NS, Level.OK),
        (True, STEP_NS + 1, Level.LOOK),
        (True, -STEP_NS - 1, Level.LOOK),
        (False, 0, Level.LOOK),
        (None, 0, Level.LOOK),
    ],
)
def test_a_clock_is_kept(is_synchronised: bool | None, stepped_ns: int, level: Level) -> None:
    is_level(check_clock(ClockFacts(is_synchronised, stepped_ns)), level, "clock")


@pytest.mark.parametrize(
    ("limit", "speakers", "halls", "level"),
    [
        (1000, 750, 0, Level.OK),
        (1000, 751, 0, Level.WRONG),
        (1000, 751, 1, Level.WRONG),
        (1000, 1500, 2, Level.OK),
        (1000, 1501, 2, Level.WRONG),
        (None, 10**6, 0, Level.OK),
    ],
)
def test_descriptors_for_every_session(
    limit: int | None, speakers: int, halls: int, level: Level
) -> None:
    finding = check_descriptors(DescriptorFacts(limit, speakers, halls, is_running=True))
    is_level(finding, level, "descriptors")


def test_buffers_as_large_as_asked() -> None:
    assert RECEIVE_BYTES == stamped._RECEIVE_BUFFER
    assert SEND_BYTES == bus._SOCKET_BUFFER
    is_level(check_buffers(BufferFacts(RECEIVE_BYTES, SEND_BYTES)), Level.OK)
    less = check_buffers(BufferFacts(RECEIVE_BYTES - 1, SEND_BYTES))
    is_level(less, Level.LOOK, "`sysctl -w net.core.rmem_max=1048576`")
    both = check_buffers(BufferFacts(1, 1))
    is_level(both, Level.LOOK, "net.core.rmem_max=1048576 net.core.wmem_max=1048576")


def test_memory_for_what_the_station_takes() -> None:
    enough = RING + PROCESSES_BYTES + 40_000 * 10
    is_level(check_memory(MemoryFacts(enough, RING, 10, is_running=False)), Level.OK)
    is_level(check_memory(MemoryFacts(enough - 1, RING, 10, is_running=False)), Level.WRONG)
    # One that runs has its own already.
    is_level(check_memory(MemoryFacts(RING, RING, 10, is_running=True)), Level.OK)
    is_level(check_memory(MemoryFacts(RING - 1, RING, 10, is_running=True)), Level.WRONG)


def test_processors_for_senders_and_one_more() -> None:
    is_level(check_processors(ProcessorFacts(2, 1)), Level.OK)
    is_level(check_processors(ProcessorFacts(1, 1)), Level.LOOK, "two or more")
    is_level(check_processors(ProcessorFacts(2, 2)), Level.LOOK, "lower")


def test_a_kernel_that_has_all() -> None:
    is_level(check_kernel(KernelFacts(True, True, True)), Level.OK)
    is_level(check_kernel(KernelFacts(False, True, True)), Level.WRONG, "memfd_create")
    is_level(check_kernel(KernelFacts(True, False, True)), Level.LOOK, "no SO_TIMESTAMPNS:")
    is_level(check_kernel(KernelFacts(True, False, False)), Level.LOOK, "and no sendmmsg")


def test_multicast_leaves_to_where_loudspeakers_are() -> None:
    is_level(check_multicast(MulticastFacts(None, "192.0.2.1")), Level.OK, "192.0.2.1")
    is_level(check_multicast(MulticastFacts(None, "127.0.0.1", True)), Level.LOOK, "interface")
    is_level(check_multicast(MulticastFacts("multicast cannot leave")), Level.WRONG, "cannot leave")


def test_sizes_as_people_say_them() -> None:
    assert [size_text(n) for n in (999, 1000, 2_500_000, 10**9)] == [
        *("999 bytes", "1.0 kB", "2.5 MB", "1.0 GB")
    ]
