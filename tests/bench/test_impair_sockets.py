"""Sockets of this machine's loopback, and a station that is played by the test."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from bench.impair_crossings import Crossings
from bench.impair_sockets import PortError, TcpPassage, UdpProxy, resolved
from bench.network import MS, SECOND, Impairments, Profile
from transport.control.address import StationAddress

HERE = "127.0.0.1"


def bound_udp(address: str = HERE) -> socket.socket:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, 0))
    udp.settimeout(5)
    return udp


def free_port() -> int:
    with bound_udp() as udp:
        return int(udp.getsockname()[1])


class World:
    """A station, the proxy before it, and as many clients as are asked for."""

    def __init__(self, profile: Profile, most: int = 8) -> None:
        self.ending = ExitStack()
        self.station = self.ending.enter_context(bound_udp())
        self.crossings = Crossings(profile, seed=1, most=most)
        self.port = free_port()
        pairs = [(self.port, self.station.getsockname()[1])]
        self.proxy = UdpProxy(HERE, HERE, pairs, self.crossings)
        self.ending.callback(self.proxy.close)

    def client(self) -> socket.socket:
        udp = self.ending.enter_context(bound_udp())
        udp.connect((HERE, self.port))
        return udp

    def turn_until(self, done: Callable[[], bool]) -> None:
        until_ns = self.proxy.now_ns() + 5 * SECOND
        while not done():
            assert self.proxy.now_ns() < until_ns, "nothing came"
            self.proxy.turn(self.proxy.now_ns() + 10 * MS)

    def turn_until_passed(self, count: int) -> None:
        """So many datagrams in all, both ways together."""
        self.turn_until(lambda: self._delivered() >= count)

    def _delivered(self) -> int:
        rows = self.crossings.figures().values()
        return sum(row[way]["delivered"] for row in rows for way in ("up", "down"))


@pytest.fixture
def world() -> Iterator[World]:
    world = World(Profile(Impairments()))
    with world.ending:
        yield world


def test_every_client_is_another_to_the_station_and_hears_its_own_answer(world: World) -> None:
    clients = [world.client() for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(b"question %d" % number)
    world.turn_until_passed(3)
    sources = set()
    for _ in clients:
        data, source = world.station.recvfrom(100)
        sources.add(source)
        world.station.sendto(data.replace(b"question", b"answer"), source)
    assert len(sources) == 3
    world.turn_until_passed(6)
    assert [client.recv(100) for client in clients] == [b"answer 0", b"answer 1", b"answer 2"]


def test_a_datagram_of_any_size_passes_whole(world: World) -> None:
    client = world.client()
    for size in (0, 1, 1_472, 9_000):
        client.send(bytes(size))
    world.turn_until_passed(4)
    assert [len(world.station.recv(65_535)) for _ in range(4)] == [0, 1, 1_472, 9_000]


def test_a_packet_is_as_late_as_the_model_says() -> None:
    world = World(Profile(Impairments(delay_ns=60 * MS)))
    with world.ending:
        client = world.client()
        began_ns = world.proxy.now_ns()
        client.send(b"x")
        world.turn_until_passed(1)
        took_ns = world.proxy.now_ns() - began_ns
    assert took_ns >= 60 * MS  # how much more, depends on what else this machine has to do


def test_what_a_stranger_sends_does_not_come_from_the_station(world: World) -> None:
    client = world.client()
    client.send(b"hello")
    world.turn_until_passed(1)
    _, source = world.station.recvfrom(100)
    with bound_udp() as stranger:
        stranger.sendto(b"forged", source)
    world.station.sendto(b"true", source)
    world.turn_until_passed(2)
    assert client.recv(100) == b"true"


def test_one_client_more_than_fit_takes_the_place_of_the_most_silent() -> None:
    world = World(Profile(Impairments()), most=2)
    with world.ending:
        clients = [world.client() for _ in range(3)]
        sources = []
        for number, client in enumerate(clients):
            client.send(b"hello")
            world.turn_until_passed(number + 1)
            sources.append(world.station.recvfrom(100)[1])
        for source in sources:
            world.station.sendto(b"answer", source)
        world.turn_until_passed(5)
        assert [client.recv(100) for client in clients[1:]] == [b"answer", b"answer"]
        clients[0].setblocking(False)
        with pytest.raises(BlockingIOError):
            clients[0].recv(100)


def test_a_station_that_is_not_there_yet_is_no_error(world: World) -> None:
    client = world.client()
    address = world.station.getsockname()
    world.station.close()
    for number in range(3):  # the second meets what the first one's refusal left behind
        client.send(b"lost")
        world.turn_until_passed(number + 1)
        world.proxy.turn(world.proxy.now_ns() + 10 * MS)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as station:
        station.settimeout(5)
        station.bind(address)
        client.send(b"heard")
        world.turn_until_passed(4)
        assert station.recv(100) == b"heard"


def test_tcp_passes_unchanged_both_ways_until_either_has_said_all() -> None:
    with socket.create_server((HERE, 0)) as station:
        station.settimeout(5)
        port = station.getsockname()[1]
        passage = TcpPassage("127.0.0.2", port, HERE)
        with socket.create_connection(("127.0.0.2", port), 5) as caller:
            taken, _ = station.accept()
            with taken:
                taken.settimeout(5)
                sent = bytes(range(256)) * 4_000
                threading.Thread(target=caller.sendall, args=(sent,), daemon=True).start()
                assert _all_of(taken, len(sent)) == sent
                caller.shutdown(socket.SHUT_WR)
                assert taken.recv(1) == b""
                taken.sendall(b"goodbye")
            assert _all_of(caller, 7) == b"goodbye"
            assert caller.recv(1) == b""
        passage.close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", port), 5)


def test_a_caller_is_told_by_its_end_that_no_station_is_there() -> None:
    port = free_port()
    passage = TcpPassage("127.0.0.2", port, HERE)
    with socket.create_connection(("127.0.0.2", port), 5) as caller:
        assert caller.recv(1) == b""
    passage.close()


def _all_of(tcp: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (chunk := tcp.recv(count - len(data))):
        data += chunk
    return data


def test_a_port_in_use_is_one_line_and_nothing_stays_open() -> None:
    free = free_port()
    with bound_udp() as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortError, match=rf"cannot use UDP port {port} on 127\.0\.0\.1: "):
            UdpProxy(HERE, HERE, [(free, 9), (port, 9)], Crossings(Profile(Impairments()), 1))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind((HERE, free))
    with socket.create_server((HERE, 0)) as station:
        port = station.getsockname()[1]
        with pytest.raises(PortError, match=rf"cannot use TCP port {port} on 127\.0\.0\.1: "):
            TcpPassage(HERE, port, HERE)


def test_names_are_looked_up_once_and_an_unknown_one_is_one_line() -> None:
    assert resolved(StationAddress("127.0.0.2", 7460)) == "127.0.0.2"
    assert resolved(StationAddress("::1", 7460)) == "::1"
    with pytest.raises(PortError, match=r"nowhere\.invalid: "):
        resolved(StationAddress("nowhere.invalid", 7460))
