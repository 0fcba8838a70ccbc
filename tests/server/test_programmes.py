"""What is asked for, and what the listeners' networks make of it."""

from dataclasses import asdict, replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.directory import Endpoint
from server.errors import StationError
from server.processes.bus import ProgrammeReport
from server.programmes import LiveRequest, Plan, Programme, programme_of
from tests.support.stations import CERTIFIER, stream_report
from transport.control.delivery import DELIVERIES
from transport.control.priority import Priority
from transport.session.sender import OPUS_PAYLOAD_TYPE

TO_ALL = LiveRequest(("all",))
ANY_DELIVERIES = st.sets(st.sampled_from(sorted(DELIVERIES)))


def endpoint(delivery: str = "lan", *, multicast: bool = False) -> Endpoint:
    return Endpoint("a", "Tân Phú", delivery, multicast)


def programme(request: LiveRequest, deliveries: set[str], *, begun: bool = True) -> Programme:
    made = Programme(
        name="live-3",
        number=3,
        ticket="secret",
        request=request,
        plan=Plan.of(request, deliveries),
        group="239.192.76.9",
        since_ns=0,
    )
    if begun:
        streams = tuple(stream_report(stream, 100 + n, 7) for n, stream in enumerate(made.streams))
        made.report = ProgrammeReport(made.name, "live", -20.0, 1.0, streams)
    return made


# ------------------------------------------------------------------ what is asked for
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"frame_ms": 7.0}, "frame_ms must be one of"),
    ({"frame_ms": float("nan")}, "frame_ms must be one of"),
    ({"bitrate": 6000, "frame_ms": 2.5}, "bitrate must be from 9600"),
    ({"bitrate": 510_000, "frame_ms": 60.0}, "bitrate must be at most"),
    ({"frame_ms": 10.0, "complexity": 11}, "complexity must be"),
    ({"frame_ms": 10.0, "expected_loss_percent": 101}, "expected_loss_percent must be"),
    ({"frame_ms": 60.0, "playout_delay_ms": 40.0}, "all sound would be late"),
    ({"frame_ms": 10.0, "playout_delay_ms": float("nan")}, "playout_delay_ms must be"),
    ({"priority": 6}, "6 is not a valid Priority"),
]


@pytest.mark.parametrize(("wrong", "why"), WRONG)
def test_a_request_that_could_never_sound_cannot_be_made(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        LiveRequest(("all",), **wrong)


LATER: list[tuple[dict[str, Any], set[str], str]] = [
    ({"complexity": 11}, {"lan"}, "complexity must be"),
    ({"expected_loss_percent": 101}, {"lan"}, "expected_loss_percent must be"),
    ({"playout_delay_ms": float("nan")}, {"lan"}, "playout_delay_ms must be"),
    ({"playout_delay_ms": 16.5}, {"lan"}, "all sound would be late"),
    ({"playout_delay_ms": 50.0}, {"lan", "saver"}, "more than 66.5 with frames of 60 ms"),
    ({"frame_ms": 60.0}, {"lan"}, "more than 66.5 with frames of 60 ms, not 40"),
    ({"bitrate": 510_000}, {"lan", "saver"}, "in frames of 60 ms"),
]


@pytest.mark.parametrize(("wrong", "deliveries", "why"), LATER)
def test_a_request_that_could_not_sound_at_these_listeners_has_no_plan(
    wrong: dict[str, Any], deliveries: set[str], why: str
) -> None:
    with pytest.raises(StationError, match=why):
        Plan.of(replace(TO_ALL, **wrong), deliveries)


# ------------------------------------------------------------------ the plan
@given(ANY_DELIVERIES.filter(bool))
def test_the_delay_is_the_longest_that_any_network_asks_for(deliveries: set[str]) -> None:
    plan = Plan.of(TO_ALL, deliveries)
    assert plan.playout_delay_ms == max(DELIVERIES[d].playout_delay_ms for d in deliveries)


@given(ANY_DELIVERIES.filter(bool))
def test_there_is_one_encoding_for_each_length_of_frame_the_shortest_first(
    deliveries: set[str],
) -> None:
    plan = Plan.of(TO_ALL, deliveries)
    assert plan.frames_ms == tuple(sorted({DELIVERIES[d].frame_ms for d in deliveries}))


def test_where_nobody_is_registered_yet_a_local_network_is_expected() -> None:
    assert Plan.of(TO_ALL, set()) == Plan((10.0,), 40.0, 40.0)


@given(ANY_DELIVERIES)
def test_a_delay_that_was_asked_for_is_kept_whatever_the_networks(deliveries: set[str]) -> None:
    assert Plan.of(replace(TO_ALL, playout_delay_ms=80.0), deliveries).playout_delay_ms == 80.0


@given(ANY_DELIVERIES)
def test_frames_that_were_asked_for_are_the_only_ones(deliveries: set[str]) -> None:
    request = replace(TO_ALL, frame_ms=5.0)
    assert Plan.of(request, deliveries).frames_ms == (5.0,)


@given(ANY_DELIVERIES, st.none() | st.floats(70, 10_000))
def test_whoever_was_there_when_it_began_is_in_step(
    deliveries: set[str], asked_ms: float | None
) -> None:
    made = programme(replace(TO_ALL, playout_delay_ms=asked_ms), deliveries)
    for delivery in deliveries:
        assert made.is_in_step(endpoint(delivery))
        spec = made.spec(endpoint(delivery), 5004, CERTIFIER.certificate)
        assert spec is not None
        assert spec.playout_delay_ms == made.plan.playout_delay_ms


# ------------------------------------------------------------------ newcomers
def test_a_newcomer_as_quick_as_the_others_is_in_step() -> None:
    made = programme(TO_ALL, {"wifi"})
    spec = made.spec(endpoint("lan"), 5004, CERTIFIER.certificate)
    assert spec is not None
    assert made.is_in_step(endpoint("lan"))
    assert spec.playout_delay_ms == 100.0


def test_a_slower_newcomer_is_not_in_step_and_has_the_delay_of_its_own_network() -> None:
    made = programme(TO_ALL, {"lan"})
    spec = made.spec(endpoint("wan"), 5004, CERTIFIER.certificate)
    assert spec is not None
    assert not made.is_in_step(endpoint("wan"))
    assert spec.playout_delay_ms == 500.0


def test_a_delay_long_enough_for_everybody_keeps_every_newcomer_in_step() -> None:
    made = programme(replace(TO_ALL, playout_delay_ms=1000.0), {"lan"})
    assert all(made.is_in_step(endpoint(delivery)) for delivery in DELIVERIES)


@given(ANY_DELIVERIES, st.sampled_from(sorted(DELIVERIES)))
def test_a_loudspeaker_has_the_frames_of_its_network_or_the_nearest(
    deliveries: set[str], delivery: str
) -> None:
    made = programme(TO_ALL, deliveries)
    wanted = DELIVERIES[delivery].frame_ms
    chosen = made.stream_for(endpoint(delivery)).frame_ms
    assert chosen in made.plan.frames_ms
    assert abs(chosen - wanted) == min(abs(ms - wanted) for ms in made.plan.frames_ms)
    if delivery in deliveries:
        assert chosen == wanted


# ------------------------------------------------------------------ what a loudspeaker is told
def test_before_it_has_begun_there_is_nothing_to_tell() -> None:
    made = programme(TO_ALL, {"lan"}, begun=False)
    assert made.spec(endpoint(), 5004, CERTIFIER.certificate) is None


def test_a_loudspeaker_is_told_all_that_it_must_know_of_its_stream() -> None:
    request = replace(TO_ALL, inband_fec=True, priority=Priority.EMERGENCY)
    spec = programme(request, {"lan", "wan"}).spec(endpoint("wan"), 5004, CERTIFIER.certificate)
    assert spec is not None
    assert (spec.programme, spec.order, spec.priority) == ("live-3", 3, Priority.EMERGENCY)
    assert (spec.ssrc, spec.timestamp_offset) == (101, 7)
    assert spec.payload_type == OPUS_PAYLOAD_TYPE
    assert (spec.frame_ms, spec.inband_fec, spec.playout_delay_ms) == (20.0, True, 500.0)
    assert (spec.group, spec.port) == (None, None)


@pytest.mark.parametrize("delivery", ["lan", "wifi"])
def test_who_can_hears_it_from_the_group(delivery: str) -> None:
    spec = programme(TO_ALL, {"lan", "saver"}).spec(
        endpoint(delivery, multicast=True), 5004, CERTIFIER.certificate
    )
    assert spec is not None
    assert (spec.group, spec.port, spec.frame_ms) == ("239.192.76.9", 5004, 10.0)


def test_who_wants_longer_frames_than_the_group_s_hears_it_alone() -> None:
    spec = programme(TO_ALL, {"lan", "saver"}).spec(
        endpoint("saver", multicast=True), 5004, CERTIFIER.certificate
    )
    assert spec is not None
    assert (spec.group, spec.port, spec.frame_ms) == (None, None, 60.0)


def test_the_twin_in_clear_is_ordered_of_the_shortest_frames_alone() -> None:
    made = programme(TO_ALL, set(DELIVERIES), begun=False)
    made.clear = True
    short, *longer = made.ordered().streams
    assert short.clear is not None
    assert short.clear not in {stream.stream for stream in made.streams}
    assert {stream.clear for stream in longer} == {None}


def test_a_serial_is_the_stream_s_number_and_the_start_of_the_station_that_began_it() -> None:
    made = programme(TO_ALL, {"lan"})
    made.boot = (1 << 32) - 1
    (stream,) = made.streams
    assert (stream.serial >> 32, stream.serial % (1 << 32)) == (made.boot, stream.stream)


def test_a_producer_is_ordered_every_encoding_under_its_own_number() -> None:
    made = programme(TO_ALL, set(DELIVERIES), begun=False)
    streams = made.ordered().streams
    assert [stream.frame_ms for stream in streams] == [10.0, 20.0, 60.0]
    assert len({stream.stream for stream in streams}) == 3


# ------------------------------------------------------------------ memory
@given(ANY_DELIVERIES, st.booleans(), st.none() | st.integers(0))
def test_a_programme_comes_out_of_the_notebook_as_it_was(
    deliveries: set[str], begun: bool, ended_at_ns: int | None
) -> None:
    made = programme(LiveRequest(("a",), ("z",)), deliveries, begun=begun)
    made.ended_at_ns = None if ended_at_ns is None else ended_at_ns % (1 << 63)
    assert programme_of(msgpack.unpackb(msgpack.packb(asdict(made)))) == made
