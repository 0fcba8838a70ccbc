"""Datagrams to destinations, over real loopback sockets."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from server.processes.bus import DeclareRoutes, Destination, Route, pack_destinations
from server.processes.ring import RTCP, RTP, Entry
from server.sender.fanout import FanOut
from transport.net.stamped import udp_socket


class Ear:
    """A socket that hears; what was sent on loopback is there at once."""

    def __init__(self) -> None:
        self.udp = udp_socket("127.0.0.1", 0)
        self.port = int(self.udp.getsockname()[1])

    def heard(self) -> list[bytes]:
        datagrams = []
        while True:
            try:
                datagrams.append(self.udp.recv(2048))
            except BlockingIOError:
                return datagrams


@pytest.fixture
def ears() -> Iterator[list[Ear]]:
    with ExitStack() as held:
        ears = [Ear() for _ in range(4)]
        for ear in ears:
            held.enter_context(ear.udp)
        yield ears


@pytest.fixture
def fanout() -> Iterator[FanOut]:
    with udp_socket("127.0.0.1", 0) as udp:
        yield FanOut(udp)


def to(rtp: Ear, rtcp: Ear | None = None) -> Destination:
    return Destination("127.0.0.1", rtp.port, (rtcp or rtp).port)


def route(stream: int, *destinations: Destination) -> Route:
    return Route(stream, pack_destinations(destinations))


def test_everyone_who_shall_hear_a_stream_does_and_nobody_else(
    fanout: FanOut, ears: list[Ear]
) -> None:
    fanout.declare(DeclareRoutes((route(1, to(ears[0]), to(ears[1])), route(2, to(ears[2])))))
    fanout.forward(Entry(1, RTP, b"one"))
    fanout.forward(Entry(2, RTP, b"two"))
    assert [ear.heard() for ear in ears] == [[b"one"], [b"one"], [b"two"], []]
    assert (fanout.counters.datagrams, fanout.counters.errors) == (3, 0)


def test_rtcp_goes_to_its_own_port(fanout: FanOut, ears: list[Ear]) -> None:
    fanout.declare(DeclareRoutes((route(1, to(ears[0], ears[1])),)))
    fanout.forward(Entry(1, RTP, b"sound"))
    fanout.forward(Entry(1, RTCP, b"report"))
    assert [ear.heard() for ear in ears[:2]] == [[b"sound"], [b"report"]]


def test_a_destination_that_fails_stops_no_other(fanout: FanOut, ears: list[Ear]) -> None:
    # Without SO_BROADCAST the kernel refuses this address: EACCES.
    refused = Destination("255.255.255.255", 9, 9)
    fanout.declare(DeclareRoutes((route(1, to(ears[0]), refused, to(ears[1])),)))
    fanout.forward(Entry(1, RTP, b"sound"))
    assert [ear.heard() for ear in ears[:2]] == [[b"sound"], [b"sound"]]
    assert (fanout.counters.datagrams, fanout.counters.errors) == (2, 1)


def test_a_destination_where_nobody_listens_stops_no_other(fanout: FanOut, ears: list[Ear]) -> None:
    ears[0].udp.close()
    fanout.declare(DeclareRoutes((route(1, to(ears[0]), to(ears[1])),)))
    for _ in range(3):  # the refusal comes back by ICMP, after the first
        fanout.forward(Entry(1, RTP, b"sound"))
    assert ears[1].heard() == [b"sound"] * 3


def test_an_undeclared_stream_goes_nowhere(fanout: FanOut, ears: list[Ear]) -> None:
    fanout.declare(DeclareRoutes((route(1, to(ears[0])),)))
    fanout.forward(Entry(9, RTP, b"stray"))
    assert ears[0].heard() == []
    assert fanout.counters.errors == 0


def test_a_new_declaration_replaces_the_old_one_whole(fanout: FanOut, ears: list[Ear]) -> None:
    fanout.declare(DeclareRoutes((route(1, to(ears[0])), route(2, to(ears[1])))))
    fanout.declare(DeclareRoutes((route(1, to(ears[2])),)))
    fanout.forward(Entry(1, RTP, b"one"))
    fanout.forward(Entry(2, RTP, b"two"))
    assert [ear.heard() for ear in ears] == [[], [], [b"one"], []]
