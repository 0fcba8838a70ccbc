"""Real sockets of this machine, on loopback, by sendmmsg and by sendto alike."""

import ctypes
import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from ipaddress import ip_address

import numpy as np
import pytest
from numpy.typing import NDArray
from typing_extensions import override

from transport.net import batch
from transport.net.batch import Addresses, PlainTransmitter, Sent, Transmitter
from transport.net.stamped import udp_socket

NOBODY = ("255.255.255.255", 9)  # refused without SO_BROADCAST: EACCES
IP_MTU_DISCOVER = 10


def _has_ipv6() -> bool:
    with suppress(OSError), closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as probe:
        probe.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
kinds = pytest.mark.parametrize("kind", [Transmitter, PlainTransmitter])


def rows(*hosts: str) -> NDArray[np.uint8]:
    packed = []
    for host in hosts:
        ip = ip_address(host)
        packed.append(ip.packed if ip.version == 6 else bytes(10) + b"\xff\xff" + ip.packed)
    return np.frombuffer(b"".join(packed), np.uint8).reshape(-1, 16)


def addresses(*to: tuple[str, int], family: int = socket.AF_INET) -> Addresses:
    return Addresses(rows(*(host for host, _ in to)), np.array([port for _, port in to]), family)


@pytest.fixture
def ears() -> Iterator[list[socket.socket]]:
    with ExitStack() as held:
        yield [held.enter_context(udp_socket("127.0.0.1", 0)) for _ in range(4)]


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with udp_socket("127.0.0.1", 0) as opened:
        yield opened


def heard(ear: socket.socket) -> list[bytes]:
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(ear.recv(2048))
    return found


@kinds
def test_one_datagram_reaches_every_address(
    kind: type[PlainTransmitter], udp: socket.socket, ears: list[socket.socket]
) -> None:
    to = addresses(*(ear.getsockname() for ear in ears))
    assert kind(udp).send(b"sound", to, 0, len(to)) == Sent(4, 0, 0)
    assert [heard(ear) for ear in ears] == [[b"sound"]] * 4


@kinds
def test_only_those_from_start_until_stop_are_sent_to(
    kind: type[PlainTransmitter], udp: socket.socket, ears: list[socket.socket]
) -> None:
    to = addresses(*(ear.getsockname() for ear in ears))
    assert kind(udp).send(b"sound", to, 1, 3) == Sent(2, 0, 0)
    assert [len(heard(ear)) for ear in ears] == [0, 1, 1, 0]
    assert kind(udp).send(b"sound", to, 3, 64) == Sent(1, 0, 0)


@kinds
def test_an_address_that_is_refused_stops_no_other(
    kind: type[PlainTransmitter], udp: socket.socket, ears: list[socket.socket]
) -> None:
    names = [ear.getsockname() for ear in ears]
    to = addresses(NOBODY, names[0], NOBODY, NOBODY, names[1], NOBODY)
    assert kind(udp).send(b"sound", to, 0, 6) == Sent(2, 4, 0)
    assert [heard(ear) for ear in ears[:2]] == [[b"sound"], [b"sound"]]


@kinds
def test_a_port_where_nobody_listens_stops_no_other(
    kind: type[PlainTransmitter], udp: socket.socket, ears: list[socket.socket]
) -> None:
    to = addresses(ears[0].getsockname(), ears[1].getsockname())
    ears[0].close()
    for _ in range(3):  # the refusal comes back by ICMP, after the first
        assert kind(udp).send(b"sound", to, 0, 2) == Sent(2, 0, 0)
    assert heard(ears[1]) == [b"sound"] * 3


@kinds
def test_a_second_datagram_to_the_same_addresses_is_the_second(
    kind: type[PlainTransmitter], udp: socket.socket, ears: list[socket.socket]
) -> None:
    to, transmitter = addresses(ears[0].getsockname()), kind(udp)
    for datagram in (b"a longer one", b"short", b""):
        transmitter.send(datagram, to, 0, 1)
    assert heard(ears[0]) == [b"a longer one", b"short", b""]


def test_what_the_kernel_has_no_room_for_is_left_in_order(
    udp: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No loopback fills its sender's buffer, so the system call is played."""
    called: list[int] = []

    def full_after_two(_udp: int, at: int, _count: int, _flags: int) -> int:
        called.append(at)
        return 2 if len(called) == 1 else -1

    monkeypatch.setattr(batch, "_sendmmsg", full_after_two)
    monkeypatch.setattr(ctypes, "get_errno", lambda: errno.ENOBUFS)
    to = addresses(*[("127.0.0.1", 9)] * 5)
    assert Transmitter(udp).send(b"sound", to, 1, 5) == Sent(2, 0, 2)
    assert [(at - to.messages_at) // 64 for at in called] == [1, 3]


class FullSocket(socket.socket):
    """Takes two datagrams."""

    room = 2

    @override
    def sendto(self, *_: object) -> int:
        self.room -= 1
        if self.room < 0:
            raise BlockingIOError(errno.EAGAIN, "full")
        return 5


def test_what_sendto_has_no_room_for_is_left_in_order() -> None:
    with FullSocket(socket.AF_INET, socket.SOCK_DGRAM) as full:
        to = addresses(*[("127.0.0.1", 9)] * 5)
        assert PlainTransmitter(full).send(b"sound", to, 1, 5) == Sent(2, 0, 2)


def test_without_sendmmsg_it_is_done_by_sendto(
    udp: socket.socket, ears: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_sendmmsg", None)
    to = addresses(NOBODY, *(ear.getsockname() for ear in ears))
    assert Transmitter(udp).send(b"sound", to, 0, 5) == Sent(4, 1, 0)
    assert [heard(ear) for ear in ears] == [[b"sound"]] * 4


def test_a_library_may_lack_a_function() -> None:
    assert batch.library_function("there_is_no_such_call", []) is None


@needs_ipv6
def test_an_ipv4_socket_leaves_out_and_counts_what_it_cannot_reach(
    udp: socket.socket, ears: list[socket.socket]
) -> None:
    to = addresses(("::1", 9), ears[0].getsockname(), ("2001:db8::1", 9))
    assert (len(to), to.unreachable) == (1, 2)
    assert Transmitter(udp).send(b"sound", to, 0, 1) == Sent(1, 0, 0)
    assert heard(ears[0]) == [b"sound"]


@needs_ipv6
@kinds
def test_a_socket_of_both_families_reaches_both(
    kind: type[PlainTransmitter], ears: list[socket.socket]
) -> None:
    with udp_socket("::", 0) as both, udp_socket("::1", 0) as six:
        _, port = ears[0].getsockname()
        to = addresses(("127.0.0.1", port), ("::1", six.getsockname()[1]), family=socket.AF_INET6)
        assert to.unreachable == 0
        assert kind(both).send(b"sound", to, 0, 2) == Sent(2, 0, 0)
        assert (heard(ears[0]), heard(six)) == ([b"sound"], [b"sound"])


@kinds
@pytest.mark.parametrize(("size", "probe"), [(548, True), (549, False)])
def test_only_what_is_never_fragmented_goes_without_a_number(
    kind: type[PlainTransmitter], udp: socket.socket, size: int, probe: bool
) -> None:
    to, transmitter = addresses(("127.0.0.1", 9)), kind(udp)
    for length in (549 if probe else 1, size):  # from the other state
        transmitter.send(bytes(length), to, 0, 1)
    assert udp.getsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER) == (3 if probe else 1)


@kinds
def test_our_own_misuse_raises(kind: type[PlainTransmitter], udp: socket.socket) -> None:
    with pytest.raises(ValueError, match="65536 bytes"):
        kind(udp).send(bytes(65_536), addresses(("127.0.0.1", 9)), 0, 1)
    with pytest.raises(ValueError, match="family"):
        kind(udp).send(b"", addresses(("127.0.0.1", 9), family=socket.AF_INET6), 0, 1)
