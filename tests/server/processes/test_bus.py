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
    FROM_SENDERS,
    FROM_USHER,
    LATENESS_BOUNDS_US,
    TO_PRODUCER,
    Bus,
    DeclarePaths,
    DeclareProgrammes,
    EpochReport,
    GatewayReport,
    PathReport,
    ProducerReport,
    ProgrammeOrder,
    ProgrammeReport,
    SenderReport,
    StreamOrder,
    StreamReport,
    TooLongError,
    UsherReport,
    WhoIsThere,
    bus_pair,
    pack_sessions,
    unpack_sessions,
)
from server.station import MAX_PROGRAMMES
from transport.control.wire import vocabulary

ToProducer = DeclareProgrammes | WhoIsThere
Ends = tuple[Bus[ToProducer, ProducerReport], Bus[ProducerReport, ToProducer], socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Control's end, the producer's end, and the latter's bare socket."""
    one, other = bus_pair()
    with one, other:
        yield Bus(one, TO_PRODUCER, FROM_PRODUCER), Bus(other, FROM_PRODUCER, TO_PRODUCER), other


def orders(programmes: int) -> DeclareProgrammes:
    return DeclareProgrammes((ORDER,) * programmes)


STREAMS = (StreamOrder(8, 2.5, (1 << 64) - 1, clear=15), StreamOrder(9, 20.0, 0))
ORDER = ProgrammeOrder("live-1", STREAMS, "t" * 32, 24_000, 9, False, True, 20, 3)
EPOCHS = tuple(EpochReport(n, 0xFFFF_FFF0 + n, bytes([n]) * 28) for n in range(3))
NUMBERS = (
    StreamReport(8, 0xFFFF_FFFF, 0, bytes(32), EPOCHS, 7),
    StreamReport(9, 0, 0xFFFF_FFFF, bytes(range(32)), EPOCHS[1:]),
)
REPORT = ProgrammeReport("live-1", "live", -20.5, 3.25, NUMBERS)


def test_words_arrive_as_they_were_sent(ends: Ends) -> None:
    control, producer, _ = ends
    assert control.send(orders(2))
    assert producer.send(ProducerReport("life", (REPORT,)))
    assert list(producer.receive()) == [orders(2)]
    assert list(control.receive()) == [ProducerReport("life", (REPORT,))]


def test_nothing_waits_where_nothing_was_sent(ends: Ends) -> None:
    assert list(ends[0].receive()) == []


def test_messages_keep_their_order(ends: Ends) -> None:
    control, producer, _ = ends
    sent: list[ToProducer] = [WhoIsThere(), orders(1), orders(2), WhoIsThere()]
    for message in sent:
        control.send(message)
    assert list(producer.receive()) == sent


def test_a_word_of_the_other_direction_is_our_own_mistake(ends: Ends) -> None:
    with pytest.raises(TypeError):
        ends[1].send(WhoIsThere())  # type: ignore[arg-type]


def test_a_side_that_does_not_read_is_not_waited_for(ends: Ends) -> None:
    control, producer, _ = ends
    taken = 0
    while control.send(orders(60)):
        taken += 1
    assert control.undelivered == 1
    assert len(list(producer.receive())) == taken > 0
    assert control.send(orders(60))


def test_a_message_of_another_version_is_skipped_and_counted() -> None:
    @dataclass(frozen=True, slots=True)
    class DeclareMiracles:
        number: int

    one, other = bus_pair()
    with one, other:
        newer: Bus[object, object] = Bus(
            one, vocabulary(DeclareMiracles, WhoIsThere), FROM_PRODUCER
        )
        producer: Bus[ProducerReport, ToProducer] = Bus(other, FROM_PRODUCER, TO_PRODUCER)
        newer.send(DeclareMiracles(1))
        newer.send(WhoIsThere())
        assert list(producer.receive()) == [WhoIsThere()]
        assert producer.undelivered == 1


def test_a_declaration_of_every_programme_there_may_be_fits(ends: Ends) -> None:
    control, producer, _ = ends
    assert control.send(orders(MAX_PROGRAMMES))
    assert list(producer.receive()) == [orders(MAX_PROGRAMMES)]


def test_a_declaration_that_does_not_fit_is_refused_aloud_and_nothing_of_it_is_sent(
    ends: Ends,
) -> None:
    control, producer, _ = ends
    with pytest.raises(TooLongError, match="DeclareProgrammes"):
        control.send(orders(2000))
    assert list(producer.receive()) == []
    assert control.send(orders(2))


def test_several_processes_say_their_words_on_one_end() -> None:
    one, other = bus_pair()
    with one, other, other.dup() as again:
        control: Bus[WhoIsThere, SenderReport] = Bus(one, vocabulary(WhoIsThere), FROM_SENDERS)
        for end, shard in ((other, 0), (again, 1), (other, 2)):
            sender: Bus[SenderReport, WhoIsThere] = Bus(end, FROM_SENDERS, vocabulary(WhoIsThere))
            assert sender.send(sender_report(shard))
        assert list(control.receive()) == [sender_report(shard) for shard in range(3)]


def sender_report(shard: int, bounds: int = len(LATENESS_BOUNDS_US)) -> SenderReport:
    return SenderReport("life", shard, 5, 0, 1, 2, (1,) * (bounds + 1), 7, 0, 3, 10_000)


def test_a_lateness_of_other_bounds_is_no_report() -> None:
    with pytest.raises(ValueError, match="one count a bound"):
        sender_report(0, bounds=3)


def test_the_other_end_s_death_is_no_error(ends: Ends) -> None:
    control, _, other = ends
    other.close()
    assert not control.send(WhoIsThere())
    assert list(control.receive()) == []


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=20))
def test_packed_sessions_come_out_as_they_were(sessions: list[int]) -> None:
    assert unpack_sessions(pack_sessions(sessions)) == tuple(sessions)


def test_half_a_session_is_none() -> None:
    with pytest.raises(ValueError, match="session"):
        unpack_sessions(pack_sessions([1, 2])[:-1])


def test_what_usher_and_gateway_say_arrives_as_it_was_said() -> None:
    paths = DeclarePaths((PathReport(1, "2001:db8::1", 40_000),), (2, 3))
    usher = UsherReport("life", 1, 2, 3, 4, 0.5, 6, 7)
    gateway = GatewayReport("life", pack_sessions([1, (1 << 64) - 1]), 2, 3, 4)
    for word in (paths, usher):
        assert FROM_USHER.decode(FROM_USHER.encode(word)) == word
    assert FROM_GATEWAY.decode(FROM_GATEWAY.encode(gateway)) == gateway


def test_the_epoch_that_sounds_is_told_from_the_one_just_over_and_the_next() -> None:
    assert [numbers.sounding.number for numbers in NUMBERS] == [1, 1]


def test_a_key_is_not_in_what_an_epoch_looks_like() -> None:
    assert "key" not in repr(EPOCHS)
    assert "\\x" not in repr(REPORT.streams[0].epochs)
