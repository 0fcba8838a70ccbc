"""The station's state and what follows from it. No sockets, no clocks; `now` is an argument."""

import itertools
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.bus import (
    FROM_PRODUCER,
    TO_PRODUCER,
    Destination,
    ProducerReport,
    ProgrammeReport,
    Route,
    unpack_destinations,
)
from server.station import (
    ALL,
    MAX_PROGRAMMES,
    LiveRequest,
    NoGroupError,
    Programme,
    Station,
    StationError,
    UnknownSpeakerError,
)
from transport.control.messages import TO_SPEAKER, Hello
from transport.control.wire import MAX_MESSAGE_BYTES

S = 1_000_000_000
MS = 1_000_000
TO_ALL = LiveRequest((ALL,))


def a_station(groups: str = "239.192.76.0/24") -> Station:
    tickets = (f"ticket-{n}" for n in itertools.count(1))
    return Station(groups, 5004, lambda: next(tickets), first_group=3)


@pytest.fixture
def station() -> Station:
    return a_station()


def join(
    station: Station,
    name: str,
    *,
    multicast: bool = False,
    address: str = "192.0.2.1",
    port: int = 50_000,
    now_ns: int = 0,
) -> object:
    """A loudspeaker joins; the session it holds its name with."""
    session = object()
    station.join(Hello(1, name, multicast, port), address, session, now_ns)
    return session


def report_of(
    programme: Programme, state: str = "live", ssrc: int = 77, offset: int = 9
) -> ProducerReport:
    item = ProgrammeReport(programme.name, state, ssrc, offset, -20.0, 1.0)
    return ProducerReport("life", (item,))


def on_air(
    station: Station, request: LiveRequest = TO_ALL, *, ssrc: int = 77, now_ns: int = 0
) -> Programme:
    """A programme that the producer has begun."""
    programme = station.open(request, now_ns)
    station.update(report_of(programme, ssrc=ssrc), now_ns)
    return programme


def names(station: Station, speaker: str) -> list[str]:
    return [spec.programme for spec in station.listen(speaker, 1).streams]


def routes(station: Station) -> dict[int, Route]:
    declared = station.routes(lambda programme: f"SDP of {programme.name}")
    return {route.stream: route for route in declared.routes}


# ------------------------------------------------------------------ loudspeakers
def test_a_name_is_held_by_the_session_that_was_heard_of_lately(station: Station) -> None:
    join(station, "a", address="192.0.2.1")
    with pytest.raises(StationError, match=r"'a' is in use by a loudspeaker at 192\.0\.2\.1"):
        join(station, "a", address="192.0.2.2", now_ns=3 * S - 1)
    assert station.speakers["a"].address == "192.0.2.1"


def test_a_name_whose_session_has_fallen_silent_may_be_taken_over(station: Station) -> None:
    join(station, "a", address="192.0.2.1")
    session = join(station, "a", address="192.0.2.2", now_ns=3 * S)
    assert station.speakers["a"].address == "192.0.2.2"
    assert station.speakers["a"].session is session


def test_whoever_has_left_may_come_back_at_once(station: Station) -> None:
    station.leave("a", join(station, "a"))
    join(station, "a", address="192.0.2.2")
    assert station.speakers["a"].address == "192.0.2.2"


def test_a_session_that_lost_its_name_cannot_send_the_new_one_away(station: Station) -> None:
    old = join(station, "a")
    new = join(station, "a", now_ns=10 * S)
    station.leave("a", old)
    assert station.speakers["a"].session is new


def test_to_leave_without_having_joined_is_nothing(station: Station) -> None:
    station.leave("a", object())
    assert station.speakers == {}


@pytest.mark.parametrize("address", ["", "::1", "localhost", "192.0.2.1.5"])
def test_a_loudspeaker_that_cannot_be_sent_to_cannot_join(station: Station, address: str) -> None:
    with pytest.raises(StationError, match="IPv4"):
        join(station, "a", address=address)
    assert station.speakers == {}


# ------------------------------------------------------------------ tickets
def test_each_programme_has_its_own_name_number_ticket_and_group(station: Station) -> None:
    programmes = [station.open(TO_ALL, 0) for _ in range(20)]
    for field in ("name", "number", "ticket", "group"):
        assert len({getattr(p, field) for p in programmes}) == 20


def test_an_unknown_name_is_answered_with_the_nearest(station: Station) -> None:
    for name in ("market", "school", "hamlet-1", "hamlet-2"):
        join(station, name)
    with pytest.raises(UnknownSpeakerError, match="'hamlet-3'; nearest: hamlet-") as caught:
        station.open(LiveRequest(("market", "hamlet-3")), 0)
    assert "market" not in str(caught.value).partition("nearest")[2]


def test_a_name_like_no_other_is_answered_with_a_few_of_those_there_are(station: Station) -> None:
    for number in range(9):
        join(station, f"speaker-{number}")
    with pytest.raises(UnknownSpeakerError, match=r"nearest: speaker-0.*speaker-4$"):
        station.open(LiveRequest(("xyz",)), 0)


def test_where_nobody_has_joined_an_unknown_name_is_answered_so(station: Station) -> None:
    with pytest.raises(UnknownSpeakerError, match="none has joined yet"):
        station.open(LiveRequest(("a",)), 0)


def test_a_line_break_in_a_name_stays_out_of_the_one_line(station: Station) -> None:
    with pytest.raises(UnknownSpeakerError) as caught:
        station.open(LiveRequest(("a\nb",)), 0)
    assert "\n" not in str(caught.value)


def test_a_voice_for_nobody_is_refused(station: Station) -> None:
    with pytest.raises(StationError, match="to whom"):
        station.open(LiveRequest(()), 0)


def test_all_may_be_addressed_before_anybody_has_joined(station: Station) -> None:
    programme = on_air(station)
    join(station, "late")
    assert names(station, "late") == [programme.name]


def test_when_every_group_is_in_use_a_voice_is_refused_and_told_of_which_range() -> None:
    station = a_station("239.192.76.8/30")
    groups = {station.open(TO_ALL, 0).group for _ in range(4)}
    assert groups == {f"239.192.76.{n}" for n in range(8, 12)}
    with pytest.raises(NoGroupError, match=r"every multicast group of 239\.192\.76\.8/30"):
        station.open(TO_ALL, 0)


def test_a_group_is_free_again_when_its_programme_has_gone() -> None:
    station = a_station("239.192.76.8/32")
    station.open(TO_ALL, 0)
    station.expire(16 * S)
    assert station.open(TO_ALL, 16 * S).group == "239.192.76.8"


def test_there_are_no_more_programmes_than_a_declaration_carries(station: Station) -> None:
    for _ in range(MAX_PROGRAMMES):
        station.open(TO_ALL, 0)
    with pytest.raises(StationError, match="wait for an end"):
        station.open(TO_ALL, 0)


@pytest.mark.parametrize("wrong", [LiveRequest(("nobody",)), LiveRequest(())])
def test_a_refused_request_changes_nothing(station: Station, wrong: LiveRequest) -> None:
    join(station, "a")
    before = station.to_plain()
    with pytest.raises(StationError):
        station.open(wrong, 0)
    assert station.to_plain() == before


def test_a_request_refused_for_want_of_a_group_changes_nothing() -> None:
    station = a_station("239.192.76.8/32")
    station.open(TO_ALL, 0)
    before = station.to_plain()
    with pytest.raises(NoGroupError):
        station.open(TO_ALL, 0)
    assert station.to_plain() == before


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"frame_ms": 7.0}, "frame_ms must be one of"),
    ({"frame_ms": float("nan")}, "frame_ms must be one of"),
    ({"bitrate": 6000, "frame_ms": 2.5}, "bitrate must be from 9600"),
    ({"bitrate": 510_000, "frame_ms": 60.0, "playout_delay_ms": 500.0}, "bitrate must be at most"),
    ({"complexity": 11}, "complexity must be"),
    ({"expected_loss_percent": 101}, "expected_loss_percent must be"),
    ({"frame_ms": 60.0}, "all sound would be late"),  # after the usual 40 ms
    ({"playout_delay_ms": float("nan")}, "playout_delay_ms must be"),
]


@pytest.mark.parametrize(("wrong", "why"), WRONG)
def test_a_request_that_could_never_sound_cannot_be_made(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        LiveRequest((ALL,), **wrong)


# ------------------------------------------------------------------ what is listened to
def test_nobody_listens_before_the_producer_has_numbered_the_stream(station: Station) -> None:
    join(station, "a")
    station.open(TO_ALL, 0)
    assert names(station, "a") == []
    assert routes(station) == {}


def test_a_unicast_loudspeaker_is_told_neither_group_nor_port(station: Station) -> None:
    join(station, "a", multicast=False)
    request = LiveRequest(("a",), frame_ms=20.0, inband_fec=True, playout_delay_ms=100.0)
    programme = on_air(station, request)
    (spec,) = station.listen("a", 5).streams
    assert (spec.group, spec.port) == (None, None)
    assert (spec.programme, spec.order) == (programme.name, programme.number)
    assert (spec.ssrc, spec.timestamp_offset) == (77, 9)
    assert (spec.frame_ms, spec.inband_fec, spec.playout_delay_ms) == (20.0, True, 100.0)


def test_a_multicast_loudspeaker_is_told_the_group(station: Station) -> None:
    join(station, "a", multicast=True)
    programme = on_air(station)
    (spec,) = station.listen("a", 5).streams
    assert (spec.group, spec.port) == (programme.group, 5004)


def test_unicast_rtp_and_rtcp_go_to_the_loudspeaker_s_one_port(station: Station) -> None:
    join(station, "a", address="192.0.2.1", port=50_001)
    join(station, "b", address="192.0.2.2", port=50_002)
    programme = on_air(station, LiveRequest(("b",)))
    route = routes(station)[programme.number]
    assert unpack_destinations(route.destinations) == (Destination("192.0.2.2", 50_002, 50_002),)
    assert (route.group, route.announce) == (None, None)


def test_a_group_is_sent_to_once_with_rtcp_beside_it_and_announced(station: Station) -> None:
    join(station, "a", multicast=True)
    join(station, "b", multicast=True)
    join(station, "c", multicast=False, address="192.0.2.3", port=50_003)
    programme = on_air(station)
    route = routes(station)[programme.number]
    assert unpack_destinations(route.destinations) == (
        Destination(programme.group, 5004, 5005),
        Destination("192.0.2.3", 50_003, 50_003),
    )
    assert (route.group, route.announce) == (programme.group, f"SDP of {programme.name}")


def test_a_programme_for_stock_players_goes_to_its_group_though_nobody_of_ours_is_there(
    station: Station,
) -> None:
    join(station, "a", multicast=False)
    programme = on_air(station, LiveRequest(("a",), multicast=True))
    route = routes(station)[programme.number]
    assert route.group == programme.group
    assert len(unpack_destinations(route.destinations)) == 2


def test_who_is_offline_is_sent_to_all_the_same(station: Station) -> None:
    # Its session may have broken while its sound arrives.
    station.leave("a", join(station, "a"))
    programme = on_air(station)
    assert len(unpack_destinations(routes(station)[programme.number].destinations)) == 1


def test_the_producer_is_given_the_order_as_it_was_asked_for(station: Station) -> None:
    request = LiveRequest(
        (ALL,),
        bitrate=32_000,
        frame_ms=20.0,
        complexity=5,
        dtx=True,
        inband_fec=True,
        expected_loss_percent=10,
    )
    programme = station.open(request, 0)
    (order,) = station.orders().programmes
    assert (order.programme, order.stream, order.ticket) == (
        programme.name,
        programme.number,
        programme.ticket,
    )
    for field in ("bitrate", "frame_ms", "complexity", "dtx", "inband_fec"):
        assert getattr(order, field) == getattr(request, field)
    assert order.expected_loss_percent == 10


def test_all_there_may_be_fits_one_message_each_way(station: Station) -> None:
    join(station, "a", multicast=True)
    reports = []
    for number in range(MAX_PROGRAMMES):
        programme = on_air(station, replace(TO_ALL, inband_fec=True), ssrc=(1 << 32) - 1 - number)
        assert programme.report is not None
        reports.append(programme.report)
    assert len(TO_SPEAKER.encode(station.listen("a", 1 << 40))) < MAX_MESSAGE_BYTES
    assert len(TO_PRODUCER.encode(station.orders())) < MAX_MESSAGE_BYTES
    assert len(FROM_PRODUCER.encode(ProducerReport("life", tuple(reports)))) < MAX_MESSAGE_BYTES


# ------------------------------------------------------------------ reports and time
def test_only_news_need_be_told(station: Station) -> None:
    programme = station.open(TO_ALL, 0)
    assert station.update(report_of(programme, "waiting"), 0)
    assert not station.update(report_of(programme, "waiting"), 0)
    assert not station.update(report_of(programme, "live"), 0)
    assert station.update(report_of(programme, "ended"), 0)
    assert not station.update(report_of(programme, "ended"), 0)


def test_a_report_of_what_nobody_ordered_is_nothing(station: Station) -> None:
    stray = ProgrammeReport("live-9", "live", 1, 1, 0.0, 0.0)
    assert not station.update(ProducerReport("life", (stray,)), 0)
    assert station.programmes == {}


def test_a_producer_born_again_gives_every_listener_the_new_numbers(station: Station) -> None:
    join(station, "a")
    programme = on_air(station, ssrc=1)
    assert station.update(report_of(programme, "waiting", ssrc=2, offset=3), 60 * S)
    (spec,) = station.listen("a", 1).streams
    assert (spec.ssrc, spec.timestamp_offset) == (2, 3)


def test_a_ticket_nobody_speaks_on_is_taken_back(station: Station) -> None:
    programme = station.open(TO_ALL, 0)
    station.update(report_of(programme, "waiting"), 0)
    assert not station.expire(15 * S)
    assert station.expire(15 * S + 1)
    assert station.programmes == {}


def test_a_ticket_the_producer_never_heard_of_is_taken_back_too(station: Station) -> None:
    station.open(TO_ALL, 0)
    assert station.expire(15 * S + 1)


def test_who_speaks_may_speak_for_ever(station: Station) -> None:
    on_air(station)
    assert not station.expire(1_000_000 * S)


def test_a_long_talk_outlives_its_producer(station: Station) -> None:
    # Its source comes back with the ticket within seconds; until then the new producer waits.
    programme = on_air(station, ssrc=1, now_ns=0)
    station.update(report_of(programme, "waiting", ssrc=2), 60 * S)
    assert not station.expire(75 * S)
    assert station.expire(75 * S + 1)


def test_an_ended_programme_is_heard_out(station: Station) -> None:
    join(station, "a")
    programme = on_air(station, LiveRequest((ALL,), playout_delay_ms=500.0))
    station.update(report_of(programme, "ended"), 10 * S)
    assert not station.expire(10 * S + 800 * MS)
    assert names(station, "a") == [programme.name]
    assert station.expire(10 * S + 800 * MS + 1)
    assert names(station, "a") == []


def test_an_ended_programme_is_not_ordered_from_a_producer_born_again(station: Station) -> None:
    programme = on_air(station)
    station.update(report_of(programme, "ended"), 0)
    assert station.orders().programmes == ()


def test_an_ended_programme_stays_ended(station: Station) -> None:
    programme = on_air(station)
    station.update(report_of(programme, "ended"), 0)
    assert not station.update(report_of(programme, "live", ssrc=99), 0)
    assert station.expire(S)


# ------------------------------------------------------------------ memory
def remembered(station: Station) -> Station:
    """Another station, with the memory of this one as the notebook keeps it."""
    other = a_station()
    other.restore(msgpack.unpackb(msgpack.packb(station.to_plain())))
    return other


def test_a_station_that_was_restored_goes_on_counting(station: Station) -> None:
    station.open(TO_ALL, 0)
    station.expire(16 * S)
    assert remembered(station).open(TO_ALL, 0).name == "live-2"


def test_nobody_has_a_session_with_a_station_that_was_restored(station: Station) -> None:
    join(station, "a")
    other = remembered(station)
    assert other.speakers["a"].session is None
    join(other, "a")  # at once, for nobody holds the name


@pytest.mark.parametrize(
    "plain",
    [
        None,
        7,
        [],
        {},
        {"count": 1, "speakers": [], "programmes": [{}]},
        {"count": 1, "speakers": [["a"]], "programmes": []},
        {"count": None, "speakers": [], "programmes": []},
        {"count": "many", "speakers": [], "programmes": []},
    ],
    ids=str,
)
def test_what_is_no_memory_is_refused_and_changes_nothing(station: Station, plain: Any) -> None:
    join(station, "a")
    station.open(TO_ALL, 0)
    before = station.to_plain()
    with pytest.raises(ValueError, match="no station's memory"):
        station.restore(plain)
    assert station.to_plain() == before


NAMES = ("a", "b", "c", "d")
TARGETS = st.lists(st.sampled_from((*NAMES, ALL)), min_size=1, max_size=3).map(tuple)


class StationLife(RuleBasedStateMachine):
    """Whatever happens in whatever order, everybody is told exactly what concerns them."""

    def __init__(self) -> None:
        super().__init__()
        self.station = a_station("239.192.76.0/29")
        self.now_ns = 0
        self.ssrcs = itertools.count(1)
        self.sessions: dict[str, object] = {}
        # The model: what was asked for, what the producer has said of it, and since when it waits
        # or has ended; what is live is in neither of the last two.
        self.asked: dict[str, tuple[str, ...]] = {}
        self.numbered: dict[str, int] = {}
        self.waiting: dict[str, int] = {}
        self.ended: dict[str, int] = {}

    @rule(name=st.sampled_from(NAMES), multicast=st.booleans())
    def join(self, name: str, multicast: bool) -> None:
        self.now_ns += 4 * S  # longer than anybody holds a name
        self._forget()
        port = 50_000 + NAMES.index(name)
        self.sessions[name] = join(
            self.station, name, multicast=multicast, port=port, now_ns=self.now_ns
        )

    @rule(name=st.sampled_from(NAMES))
    def leave(self, name: str) -> None:
        self.station.leave(name, self.sessions.pop(name, None))

    @rule(to=TARGETS, multicast=st.booleans())
    def open(self, to: tuple[str, ...], multicast: bool) -> None:
        known = all(name == ALL or name in self.station.speakers for name in to)
        try:
            programme = self.station.open(LiveRequest(to, multicast=multicast), self.now_ns)
        except UnknownSpeakerError:
            assert not known
        except NoGroupError:
            assert len(self.asked) == 8
        else:
            assert known
            assert len(self.asked) < 8
            self.asked[programme.name] = to
            self.waiting[programme.name] = self.now_ns

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), state=st.sampled_from(["waiting", "live", "ended"]))
    def report(self, data: st.DataObject, state: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.asked)))
        if name in self.ended:
            return
        ssrc = next(self.ssrcs)
        self.numbered[name] = ssrc
        self.waiting.pop(name, None)
        if state != "live":
            (self.waiting if state == "waiting" else self.ended)[name] = self.now_ns
        self.station.update(report_of(self.station.programmes[name], state, ssrc=ssrc), self.now_ns)

    @rule(ms=st.one_of(st.integers(1, 400), st.just(16_000)))
    def pass_time(self, ms: int) -> None:
        self.now_ns += ms * MS
        self._forget()

    def _forget(self) -> None:
        self.station.expire(self.now_ns)
        for name in list(self.asked):
            heard_out = self.now_ns - self.ended.get(name, self.now_ns) > 340 * MS
            unused = self.now_ns - self.waiting.get(name, self.now_ns) > 15 * S
            assert (name in self.station.programmes) is not (heard_out or unused)
            if heard_out or unused:
                del self.asked[name]

    @invariant()
    def everybody_listens_to_exactly_what_addresses_them(self) -> None:
        for name in self.station.speakers:
            meant = {
                (programme, self.numbered[programme])
                for programme, to in self.asked.items()
                if programme in self.numbered and (ALL in to or name in to)
            }
            specs = self.station.listen(name, 1).streams
            assert {(spec.programme, spec.ssrc) for spec in specs} == meant
            assert len(specs) == len(meant)

    @invariant()
    def sound_goes_where_somebody_listens(self) -> None:
        declared = routes(self.station)
        assert {p.name for p in self.station.programmes.values() if p.number in declared} == {
            name for name in self.asked if name in self.numbered
        }
        for programme in self.station.programmes.values():
            if programme.number not in declared:
                continue
            to = {d[:2] for d in unpack_destinations(declared[programme.number].destinations)}
            for speaker in self.station.speakers.values():
                for spec in self.station.listen(speaker.name, 1).streams:
                    if spec.programme == programme.name:
                        unicast = (speaker.address, speaker.media_port)
                        assert ((spec.group, spec.port) if spec.group else unicast) in to

    @invariant()
    def groups_are_shared_by_nobody(self) -> None:
        groups = [programme.group for programme in self.station.programmes.values()]
        assert len(set(groups)) == len(groups)

    @invariant()
    def what_has_not_ended_is_ordered(self) -> None:
        assert {order.programme for order in self.station.orders().programmes} == {
            name for name in self.asked if name not in self.ended
        }

    @invariant()
    def a_station_restored_from_its_memory_declares_the_same(self) -> None:
        other = remembered(self.station)
        assert other.orders() == self.station.orders()
        assert routes(other) == routes(self.station)
        for name in self.station.speakers:
            assert other.listen(name, 1) == self.station.listen(name, 1)


TestStationLife = StationLife.TestCase
TestStationLife.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
