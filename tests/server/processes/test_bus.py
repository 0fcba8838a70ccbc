"""The bus between our own processes: whole declarations, or an honest word that they did not go."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.processes.bus import (
    FROM_GATEWAY,
    FROM_PRODUCER,
    FROM_SENDER,
    TO_GATEWAY,
    TO_PRODUCER,
    TO_SENDER,
    Bus,
    DeclarePaths,
    DeclareProgrammes,
    DeclareRelays,
    DeclareRoutes,
    Destination,
    EpochReport,
    GatewayReport,
    PathReport,
    ProducerReport,
    ProgrammeOrder,
    ProgrammeReport,
    Relay,
    Route,
    SenderReport,
    StreamOrder,
    StreamReport,
    TooLongError,
    WhoIsThere,
    bus_pair,
    pack_destinations,
    pack_sessions,
    unpack_destinations,
    unpack_sessions,
)
from server.station import MAX_PROGRAMMES
from transport.control.wire import vocabulary

ToSender = DeclareRoutes | WhoIsThere
Ends = tuple[Bus[ToSender, SenderReport], Bus[SenderReport, ToSender], socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Control's end, the sender's end, and the latter's bare socket."""
    one, other = bus_pair()
    with one, other:
        yield Bus(one, TO_SENDER, FROM_SENDER), Bus(other, FROM_SENDER, TO_SENDER), other


def routes(loudspeakers: int, programmes: int = 1) -> DeclareRoutes:
    destinations = pack_destinations(
        Destination(f"192.168.{n // 250}.{n % 250}", 50_000, 50_001) for n in range(loudspeakers)
    )
    sdp = "v=0\r\n" + "a" * 500
    return DeclareRoutes(
        tuple(Route(n, destinations, sdp, "239.192.76.200") for n in range(programmes))
    )


STREAMS = (StreamOrder(8, 2.5, (1 << 64) - 1, clear=15), StreamOrder(9, 20.0, 0))
ORDER = ProgrammeOrder("live-1", STREAMS, "t" * 32, 24_000, 9, False, True, 20, 3)
EPOCHS = tuple(EpochReport(n, 0xFFFF_FFF0 + n, bytes([n]) * 28) for n in range(3))
NUMBERS = (
    StreamReport(8, 0xFFFF_FFFF, 0, bytes(32), EPOCHS, 7),
    StreamReport(9, 0, 0xFFFF_FFFF, bytes(range(32)), EPOCHS[1:]),
)
REPORT = ProgrammeReport("live-1", "live", -20.5, 3.25, NUMBERS)


def test_a_declaration_arrives_as_it_was_sent(ends: Ends) -> None:
    control, sender, _ = ends
    assert control.send(routes(60))
    assert list(sender.receive()) == [routes(60)]


def test_producer_s_words_arrive_as_they_were_sent() -> None:
    one, other = bus_pair()
    with one, other:
        control: Bus[DeclareProgrammes, ProducerReport] = Bus(one, TO_PRODUCER, FROM_PRODUCER)
        producer: Bus[ProducerReport, DeclareProgrammes] = Bus(other, FROM_PRODUCER, TO_PRODUCER)
        control.send(DeclareProgrammes((ORDER, ORDER)))
        producer.send(ProducerReport("life", (REPORT,)))
        assert list(producer.receive()) == [DeclareProgrammes((ORDER, ORDER))]
        assert list(control.receive()) == [ProducerReport("life", (REPORT,))]


def test_nothing_waits_where_nothing_was_sent(ends: Ends) -> None:
    assert list(ends[0].receive()) == []


def test_messages_keep_their_order(ends: Ends) -> None:
    control, sender, _ = ends
    sent: list[ToSender] = [WhoIsThere(), routes(1), routes(2), WhoIsThere()]
    for message in sent:
        control.send(message)
    assert list(sender.receive()) == sent


def test_a_word_of_the_other_direction_is_our_own_mistake(ends: Ends) -> None:
    with pytest.raises(TypeError):
        ends[1].send(WhoIsThere())  # type: ignore[arg-type]


def test_a_side_that_does_not_read_is_not_waited_for(ends: Ends) -> None:
    control, sender, _ = ends
    taken = 0
    while control.send(routes(60)):
        taken += 1
    assert control.undelivered == 1
    assert len(list(sender.receive())) == taken > 0
    assert control.send(routes(60))


def test_a_message_of_another_version_is_skipped_and_counted() -> None:
    @dataclass(frozen=True, slots=True)
    class DeclareMiracles:
        number: int

    one, other = bus_pair()
    with one, other:
        newer: Bus[object, object] = Bus(one, vocabulary(DeclareMiracles, WhoIsThere), FROM_SENDER)
        sender: Bus[SenderReport, ToSender] = Bus(other, FROM_SENDER, TO_SENDER)
        newer.send(DeclareMiracles(1))
        newer.send(WhoIsThere())
        assert list(sender.receive()) == [WhoIsThere()]
        assert sender.undelivered == 1


def test_a_declaration_for_sixty_loudspeakers_and_every_programme_there_may_be_fits(
    ends: Ends,
) -> None:
    control, sender, _ = ends
    whole = routes(loudspeakers=60, programmes=MAX_PROGRAMMES)
    assert control.send(whole)
    assert list(sender.receive()) == [whole]


def test_a_declaration_for_a_province_fits(ends: Ends) -> None:
    control, sender, _ = ends
    whole = routes(loudspeakers=3500, programmes=2)
    assert control.send(whole)
    assert list(sender.receive()) == [whole]


def test_a_declaration_that_does_not_fit_is_refused_aloud_and_nothing_of_it_is_sent(
    ends: Ends,
) -> None:
    control, sender, _ = ends
    with pytest.raises(TooLongError, match="DeclareRoutes"):
        control.send(routes(loudspeakers=10_000))
    assert list(sender.receive()) == []
    assert control.send(routes(60))


def test_the_other_end_s_death_is_no_error(ends: Ends) -> None:
    control, _, other = ends
    other.close()
    assert not control.send(WhoIsThere())
    assert list(control.receive()) == []


ADDRESSES = st.ip_addresses(v=4).map(str)
PORTS = st.integers(1, 65_535)


@given(st.lists(st.builds(Destination, ADDRESSES, PORTS, PORTS), max_size=20))
def test_packed_destinations_come_out_as_they_were(destinations: list[Destination]) -> None:
    assert unpack_destinations(pack_destinations(destinations)) == tuple(destinations)


def test_half_a_destination_is_no_route() -> None:
    packed = pack_destinations([Destination("127.0.0.1", 1, 2)])
    with pytest.raises(ValueError, match="destination"):
        Route(1, packed[:-1])


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=20))
def test_packed_sessions_come_out_as_they_were(sessions: list[int]) -> None:
    assert unpack_sessions(pack_sessions(sessions)) == tuple(sessions)


def test_half_a_session_is_none() -> None:
    with pytest.raises(ValueError, match="session"):
        unpack_sessions(pack_sessions([1, 2])[:-1])


def test_what_the_gateway_is_told_and_what_paths_there_are_arrives_as_it_was_sent() -> None:
    relays = DeclareRelays((Relay(8, pack_sessions([1, (1 << 64) - 1])),))
    paths = DeclarePaths((PathReport(1, "192.0.2.1", 40_000),), (2, 3))
    report = GatewayReport("life", pack_sessions([1]), 2, 3, 4)
    assert TO_GATEWAY.decode(TO_GATEWAY.encode(relays)) == relays
    assert FROM_GATEWAY.decode(FROM_GATEWAY.encode(report)) == report
    assert FROM_SENDER.decode(FROM_SENDER.encode(paths)) == paths


def test_the_epoch_that_sounds_is_told_from_the_one_just_over_and_the_next() -> None:
    assert [numbers.sounding.number for numbers in NUMBERS] == [1, 1]


def test_a_key_is_not_in_what_an_epoch_looks_like() -> None:
    assert "key" not in repr(EPOCHS)
    assert "\\x" not in repr(REPORT.streams[0].epochs)
