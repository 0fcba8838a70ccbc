"""Programmes there shall be, against programmes there are; time is an argument."""

import gc
import itertools
import weakref
from dataclasses import replace

import numpy as np
import pytest

from server.bus import DeclareProgrammes, ProgrammeOrder, ProgrammeReport, StreamOrder
from server.producer.programme import ENDED, LIVE, WAITING, Programme, StreamNumbers
from server.producer.registry import Registry
from server.ring import RTCP, Entry
from transport.clock.timeline import NS_PER_SECOND
from transport.rtp.rtcp import Bye, parse_compound

ORDER = ProgrammeOrder("live-1", (StreamOrder(1, 10.0),), "ticket-1", 24_000, 9, False, False, 0)
OTHER = replace(ORDER, programme="live-2", streams=(StreamOrder(2, 10.0),), ticket="ticket-2")
SOUND = np.full(480, 0.1, np.float32)
FIVE_S = 5 * NS_PER_SECOND


def ssrc_of(report: ProgrammeReport) -> int:
    (stream,) = report.streams
    return stream.ssrc


class Room:
    """A registry and all that its programmes wrote."""

    def __init__(self) -> None:
        self.written: list[Entry] = []
        self._numbers = (StreamNumbers(n, n, n) for n in itertools.count(1000))
        self.registry = Registry("first life", self._build)

    def _build(self, order: ProgrammeOrder) -> Programme:
        return Programme(order, lambda: next(self._numbers), lambda: 0.5, self.written.append)

    def declare(self, *orders: ProgrammeOrder) -> None:
        self.registry.declare(DeclareProgrammes(orders))

    def claim(self, ticket: str = ORDER.ticket, speaker: object = "somebody") -> Programme:
        programme = self.registry.claim(ticket, speaker)
        assert programme is not None
        return programme

    def reports(self, now_ns: int = 0) -> dict[str, ProgrammeReport]:
        return {item.programme: item for item in self.registry.report(now_ns).programmes}

    def goodbyes(self) -> list[int]:
        return [
            ssrc
            for entry in self.written
            if entry.kind == RTCP
            for packet in parse_compound(entry.datagram)
            if isinstance(packet, Bye)
            for ssrc in packet.ssrcs
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
    room.declare(replace(ORDER, streams=(*ORDER.streams, StreamOrder(3, 20.0))))
    assert before.state == ENDED
    assert [stream.stream for stream in room.reports()["live-1"].streams] == [1, 3]


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
    room.declare(replace(ORDER, streams=(StreamOrder(1, 7.0),)), OTHER)
    reports = room.reports()
    assert reports["live-1"].state == ENDED
    assert reports["live-2"].state == WAITING
    assert room.registry.claim(ORDER.ticket, "somebody") is None


def test_an_order_that_was_refused_can_be_mended(room: Room) -> None:
    room.declare(replace(ORDER, bitrate=6000, streams=(StreamOrder(1, 2.5),)))
    room.declare(ORDER)
    assert room.reports()["live-1"].state == WAITING


def test_a_refused_order_is_forgotten_with_its_declaration(room: Room) -> None:
    room.declare(replace(ORDER, streams=(StreamOrder(1, 7.0),)))
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
