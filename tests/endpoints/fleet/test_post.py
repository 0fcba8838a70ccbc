"""One socket, many addresses: over loopback."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest
from typing_extensions import override

from endpoints.fleet.ear import Ear
from endpoints.fleet.judge import Judge, Rows, Times
from endpoints.fleet.post import Post
from endpoints.fleet.roster import Addresses, FleetError
from transport.net.clocks import HostClock
from transport.net.stamped import multicast_socket

COUNT = 300
ADDRESSES = Addresses("127.1.0.0", 0, COUNT)


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(5)
        yield udp


@contextmanager
def a_post(port: int = 0) -> Iterator[Post]:
    with closing(Post(ADDRESSES, port, buffer_bytes=1 << 20, batch=64, size=2048)) as post:
        yield post


def port_of(post: Post) -> int:
    return int(post.socket.getsockname()[1])


def test_each_sends_from_its_own_address_and_the_answer_is_told_to_be_its(
    peer: socket.socket,
) -> None:
    with a_post() as post:
        for index in (0, 299):
            post.send(index, b"hello", peer.getsockname())
            data, source = peer.recvfrom(100)
            assert (data, source) == (b"hello", (ADDRESSES.text(index), port_of(post)))
            peer.sendto(b"to %d" % index, source)
        select.select([post.socket], [], [], 5)
        before_ns = HostClock().now_ns()
        indices, rows, lengths, arrivals_ns = post.receive(before_ns)
        assert indices.tolist() == [0, 299]
        heard = [rows[n, : lengths[n]].tobytes() for n in range(2)]
        assert heard == [b"to 0", b"to 299"]
        assert np.all(np.abs(arrivals_ns - before_ns) < 1_000_000_000)
        assert arrivals_ns[0] <= arrivals_ns[1]


def test_what_has_no_room_is_counted(peer: socket.socket) -> None:
    with a_post() as post:
        post.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for _ in range(100):
            peer.sendto(bytes(1000), (ADDRESSES.text(0), port_of(post)))
        taken = len(post.receive(0)[0])
        # The count comes with the next datagram that has room.
        peer.sendto(b"x", (ADDRESSES.text(0), port_of(post)))
        assert len(post.receive(0)[0]) == 1
        assert taken + post.dropped == 100


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with a_post() as post, pytest.raises(FleetError, match=str(port_of(post))):
        Post(ADDRESSES, port_of(post), buffer_bytes=1 << 20, batch=4, size=100)


def test_what_goes_nowhere_is_lost_and_harms_nobody() -> None:
    with a_post() as post:
        for _ in range(3):
            post.send(0, b"hello", ("127.0.0.1", 9))


# ------------------------------------------------------------------ the ear
class Listener(Judge):
    """Notes who got what."""

    def __init__(self) -> None:
        super().__init__(COUNT)
        self.took: list[tuple[int, bytes]] = []
        self.came = threading.Event()

    @override
    def take(self, indices: Times, data: Rows, lengths: Times, arrivals_ns: Times) -> None:
        assert len(arrivals_ns) == len(indices)
        for row in range(len(indices)):
            self.took.append((int(indices[row]), data[row, : lengths[row]].tobytes()))
            self.came.set()


@contextmanager
def listening(post: Post) -> Iterator[tuple[Ear, Listener]]:
    judge = Listener()
    ear = Ear(post, judge, HostClock())
    thread = threading.Thread(target=ear.run)
    thread.start()
    try:
        yield ear, judge
    finally:
        ear.close()
        thread.join(5)
        assert not thread.is_alive()


def test_media_go_to_the_judge_and_stun_to_the_loop(peer: socket.socket) -> None:
    rtp, rtcp, stun = b"\x80\x60" + bytes(20), b"\x80\xc8" + bytes(20), b"\x01\x01" + bytes(18)
    with a_post() as post:
        for datagram in (stun, rtcp, b"junk", rtp):
            peer.sendto(datagram, (ADDRESSES.text(7), port_of(post)))
        with listening(post) as (ear, judge):
            assert judge.came.wait(5)
        assert judge.took == [(7, rtp)]
        assert [(index, data) for index, data, _ in ear.answers] == [(7, stun)]


class Backlog(Post):
    """Two full batches of what came long ago, and then nothing."""

    def __init__(self, arrivals_ns: list[int]) -> None:
        self.batch = 2
        self.left = arrivals_ns

    @override
    def receive(self, now_ns: int) -> tuple[Times, Rows, Times, Times]:
        taken, self.left = self.left[:2], self.left[2:]
        data = np.full((len(taken), 100), 0x80, np.uint8)
        ones = np.ones(len(taken), np.int64)
        return ones, data, 100 * ones, np.array(taken, np.int64)


class Settled(Listener):
    """Notes how many had been taken whenever frames were judged, and until when."""

    def __init__(self) -> None:
        super().__init__()
        self.settled: list[tuple[int, int]] = []
        self.over = threading.Event()

    @override
    def settle(self, now_ns: int) -> None:
        self.settled.append((len(self.took), now_ns))
        if len(self.settled) == 3:
            self.over.set()


def test_what_waits_unread_is_not_judged_to_be_missing() -> None:
    judge = Settled()
    # The clock has gone on for ever so long, and the copies of one frame are in both batches.
    arrivals_ns = [10**9, 10**9 + 1, 10**9 + 2, 2 * 10**9]
    ear = Ear(Backlog(arrivals_ns), judge, HostClock())
    thread = threading.Thread(target=ear.run)
    thread.start()
    came = judge.over.wait(5)
    ear.close()
    thread.join(5)
    assert came
    assert judge.settled[:2] == [(2, 10**9 + 1), (4, 2 * 10**9)]
    assert judge.settled[2][0] == 4


def test_a_group_is_heard_for_whoever_joined_it(peer: socket.socket) -> None:
    rtp = b"\x80\x60" + bytes(20)
    peer.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    with a_post() as post, listening(post) as (ear, judge):
        group = multicast_socket("239.192.99.9", 0, ADDRESSES.text(3))
        port = int(group.getsockname()[1])
        leave = ear.listen(3, group)
        peer.sendto(rtp, ("239.192.99.9", port))
        assert judge.came.wait(5)
        leave()
        assert group.fileno() == -1
    assert judge.took == [(3, rtp)]
