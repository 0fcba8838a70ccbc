"""Whom the producer refuses is counted until control is told, and told in few words."""

from server.processes.bus import FROM_PRODUCER, TicketRefusal, TicketRefusals
from server.producer.refusals import Refusals
from transport.control.wire import MAX_MESSAGE_BYTES


def test_each_address_and_reason_is_counted_once() -> None:
    refusals = Refusals()
    for _ in range(3):
        refusals.refuse("192.0.2.1", "no")
    refusals.refuse("192.0.2.1", "over")
    refusals.refuse("192.0.2.2", "no")
    taken = refusals.take()
    assert taken == (
        TicketRefusal("192.0.2.1", "no", 3),
        TicketRefusal("192.0.2.1", "over", 1),
        TicketRefusal("192.0.2.2", "no", 1),
    )
    assert refusals.take() == ()
    refusals.refuse("192.0.2.2", "no")
    refusals.put_back(taken)
    assert sum(refusal.times for refusal in refusals.take()) == 6


def test_a_flood_from_everywhere_fits_one_message_and_loses_no_number() -> None:
    refusals = Refusals()
    for number in range(10_000):
        refusals.refuse(f"2001:db8:1234:5678:9abc:def0:{number:04x}:1", "x" * 64)
    taken = refusals.take()
    assert len(taken) == 65
    assert sum(refusal.times for refusal in taken) == 10_000
    assert [refusal.address for refusal in taken].count("") == 1
    assert len(FROM_PRODUCER.encode(TicketRefusals(taken))) < MAX_MESSAGE_BYTES / 4
