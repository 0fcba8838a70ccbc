"""The producer's conversation with control, on the sockets it is born with; in a thread."""

import os
import secrets
import select
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from server.processes.bus import (
    FROM_PRODUCER,
    TO_PRODUCER,
    Bus,
    DeclareProgrammes,
    ProducerReport,
    ProgrammeOrder,
    StreamOrder,
    TicketRefusal,
    TicketRefusals,
    WhoIsThere,
)
from server.processes.child import Birth, adopt
from server.producer import __main__ as module
from server.producer.programme import Programme
from server.producer.refusals import Refusals
from server.producer.registry import Registry
from transport.net.clocks import MediaClock

ORDER = ProgrammeOrder("live-1", (StreamOrder(1, 10.0, 1),), "ticket", 24_000, 9, False, False, 0)
# Never waited for unless something is broken.
PATIENCE_S = 20.0


class Talk:
    """A producer that talks, and control's end of the bus."""

    def __init__(self, births: dict[str, Birth], lifeline: int, held: ExitStack) -> None:
        birth = replace(births["server.producer"], lifeline=lifeline)
        self.told: list[TicketRefusal] = []
        self.bus: Bus[DeclareProgrammes | WhoIsThere, ProducerReport | TicketRefusals] = Bus(
            held.enter_context(adopt(births["server"].producer_bus)), TO_PRODUCER, FROM_PRODUCER
        )
        self.changed = os.eventfd(0, os.EFD_NONBLOCK)
        held.callback(os.close, self.changed)
        registry = Registry("life", self._build)
        self.refusals = Refusals()
        clock = MediaClock(birth.media_epoch_ns)
        self.thread = threading.Thread(
            target=module._talk, args=(birth, registry, self.refusals, clock, self.changed)
        )
        self.thread.start()

    @staticmethod
    def _build(order: ProgrammeOrder) -> Programme:
        return Programme(order, secrets.token_bytes, lambda: 0.5, lambda _: None)

    def report(self) -> ProducerReport:
        """The newest of those that wait, or the next."""
        assert select.select([self.bus], [], [], PATIENCE_S)[0]
        reports = []
        for message in self.bus.receive():
            match message:
                case ProducerReport():
                    reports.append(message)
                case TicketRefusals():
                    self.told += message.refusals
        return reports[-1] if reports else self.report()

    def report_on(self, *programmes: str) -> ProducerReport:
        """The first report on exactly these."""
        while True:
            report = self.report()
            if tuple(item.programme for item in report.programmes) == programmes:
                return report


@pytest.fixture
def talk(births: dict[str, Birth], monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    lifeline, end = os.pipe()
    with ExitStack() as held:
        held.callback(os.close, lifeline)
        # A process keeps what it has adopted until its end; a test must not.
        monkeypatch.setattr(module, "adopt", lambda fd: held.enter_context(adopt(fd)))
        talk = Talk(births, lifeline, held)
        try:
            yield talk
        finally:
            os.close(end)
            talk.thread.join(PATIENCE_S)
            assert not talk.thread.is_alive(), "the cut lifeline did not end it"


def test_it_reports_when_it_begins_and_goes_on_reporting(talk: Talk) -> None:
    assert talk.report() == talk.report() == ProducerReport("life", ())


def test_it_reports_at_once_on_what_was_declared(talk: Talk) -> None:
    talk.bus.send(DeclareProgrammes((ORDER,)))
    (item,) = talk.report_on("live-1").programmes
    assert item.state == "waiting"


def test_what_is_no_longer_declared_is_no_longer_reported(talk: Talk) -> None:
    talk.bus.send(DeclareProgrammes((ORDER,)))
    talk.report_on("live-1")
    talk.bus.send(DeclareProgrammes(()))
    talk.report_on()


@pytest.mark.parametrize(
    "poison",
    [
        replace(ORDER, streams=(StreamOrder(1, 7.0, 1),)),
        replace(ORDER, streams=(StreamOrder(1, float("nan"), 1),)),
        replace(ORDER, streams=(StreamOrder(1, 2.5, 1),), bitrate=6000),
        replace(ORDER, streams=(StreamOrder(1, 60.0, 1),), bitrate=510_000),
        replace(ORDER, bitrate=-1),
        replace(ORDER, complexity=99),
        replace(ORDER, expected_loss_percent=-1),
    ],
)
def test_it_survives_whatever_it_is_told(talk: Talk, poison: ProgrammeOrder) -> None:
    good = replace(ORDER, programme="live-2", ticket="other")
    talk.bus.send(DeclareProgrammes((poison, good)))
    report = talk.report_on("live-2", "live-1")
    assert [item.state for item in report.programmes] == ["waiting", "ended"]


def test_a_change_is_reported_before_its_time(talk: Talk) -> None:
    talk.report()
    for _ in range(20):  # would take five seconds otherwise
        os.eventfd_write(talk.changed, 1)
        talk.report()


def test_other_keys_are_reported_at_once(talk: Talk) -> None:
    talk.bus.send(DeclareProgrammes((ORDER,)))
    (before,) = talk.report_on("live-1").programmes
    talk.bus.send(DeclareProgrammes((replace(ORDER, rekey=1),)))
    while True:
        (after,) = talk.report_on("live-1").programmes
        if after.streams != before.streams:
            break
    assert after.streams[0].public == before.streams[0].public


def test_control_is_told_whom_the_producer_has_refused(talk: Talk) -> None:
    for _ in range(3):
        talk.refusals.refuse("192.0.2.1", "no such ticket")
    while sum(refusal.times for refusal in talk.told) < 3:
        talk.report()
    assert {(told.address, told.why) for told in talk.told} == {("192.0.2.1", "no such ticket")}
