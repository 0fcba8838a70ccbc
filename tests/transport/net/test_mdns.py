"""Interfaces and sockets for multicast DNS, on loopback."""

import ipaddress
import secrets
import socket
from contextlib import closing

import pytest

from transport.discovery.records import MDNS_GROUP, MDNS_PORT
from transport.net.mdns import Interface, mdns_interfaces, mdns_socket, one_shot_socket

LOOPBACK = Interface(ipaddress.IPv4Interface("127.0.0.1/8"))


def _shared() -> socket.socket:
    try:
        return mdns_socket(LOOPBACK)
    except OSError as error:
        pytest.skip(f"needs UDP port {MDNS_PORT}: {error}")


def test_loopback_stands_in_for_a_network_or_is_left_out() -> None:
    present = mdns_interfaces()
    assert present == (LOOPBACK,) or LOOPBACK not in present


def test_an_interface_is_known_by_its_address() -> None:
    assert mdns_interfaces("127.0.0.1") == (LOOPBACK,)


def test_an_address_of_another_machine_cannot_be_opened() -> None:
    (interface,) = mdns_interfaces("192.0.2.77")
    with pytest.raises(OSError, match=r".+"):
        mdns_socket(interface)
    with pytest.raises(OSError, match=r".+"):
        one_shot_socket(interface)


def test_an_interface_reaches_its_own_network() -> None:
    interface = Interface(ipaddress.IPv4Interface("10.0.0.5/24"))
    assert interface.address == "10.0.0.5"
    assert interface.reaches("10.0.0.9")
    assert not interface.reaches("10.0.1.9")


def test_programs_share_the_port_and_each_hears_all() -> None:
    text = secrets.token_bytes(8)
    with closing(_shared()) as one, closing(_shared()) as other:
        one.sendto(text, (MDNS_GROUP, MDNS_PORT))
        for udp in (one, other):
            udp.settimeout(5)
            while True:  # others may speak too
                data, source = udp.recvfrom(2048)
                if data == text:
                    assert source == ("127.0.0.1", MDNS_PORT)
                    break


def test_a_port_of_ones_own_reaches_the_group() -> None:
    text = secrets.token_bytes(8)
    with closing(_shared()) as ear, closing(one_shot_socket(LOOPBACK)) as mouth:
        mouth.sendto(text, (MDNS_GROUP, MDNS_PORT))
        ear.settimeout(5)
        while True:
            data, source = ear.recvfrom(2048)
            if data == text:
                assert source == mouth.getsockname()
                assert source[1] != MDNS_PORT
                break
