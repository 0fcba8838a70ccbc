"""What a loudspeaker announces and answers; the packets are read with another responder's eyes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.discovery import packets
from transport.discovery.packets import IN, UNIQUE, Incoming, Question, Record, Type, ask
from transport.discovery.records import SPEAKER_TYPE, FoundSpeaker, found_speaker
from transport.discovery.respond import Reply, Responder, SpeakerAdvert

ADVERT = SpeakerAdvert("Phòng khách.1", "", "10.0.0.5", "00:11:22:33:44:55")
FOR_TYPE = Question(SPEAKER_TYPE, Type.PTR, IN)
FOR_TYPE_ALONE = Question(SPEAKER_TYPE, Type.PTR, IN | UNIQUE)


def reply_to(
    *questions: Question, port: int = 5353, lately: bool = True, query: bytes | None = None
) -> Reply:
    data = ask(questions) if query is None else query
    return Responder().answer(data, port, ADVERT, multicast_lately=lately)


def read(data: bytes | None) -> Incoming:
    assert data is not None
    packet = packets.parse(data)
    assert packet is not None
    assert packet.is_response()
    return packet


def types(records: list[Record]) -> list[int]:
    return [record.type for record in records]


def test_the_announcement_says_everything() -> None:
    pointer, service, text, address = read(ADVERT.announcement()).answers()
    assert isinstance(pointer, packets.Pointer)
    assert isinstance(service, packets.Service)
    assert isinstance(text, packets.Text)
    assert isinstance(address, packets.Address)
    assert pointer.name == SPEAKER_TYPE
    assert pointer.alias == service.name == text.name
    assert (service.port, service.server) == (0, address.name)
    assert address.address == bytes([10, 0, 0, 5])
    assert found_speaker(text.text, "10.0.0.5") == FoundSpeaker("Phòng khách.1", "10.0.0.5", None)


def test_only_what_is_of_one_loudspeaker_alone_makes_others_forget() -> None:
    assert [r.unique for r in read(ADVERT.announcement()).answers()] == [False, True, True, True]


def test_the_goodbye_is_the_announcement_with_no_time_to_live() -> None:
    goodbye, announcement = read(ADVERT.goodbye()).answers(), read(ADVERT.announcement()).answers()
    assert goodbye == announcement
    assert {r.ttl for r in goodbye} == {0}
    assert {r.ttl for r in announcement} == {120}


def test_two_of_one_name_on_two_machines_are_two_and_each_stays_itself() -> None:
    other = replace(ADVERT, identity="00:11:22:33:44:66")
    again = replace(ADVERT, station="10.0.0.1:7460", address="10.0.0.6")
    assert other.instance != ADVERT.instance
    assert other.host != ADVERT.host
    assert (again.instance, again.host) == (ADVERT.instance, ADVERT.host)


@pytest.mark.parametrize(
    "question",
    [
        FOR_TYPE,
        Question(SPEAKER_TYPE.upper(), Type.PTR, IN),
        Question(SPEAKER_TYPE, Type.ANY, 255),
        Question("_services._dns-sd._udp.local.", Type.PTR, IN),
        Question(ADVERT.instance, Type.SRV, IN),
        Question(ADVERT.instance, Type.TXT, IN),
        Question(ADVERT.host, Type.A, IN),
    ],
)
def test_what_is_ours_is_answered_to_all(question: Question) -> None:
    assert reply_to(question) == Reply(announce=True)


@pytest.mark.parametrize(
    "question",
    [
        Question("_loa._tcp.local.", Type.PTR, IN),
        Question(SPEAKER_TYPE, Type.SRV, IN),
        Question(SPEAKER_TYPE, Type.PTR, 3),
        Question(ADVERT.host, 28, IN),
    ],
    ids=["stations", "type", "class", "IPv6"],
)
def test_what_is_not_ours_is_not_answered(question: Question) -> None:
    assert reply_to(question) == Reply()


def test_who_knows_already_is_not_told() -> None:
    query = packets.Outgoing(0)
    query.add_question(FOR_TYPE)
    query.add_answer_at_time(packets.pointer(SPEAKER_TYPE, 61, ADVERT.instance), 0)
    assert reply_to(query=query.packets()[0]) == Reply()


def test_who_will_have_forgotten_soon_is_told() -> None:
    query = packets.Outgoing(0)
    query.add_question(FOR_TYPE)
    query.add_answer_at_time(packets.pointer(SPEAKER_TYPE, 59, ADVERT.instance), 0)
    assert reply_to(query=query.packets()[0]) == Reply(announce=True)


def test_who_wants_to_be_told_alone_is() -> None:
    answer = read(reply_to(FOR_TYPE_ALONE).unicast)
    assert answer.id == 0
    assert answer.questions == []
    assert types(answer.answers()) == [Type.PTR, Type.SRV, Type.TXT, Type.A]


def test_all_are_told_if_they_have_not_been_lately_or_one_question_is_for_all() -> None:
    assert reply_to(FOR_TYPE_ALONE, lately=False) == Reply(announce=True)
    for_all = Question(ADVERT.host, Type.A, IN)
    assert reply_to(FOR_TYPE_ALONE, for_all) == Reply(announce=True)


def test_a_stock_resolver_is_answered_as_one() -> None:
    query = packets.Outgoing(0, multicast=False, id_=4711)
    query.add_question(Question(ADVERT.host, Type.A, IN))
    answer = read(reply_to(query=query.packets()[0], port=40_000).unicast)
    assert answer.id == 4711
    assert [q.name for q in answer.questions] == [ADVERT.host]
    assert answer.num_answers == 1
    assert answer.answers()[0].type == Type.A
    assert not any(r.unique for r in answer.answers())
    assert max(r.ttl for r in answer.answers()) <= 10


def test_a_question_that_cannot_be_repeated_is_not() -> None:
    odd = b"\x3f" + b"\xff" * 63 + b"\0\0\x01\0\x01"
    good = ask([Question(ADVERT.host, Type.A, IN)])[12:]
    answer = reply_to(query=b"\0\x01\0\0\0\x02\0\0\0\0\0\0" + odd + good, port=40_000)
    assert [q.name for q in read(answer.unicast).questions] == [ADVERT.host]


def test_answers_of_others_are_not_answered() -> None:
    assert reply_to(query=ADVERT.announcement()) == Reply()


def test_the_longest_name_fits_one_datagram() -> None:
    longest = replace(ADVERT, name="𠀀" * 64, station=f"{'a' * 253}:65535")
    assert len(longest.announcement()) < 1460
    assert len(read(longest.announcement()).answers()) == 4


@given(st.binary(max_size=300), st.booleans(), st.sampled_from([5353, 40_000]))
def test_noise_never_raises(noise: bytes, after_a_head: bool, port: int) -> None:
    data = b"\0\0\0\0\0\x02\0\0\0\0\0\0" + noise if after_a_head else noise
    Responder().answer(data, port, ADVERT, multicast_lately=True)


@given(st.data())
def test_a_damaged_query_never_raises(data: st.DataObject) -> None:
    whole = bytearray(ask([FOR_TYPE, Question(ADVERT.instance, Type.ANY, IN | UNIQUE)]))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    port = data.draw(st.sampled_from([5353, 40_000]))
    Responder().answer(bytes(whole), port, ADVERT, multicast_lately=True)


def test_what_is_no_packet_is_counted() -> None:
    responder = Responder()
    responder.answer(b"\0", 5353, ADVERT, multicast_lately=True)
    assert responder.dropped == {"malformed": 1}
