"""What is read of this machine is true of it."""

import os
import socket

from server.doctor import read_machine
from server.settings import Settings


def test_ports_are_seen_taken_and_free_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(port=min(port, 65_531))
        facts = read_machine.ports_facts(settings, None)
        if port <= 65_531:
            assert f"TCP port {port}" in str(facts.problem)
        assert ("TCP", port) in (read_machine.ports_of(os.getpid()) or ())
        assert ("TCP", port) not in (read_machine.ports_of(os.getppid()) or ())
    assert ("TCP", port) not in (read_machine.ports_of(os.getpid()) or ())
    assert read_machine.ports_facts(Settings(port=0), None).problem is None


def test_a_port_of_udp_is_seen() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        assert ("UDP", udp.getsockname()[1]) in (read_machine.ports_of(os.getpid()) or ())


def test_a_process_that_is_gone_shows_no_ports() -> None:
    assert read_machine.ports_of(2**22 + 1) is None


def test_what_there_is_on_any_linux() -> None:
    assert read_machine.kernel_facts().has_memfd
    assert read_machine.kernel_facts().has_sendmmsg
    assert read_machine.processor_facts(1).count >= 1
    assert read_machine.memory_facts(0, is_running=False).available > 0
    assert read_machine.buffer_facts().receive > 0
    assert read_machine.clock_is_synchronised() in {True, False, None}
    own = read_machine.descriptor_facts(os.getpid(), 0, 0)
    assert own.limit == read_machine.descriptor_facts(None, 0, 0).limit


def test_multicast_to_others_by_loopback_alone_is_seen() -> None:
    facts = read_machine.multicast_facts(Settings(bind="0.0.0.0", interface="127.0.0.1"))
    assert facts.is_local
    assert not read_machine.multicast_facts(Settings()).is_local
    wrong = read_machine.multicast_facts(Settings(interface="192.0.2.77"))
    assert "192.0.2.77" in str(wrong.problem)
