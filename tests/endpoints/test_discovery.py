"""Discovery on trio, over an air of the test's making and in virtual time."""

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from endpoints.discovery import Link, Presence, find_stations, looking_for
from transport.control.address import StationAddress
from transport.discovery import packets
from transport.discovery.packets import IN, UNIQUE, Question, Type, ask, respond
from transport.discovery.records import (
    MDNS_GROUP,
    MDNS_PORT,
    SPEAKER_TYPE,
    STATION_TYPE,
    FoundSpeaker,
    FoundStation,
    found_speaker,
    station_txt,
)
from transport.net.mdns import Interface
from transport.security.keys import shown_fingerprint

GROUP = (MDNS_GROUP, MDNS_PORT)
HERE = Interface(ipaddress.IPv4Interface("10.0.0.5/24"))
THERE = Interface(ipaddress.IPv4Interface("10.0.1.5/24"))
A = FoundStation("A", "10.0.0.1", 7460)
B = FoundStation("B", "10.0.0.2", 7460)

type_source = tuple[str, int]


class FakeLink:
    """What the code under test sends is kept, with its time; the test speaks to it."""

    def __init__(self, interface: Interface, *, one_shot: bool = False) -> None:
        self.interface = interface
        self.one_shot = one_shot
        self.sent: list[tuple[float, bytes, type_source]] = []
        self.on_query: Callable[[int], None] = lambda _: None
        self.broken = False
        self.closed = False
        self._in, self._out = trio.open_memory_channel[tuple[bytes, type_source]](1000)

    async def send(self, data: bytes, to: type_source = GROUP) -> None:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise OSError(101, "Network is unreachable")
        self.sent.append((trio.current_time(), data, to))
        self.on_query(len(self.sent))

    async def receive(self) -> tuple[bytes, type_source]:
        if self.broken:
            raise OSError(100, "Network is down")
        return await self._out.receive()

    def close(self) -> None:
        self.closed = True

    def hear(self, data: bytes, source: type_source = ("10.0.0.1", MDNS_PORT)) -> None:
        self._in.send_nowait((data, source))

    def times_s(self) -> list[float]:
        return [time_s for time_s, _, _ in self.sent]


class FakeNetwork:
    """Interfaces that come and go as the test says."""

    def __init__(self, *interfaces: Interface, one_shot: bool = False) -> None:
        self.present: tuple[Interface, ...] = interfaces or (HERE,)
        self.links = {i: FakeLink(i, one_shot=one_shot) for i in (HERE, THERE)}
        self.refused: set[Interface] = set()

    def interfaces(self) -> tuple[Interface, ...]:
        return self.present

    def open(self, interface: Interface) -> Link:
        if interface in self.refused:
            raise OSError(19, "No such device")
        return self.links[interface]

    @property
    def here(self) -> FakeLink:
        return self.links[HERE]


def answer(station: FoundStation) -> bytes:
    instance, host = f"{station.name}.{STATION_TYPE}", f"loa-{station.name}.local."
    return respond(
        [
            packets.pointer(STATION_TYPE, 120, instance),
            packets.service(instance, 120, station.port, host),
            packets.text(instance, 120, station_txt(station.name, station.root)),
            packets.address(host, 120, ipaddress.ip_address(station.address).packed),
        ]
    )


def answering(link: FakeLink, station: FoundStation, *, only: Sequence[int] = (1, 2, 3)) -> None:
    """A station that hears some of the queries."""
    before = link.on_query

    def on_query(count: int) -> None:
        before(count)
        if count in only:
            link.hear(answer(station), (station.address, MDNS_PORT))

    link.on_query = on_query


# ------------------------------------------------------------- finding a station
@pytest.mark.trio
async def test_the_one_station_is_found_soon(autojump_clock: MockClock) -> None:
    network = FakeNetwork()
    answering(network.here, A)
    began_s = trio.current_time()
    assert await find_stations(None, 10, network=network) == (A,)
    assert trio.current_time() - began_s < 2.5
    assert network.here.closed


@pytest.mark.trio
async def test_a_station_that_missed_the_first_question_is_found_too(
    autojump_clock: MockClock,
) -> None:
    network = FakeNetwork()
    answering(network.here, A)
    answering(network.here, B, only=[2])
    assert await find_stations(None, 10, network=network) == (A, B)


@pytest.mark.trio
async def test_it_ends_a_second_after_the_last_new_one(autojump_clock: MockClock) -> None:
    network = FakeNetwork()
    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def late() -> None:
            network.here.hear(answer(A))
            await trio.sleep(1.9)
            network.here.hear(answer(B), (B.address, MDNS_PORT))

        nursery.start_soon(late)
        assert await find_stations(None, 10, network=network) == (A, B)
    assert trio.current_time() - began_s == pytest.approx(2.95, abs=0.15)


@pytest.mark.trio
async def test_nobody_is_asked_three_times_with_growing_gaps(autojump_clock: MockClock) -> None:
    network = FakeNetwork(HERE, THERE)
    assert await find_stations(None, 20, network=network) == ()
    for link in network.links.values():
        first_s, *_ = times_s = link.times_s()
        assert [b - a for a, b in pairwise(times_s)] == pytest.approx([1, 2])
        assert 0.02 <= first_s <= 0.12
        assert {to for _, _, to in link.sent} == {GROUP}


@pytest.mark.trio
async def test_stations_on_all_interfaces_are_found(autojump_clock: MockClock) -> None:
    network = FakeNetwork(HERE, THERE)
    answering(network.here, A)
    answering(network.links[THERE], FoundStation("C", "10.0.1.9", 9000))
    assert [s.name for s in await find_stations(None, 10, network=network)] == ["A", "C"]


@pytest.mark.trio
async def test_an_interface_that_fails_is_said_and_the_other_asked(
    autojump_clock: MockClock,
) -> None:
    network = FakeNetwork(HERE, THERE)
    network.refused = {THERE}
    answering(network.here, A)
    said: list[str] = []
    assert await find_stations(None, 10, say=said.append, network=network) == (A,)
    assert said == ["no discovery on 10.0.1.5: No such device (addresses work without it)"]


@pytest.mark.trio
async def test_a_network_that_breaks_meanwhile_ends_nothing(autojump_clock: MockClock) -> None:
    network = FakeNetwork()
    network.here.broken = True
    assert await find_stations(None, 3, network=network) == ()


@pytest.mark.trio
async def test_a_new_interface_ends_the_round_for_it_must_be_asked(
    autojump_clock: MockClock,
) -> None:
    network = FakeNetwork()
    async with trio.open_nursery() as nursery:

        async def plug_in() -> None:
            await trio.sleep(5)
            network.present = (HERE, THERE)

        nursery.start_soon(plug_in)
        began_s = trio.current_time()
        assert await find_stations(None, 60, network=network) == ()
        assert trio.current_time() - began_s < 8


@pytest.mark.trio
async def test_on_a_port_of_its_own_it_asks_for_itself_and_hears_its_own_link_only(
    autojump_clock: MockClock,
) -> None:
    network = FakeNetwork(one_shot=True)
    answering(network.here, A)
    answering(network.here, FoundStation("far", "192.0.2.1", 7460))
    assert await find_stations(None, 10, network=network) == (A,)
    query = packets.parse(network.here.sent[0][1])
    assert query is not None
    assert query.questions[0].unicast


@pytest.mark.trio
async def test_a_machine_without_a_network_says_so_and_finds_nobody(
    autojump_clock: MockClock,
) -> None:
    network = FakeNetwork()
    network.present = ()
    said: list[str] = []
    assert await find_stations(None, 3, say=said.append, network=network) == ()
    assert said == ["this machine has no IPv4 address yet; waiting for one"]


# ------------------------------------------------------------- finding our own
OURS, OTHERS = bytes(range(32)), bytes(32)


def with_root(station: FoundStation, root: bytes) -> FoundStation:
    return replace(station, root=shown_fingerprint(root))


@pytest.mark.trio
async def test_of_all_stations_those_are_ours_that_show_our_root(
    autojump_clock: MockClock,
) -> None:
    network = FakeNetwork()
    answering(network.here, with_root(A, OTHERS))
    answering(network.here, with_root(B, OURS))
    answering(network.here, FoundStation("C", "10.0.0.3", 9000))
    answering(network.here, with_root(FoundStation("D", "10.0.0.4", 9000), OURS))
    look = looking_for(OURS, None, lambda _: None, network=network)
    assert await look() == (B.server, StationAddress("10.0.0.4", 9000))


@pytest.mark.trio
async def test_looking_again_and_again_it_says_what_is_wrong_once(
    autojump_clock: MockClock,
) -> None:
    network = FakeNetwork()
    network.present = ()
    said: list[str] = []
    look = looking_for(OURS, None, said.append, network=network)
    for _ in range(3):
        assert await look() == ()
    assert len(said) == 1
    network.present = (HERE,)
    answering(network.here, with_root(A, OURS))
    assert await look() == (A.server,)


# ------------------------------------------------------------- being found
class Speaker:
    """A presence, and what it says."""

    def __init__(self, network: FakeNetwork) -> None:
        self.network = network
        self.name = "Sân"
        self.station = ""
        self.said: list[str] = []
        self.presence = Presence(
            lambda: self.name, lambda: self.station, self.said.append, network=network
        )

    def announced(self, link: FakeLink | None = None) -> list[tuple[float, FoundSpeaker, int]]:
        """When, what and with which TTL everybody was told."""
        heard = []
        for time_s, data, to in (link or self.network.here).sent:
            packet = packets.parse(data)
            assert packet is not None
            if to == GROUP:
                _, _, text, address = packet.answers()
                assert isinstance(text, packets.Text)
                assert isinstance(address, packets.Address)
                who = found_speaker(text.text, str(ipaddress.ip_address(address.address)))
                heard.append((time_s, who, int(text.ttl)))
        return heard


@pytest.mark.trio
async def test_it_is_announced_twice_and_says_goodbye(autojump_clock: MockClock) -> None:
    speaker = Speaker(FakeNetwork())
    with trio.move_on_after(10):
        await speaker.presence.run()
    (first_s, first, _), (second_s, second, _), (end_s, last, ttl) = speaker.announced()
    assert first == second == last == FoundSpeaker("Sân", "10.0.0.5", None)
    assert 0.02 <= first_s <= 0.12
    assert 1 <= second_s - first_s <= 1.2
    assert (end_s, ttl) == (10, 0)
    assert speaker.network.here.closed


@pytest.mark.trio
async def test_who_asks_is_answered_before_long(autojump_clock: MockClock) -> None:
    speaker = Speaker(FakeNetwork())
    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speaker.presence.run)
            await trio.sleep(5)
            speaker.network.here.hear(ask([Question(SPEAKER_TYPE, Type.PTR, IN)]))
    times_s = [time_s for time_s, _, ttl in speaker.announced() if ttl]
    assert len(times_s) == 3
    assert 5.02 <= times_s[2] <= 5.12


@pytest.mark.trio
async def test_a_flood_of_questions_gets_one_answer_a_second(autojump_clock: MockClock) -> None:
    speaker = Speaker(FakeNetwork())
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speaker.presence.run)
            for _ in range(1000):
                await trio.sleep(0.01)
                speaker.network.here.hear(ask([Question(SPEAKER_TYPE, Type.PTR, IN)]))
    times_s = [time_s for time_s, _, ttl in speaker.announced() if ttl]
    assert min(b - a for a, b in pairwise(times_s)) >= 1
    assert 9 <= len(times_s) <= 12


@pytest.mark.trio
async def test_who_wants_an_answer_alone_gets_it_at_once_if_he_is_near(
    autojump_clock: MockClock,
) -> None:
    speaker = Speaker(FakeNetwork())
    query = ask([Question(SPEAKER_TYPE, Type.PTR, IN | UNIQUE)])
    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speaker.presence.run)
            await trio.sleep(5)
            speaker.network.here.hear(query, ("10.0.0.9", MDNS_PORT))
            speaker.network.here.hear(query, ("192.0.2.9", MDNS_PORT))
    alone = [(time_s, to) for time_s, _, to in speaker.network.here.sent if to != GROUP]
    assert alone == [(5, ("10.0.0.9", MDNS_PORT))]


@pytest.mark.trio
async def test_after_half_a_minute_all_are_told_again(autojump_clock: MockClock) -> None:
    speaker = Speaker(FakeNetwork())
    with trio.move_on_after(40):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speaker.presence.run)
            await trio.sleep(35)
            speaker.network.here.hear(ask([Question(SPEAKER_TYPE, Type.PTR, IN | UNIQUE)]))
    assert len([ttl for _, _, ttl in speaker.announced() if ttl]) == 3


@pytest.mark.trio
async def test_a_station_joined_is_news(autojump_clock: MockClock) -> None:
    speaker = Speaker(FakeNetwork())
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speaker.presence.run)
            await trio.sleep(5)
            speaker.station = "10.0.0.1:7460"
    stations = [who.station for _, who, ttl in speaker.announced() if ttl]
    assert stations[:2] == [None, None]
    assert [str(s and s.text) for s in stations[2:]] == 2 * ["10.0.0.1:7460"]


@pytest.mark.trio
async def test_another_name_is_announced_and_the_old_taken_back(
    autojump_clock: MockClock,
) -> None:
    speaker = Speaker(FakeNetwork())
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speaker.presence.run)
            await trio.sleep(5)
            speaker.name = "Cổng"
    told = [(who.name, ttl > 0) for _, who, ttl in speaker.announced()]
    assert told == [
        ("Sân", True),
        ("Sân", True),
        ("Sân", False),
        ("Cổng", True),
        ("Cổng", True),
        ("Cổng", False),
    ]


@pytest.mark.trio
async def test_it_follows_the_interfaces(autojump_clock: MockClock) -> None:
    speaker = Speaker(FakeNetwork())
    there = speaker.network.links[THERE]
    with trio.move_on_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speaker.presence.run)
            await trio.sleep(9)
            speaker.network.present = (THERE,)
    assert [who.address for _, who, _ in speaker.announced(there)] == 3 * ["10.0.1.5"]
    assert 9 < speaker.announced(there)[0][0] < 12
    (*_, (gone_s, _, ttl)) = speaker.announced()
    assert ttl == 0
    assert 9 < gone_s < 12


@pytest.mark.trio
async def test_a_network_that_breaks_is_waited_for(autojump_clock: MockClock) -> None:
    speaker = Speaker(FakeNetwork())
    speaker.network.here.broken = True
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speaker.presence.run)
            await trio.sleep(5)
            speaker.network.here.broken = False
            await trio.sleep(5)
            speaker.network.here.hear(ask([Question(SPEAKER_TYPE, Type.PTR, IN)]))
    assert len([ttl for _, _, ttl in speaker.announced() if ttl]) == 1


@pytest.mark.trio
async def test_without_the_port_it_says_so_once(autojump_clock: MockClock) -> None:
    speaker = Speaker(FakeNetwork(one_shot=True))
    with trio.move_on_after(20):
        await speaker.presence.run()
    assert speaker.network.here.sent == []
    assert speaker.network.here.closed
    assert speaker.said == [
        "cannot be found by name on 10.0.0.5: another program keeps UDP port 5353 to itself"
    ]


@pytest.mark.trio
async def test_an_interface_that_cannot_be_opened_is_tried_again_and_said_once(
    autojump_clock: MockClock,
) -> None:
    speaker = Speaker(FakeNetwork())
    speaker.network.refused = {HERE}
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speaker.presence.run)
            await trio.sleep(9)
            speaker.network.refused = set()
    assert len(speaker.said) == 1
    assert len(speaker.announced()) == 3


@pytest.mark.trio
async def test_a_mistake_of_ours_costs_no_sound(autojump_clock: MockClock) -> None:
    said: list[str] = []

    def joined() -> str:
        raise KeyError("x")

    await Presence(lambda: "a", joined, said.append, network=FakeNetwork()).run()
    assert len(said) == 1
    assert said[0].startswith("cannot be found by name any more: ")
