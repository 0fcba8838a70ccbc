"""Finding stations in what comes by multicast."""

import ipaddress
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.discovery import packets
from transport.discovery.browse import MAX_FOUND, StationFinder
from transport.discovery.packets import Record, respond
from transport.discovery.records import STATION_TYPE, FoundStation, station_txt, to_txt

SOURCE = ("10.0.0.1", 5353)


def records(
    name: str = "A",
    *,
    instance: str | None = None,
    host: str = "loa-a.local.",
    port: int = 7460,
    addresses: Iterable[str] = ("10.0.0.1",),
    ttl: int = 120,
    root: str = "",
) -> list[Record]:
    """PTR, SRV, TXT, A…"""
    full = f"{instance or name}.{STATION_TYPE}"
    return [
        packets.pointer(STATION_TYPE, ttl, full),
        packets.service(full, ttl, port, host),
        packets.text(full, ttl, station_txt(name, root)),
        *(packets.address(host, ttl, ipaddress.ip_address(a).packed) for a in addresses),
    ]


def found(*datagrams: bytes, source: tuple[str, int] = SOURCE) -> tuple[FoundStation, ...]:
    finder = StationFinder()
    for datagram in datagrams:
        finder.receive(datagram, source)
    return finder.found


def test_a_station_is_found_by_its_answer() -> None:
    assert found(respond(records("Trường học"))) == (FoundStation("Trường học", "10.0.0.1", 7460),)


def test_whose_station_it_says_to_be_is_found_with_it() -> None:
    (station,) = found(respond(records(root="ABCDE-FGHIJ")))
    assert station == FoundStation("A", "10.0.0.1", 7460, "ABCDE-FGHIJ")


def test_records_may_come_one_by_one_and_in_any_order() -> None:
    finder = StationFinder()
    for record in reversed(records()):
        finder.receive(respond([record]), SOURCE)
    assert finder.found == (FoundStation("A", "10.0.0.1", 7460),)


def test_nothing_is_found_before_everything_is_known() -> None:
    for missing in (1, 2, 3):
        some = records()
        del some[missing]
        assert found(respond(some)) == ()


def test_of_several_addresses_the_one_that_answered_counts() -> None:
    answer = respond(records(addresses=["172.17.0.1", "10.0.0.1"]))
    assert [s.address for s in found(answer)] == ["10.0.0.1"]
    assert [s.address for s in found(answer, source=("10.0.0.200", 5353))] == ["172.17.0.1"]


def test_one_station_heard_on_two_interfaces_is_one() -> None:
    answer = respond(records(addresses=["10.0.0.1", "10.0.1.1"]))
    finder = StationFinder()
    finder.receive(answer, ("10.0.0.1", 5353))
    finder.receive(answer, ("10.0.1.1", 5353))
    assert finder.found == (FoundStation("A", "10.0.0.1", 7460),)


def test_two_stations_of_one_name_are_two() -> None:
    other = records("A", host="loa-b.local.", addresses=["10.0.0.2"])
    assert found(respond(records()), respond(other)) == (
        FoundStation("A", "10.0.0.1", 7460),
        FoundStation("A", "10.0.0.2", 7460),
    )


def test_names_are_compared_regardless_of_case() -> None:
    pointer, service, text, address = records(instance="Lớp A")
    small = packets.service(service.name.upper(), 120, 7460, "LOA-A.LOCAL.")
    assert len(found(respond([pointer, small, text, address]))) == 1


def test_a_station_that_says_goodbye_is_gone() -> None:
    assert found(respond(records()), respond(records(ttl=0))) == ()


@pytest.mark.parametrize(
    "strange",
    [
        records(addresses=["224.0.0.1"]),
        records(addresses=["0.0.0.0"]),
        records(addresses=["255.255.255.255"]),
        records(addresses=["127.0.0.1"]),
        records(port=0),
        [*records()[:2], packets.text(f"A.{STATION_TYPE}", 120, to_txt({"name": "a\x1b[2J"}))],
        [*records()[:2], packets.text(f"A.{STATION_TYPE}", 120, b"\x03v=9")],
    ],
    ids=["group", "any", "broadcast", "loopback", "port", "terminal escapes", "version"],
)
def test_what_cannot_be_true_is_counted(strange: list[Record]) -> None:
    finder = StationFinder()
    finder.receive(respond(strange), SOURCE)
    assert finder.found == ()
    assert finder.dropped["record"] == 1


def test_loopback_is_believed_to_itself() -> None:
    answer = respond(records(addresses=["127.0.0.1"]))
    assert len(found(answer, source=("127.0.0.1", 5353))) == 1


def test_what_comes_from_another_port_is_no_answer() -> None:
    finder = StationFinder()
    finder.receive(respond(records()), ("10.0.0.1", 5354))
    assert finder.found == ()
    assert finder.dropped == {"port": 1}


def test_a_flood_of_stations_is_bounded() -> None:
    finder = StationFinder()
    for n in range(3 * MAX_FOUND):
        answer = respond(records(f"s{n}", host=f"h{n}.local.", addresses=[f"10.0.1.{n % 250}"]))
        finder.receive(answer, SOURCE)
    assert len(finder.found) == MAX_FOUND
    assert finder.dropped["full"] > 0


def test_the_question_is_for_stations_and_may_ask_to_be_answered_alone() -> None:
    for unicast in (False, True):
        query = packets.parse(StationFinder().query(unicast=unicast))
        assert query is not None
        (question,) = query.questions
        assert (question.name, question.type) == (STATION_TYPE, 12)
        assert question.unicast == unicast


def test_what_is_missing_is_asked_for() -> None:
    finder = StationFinder()
    finder.receive(respond(records()[:1]), SOURCE)
    query = packets.parse(finder.query(unicast=False))
    assert query is not None
    assert [(q.name, q.type) for q in query.questions[1:]] == [
        (f"A.{STATION_TYPE}", 33),
        (f"A.{STATION_TYPE}", 16),
    ]
    finder.receive(respond(records()), SOURCE)
    query = packets.parse(finder.query(unicast=False))
    assert query is not None
    assert len(query.questions) == 1


@pytest.mark.parametrize("label", [b"a..b", b"a.b", b"\xff" * 63, b"\xff"])
def test_a_name_that_cannot_be_written_is_not_asked_for(label: bytes) -> None:
    (pointer, *_) = records()
    whole = respond([pointer])
    # The alias is the last thing in the packet: one label, then a reference to the type's name.
    odd = bytes([len(label)]) + label + b"\xc0\x0c"
    data = whole[:-6] + len(odd).to_bytes(2, "big") + odd
    packet = packets.parse(data)
    assert packet is not None
    (alias,) = packet.answers()
    assert isinstance(alias, packets.Pointer)
    assert alias.alias == f"{label.decode(errors='replace')}.{STATION_TYPE}"
    finder = StationFinder()
    finder.receive(data, SOURCE)
    query = packets.parse(finder.query(unicast=False))
    assert query is not None
    assert len(query.questions) == 1


@given(st.binary(max_size=400), st.booleans())
def test_noise_never_raises(noise: bytes, after_a_head: bool) -> None:
    data = b"\0\0\x84\0\0\0\0\x03\0\0\0\0" + noise if after_a_head else noise
    finder = StationFinder()
    finder.receive(data, SOURCE)
    assert finder.found == ()
    assert finder.query(unicast=False)


@given(st.data())
def test_a_damaged_answer_never_raises(data: st.DataObject) -> None:
    whole = bytearray(respond(records("Trường học")))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    finder = StationFinder()
    finder.receive(bytes(whole[:cut]), SOURCE)
    assert len(finder.found) <= 1
    assert packets.parse(finder.query(unicast=False)) is not None
