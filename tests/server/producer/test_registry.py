"""Programmes there shall be, against programmes there are; time is an argument."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from server.processes.bus import DeclareProgrammes, ProgrammeOrder, ProgrammeReport, StreamOrder
from server.processes.ring import RTCP, Entry
from server.producer.programme import ENDED, LIVE, WAITING, Programme
from server.producer.registry import Registry
from tests.support.produced import seeded
from transport.clock.timeline import NS_PER_SECOND
from transport.recovery.erasure import Code

ORDER = ProgrammeOrder("live-1", (StreamOrder(1, 10.0, 1),), "ticket-1", 24_000, 9, False, False, 0)
OTHER = replace(ORDER, programme="live-2", streams=(StreamOrder(2, 10.0, 2),), ticket="ticket-2")
SOUND = np.full(480, 0.1, np.float32)
# With nothing heard in it, it begins the compound that says goodbye, and no other.
RECEIVER_REPORT = 201
FIVE_S = 5 * NS_PER_SECOND


def ssrc_of(report: ProgrammeReport) -> int:
    (stream,) = report.streams
    return stream.ssrc


class Room:
    """A registry and all that its programmes wrote."""

    def __init__(self) -> None:
        self.written: list[Entry] = []
        self._draw = seeded()
        self.registry = Registry("first life", self._build)

    def _build(self, order: ProgrammeOrder) -> Programme:
        return Programme(order, self._draw, lambda: 0.5, self.written.append)

    def declare(self, *orders: ProgrammeOrder, now_ns: int = 0) -> None:
        self.registry.declare(DeclareProgrammes(orders), now_ns)

    def claim(self, ticket: str = ORDER.ticket, speaker: object = "somebody") -> Programme:
        programme = self.registry.claim(ticket, speaker)
        assert programme is not None
        return programme

    def reports(self, now_ns: int = 0) -> dict[str, ProgrammeReport]:
        return {item.programme: item for item in self.registry.report(now_ns).programmes}

    def goodbyes(self) -> list[int]:
        """The SSRCs of the sealed streams that had something said last."""
        return [
            int.from_bytes(entry.datagram[4:8])  # which SRTCP leaves in clear
            for entry in self.written
            if entry.kind == RTCP and entry.datagram[1] == RECEIVER_REPORT
        ]


@pytest.fixture
def room() -> Room:
    return Room()


def test_a_declared_programme_waits_for_its_voice(room: Room) -> None:
    room.declare(ORDER)
    assert room.reports()["live-1"].state == WAITING


def test_every_report_names_this_life(room: Room) -> None:
    assert room.registry.report(0).instance == "first life"


def test_the_ticket_opens_its_programme_and_no_other(room: Room) -> None:
    room.declare(ORDER, OTHER)
    assert room.claim("ticket-2").order == OTHER


@pytest.mark.parametrize("ticket", ["", "ticket", "ticket-3", "live-1"])
def test_an_unknown_ticket_is_refused(room: Room, ticket: str) -> None:
    room.declare(ORDER, OTHER)
    assert room.registry.claim(ticket, "somebody") is None


def test_an_ended_programme_cannot_be_claimed_again(room: Room) -> None:
    room.declare(ORDER)
    room.claim().finish()
    assert room.registry.claim(ORDER.ticket, "somebody") is None


def test_a_new_speaker_with_the_same_ticket_takes_over(room: Room) -> None:
    room.declare(ORDER)
    first, second = room.claim(speaker="first"), room.claim(speaker="second")
    assert first is second
    assert not room.registry.speaks(first, "first")
    assert room.registry.speaks(first, "second")


def test_what_is_declared_again_goes_on_untouched(room: Room) -> None:
    room.declare(ORDER)
    before = room.claim()
    room.declare(ORDER, OTHER)
    assert room.claim() is before
    assert room.goodbyes() == []


def test_what_is_no_longer_declared_ends_with_a_goodbye(room: Room) -> None:
    room.declare(ORDER, OTHER)
    programme = room.claim()
    room.declare(OTHER)
    assert programme.state == ENDED
    assert room.goodbyes() == [ssrc_of(programme.report())]
    assert list(room.reports()) == ["live-2"]


def test_a_programme_declared_anew_has_fresh_numbers(room: Room) -> None:
    room.declare(ORDER)
    before = room.reports()["live-1"]
    room.declare()
    room.declare(ORDER)
    after = room.reports()["live-1"]
    assert before.streams[0].ssrc != after.streams[0].ssrc
    assert before.streams[0].timestamp_offset != after.streams[0].timestamp_offset


def test_a_name_that_comes_with_another_ticket_is_another_programme(room: Room) -> None:
    # A station that lost its memory counts from one again.
    room.declare(ORDER)
    before = room.claim()
    room.declare(replace(ORDER, ticket="another"))
    assert before.state == ENDED
    assert room.registry.claim(ORDER.ticket, "somebody") is None
    assert ssrc_of(room.claim("another").report()) != ssrc_of(before.report())


def test_a_programme_that_comes_with_other_encodings_is_another(room: Room) -> None:
    room.declare(ORDER)
    before = room.claim()
    room.declare(replace(ORDER, streams=(*ORDER.streams, StreamOrder(3, 20.0, 3))))
    assert before.state == ENDED
    assert [stream.stream for stream in room.reports()["live-1"].streams] == [1, 3]


def test_other_keys_are_no_other_programme(room: Room) -> None:
    room.declare(ORDER, OTHER)
    programme = room.claim()
    programme.feed(0, SOUND, 0)
    before = room.reports()
    room.declare(replace(ORDER, rekey=1), OTHER)
    after = room.reports()
    assert room.registry.speaks(programme, "somebody")
    assert not room.registry.is_over(ORDER.ticket)
    assert room.claim() is programme
    assert room.goodbyes() == []
    was, now = before["live-1"].streams[0], after["live-1"].streams[0]
    assert (now.public, now.ssrc, now.sounding) == (was.public, was.ssrc, was.sounding)
    assert now.epochs[-1].key != was.epochs[-1].key
    assert after["live-2"] == before["live-2"]


def test_other_copies_are_no_other_programme_and_change_no_key(room: Room) -> None:
    room.declare(ORDER, OTHER)
    programme = room.claim()
    programme.feed(0, SOUND, 0)
    before = room.reports()
    other = replace(ORDER.streams[0], copies=(480,), code=Code(4, 4))
    adapted = replace(ORDER, streams=(other,))
    room.declare(adapted, OTHER)
    assert room.claim() is programme
    assert programme.order == adapted
    assert room.goodbyes() == []
    assert room.reports() == before


def test_other_keys_and_other_copies_may_come_in_one_order(room: Room) -> None:
    room.declare(ORDER)
    programme, before = room.claim(), room.reports()["live-1"].streams[0]
    both = replace(ORDER, rekey=1, streams=(replace(ORDER.streams[0], copies=(480,)),))
    room.declare(both)
    after = room.reports()["live-1"].streams[0]
    assert (room.claim(), programme.order) == (programme, both)
    assert after.public == before.public
    assert after.epochs[-1].key != before.epochs[-1].key


def test_the_same_order_again_changes_no_key(room: Room) -> None:
    room.declare(replace(ORDER, rekey=1))
    before = room.reports()
    room.declare(replace(ORDER, rekey=1))
    assert room.reports() == before


def test_what_is_to_be_otherwise_and_to_have_other_keys_is_another_programme(room: Room) -> None:
    room.declare(ORDER)
    before = room.reports()["live-1"]
    room.declare(replace(ORDER, rekey=1, bitrate=32_000))
    assert room.reports()["live-1"].streams[0].public != before.streams[0].public


def test_a_programme_whose_source_broke_off_ends_after_five_seconds(room: Room) -> None:
    room.declare(ORDER)
    programme = room.claim()
    programme.feed(0, SOUND, 0)
    room.registry.abandon(programme, "somebody", 1000)
    assert room.reports(1000 + FIVE_S)["live-1"].state == LIVE
    assert room.reports(1001 + FIVE_S)["live-1"].state == ENDED
    assert len(room.goodbyes()) == 1


def test_a_source_that_comes_back_in_time_keeps_its_programme(room: Room) -> None:
    room.declare(ORDER)
    programme = room.claim(speaker="before")
    programme.feed(0, SOUND, 0)
    room.registry.abandon(programme, "before", 0)
    room.claim(speaker="after")
    assert room.reports(100 * FIVE_S)["live-1"].state == LIVE


def test_a_speaker_who_has_lost_the_word_abandons_nothing(room: Room) -> None:
    room.declare(ORDER)
    programme = room.claim(speaker="first")
    programme.feed(0, SOUND, 0)
    room.claim(speaker="second")
    room.registry.abandon(programme, "first", 0)
    assert room.reports(100 * FIVE_S)["live-1"].state == LIVE


def test_an_order_that_no_encoder_takes_is_reported_ended_and_the_others_live(room: Room) -> None:
    room.declare(replace(ORDER, streams=(StreamOrder(1, 7.0, 1),)), OTHER)
    reports = room.reports()
    assert reports["live-1"].state == ENDED
    assert reports["live-2"].state == WAITING
    assert room.registry.claim(ORDER.ticket, "somebody") is None


def test_an_order_that_was_refused_can_be_mended(room: Room) -> None:
    room.declare(replace(ORDER, bitrate=6000, streams=(StreamOrder(1, 2.5, 1),)))
    room.declare(ORDER)
    assert room.reports()["live-1"].state == WAITING


def test_a_refused_order_is_forgotten_with_its_declaration(room: Room) -> None:
    room.declare(replace(ORDER, streams=(StreamOrder(1, 7.0, 1),)))
    room.declare()
    assert room.reports() == {}


def test_nobody_is_remembered_as_speaking_in_what_is_over(room: Room) -> None:
    class Connection:
        pass

    speaker = Connection()
    gone = weakref.ref(speaker)
    room.declare(ORDER)
    room.claim(speaker=speaker)
    room.declare()
    del speaker
    gc.collect()
    assert gone() is None
