"""Lines that are narrow, profiles that are changed, and traces that are replayed."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from bench.network import (
    MS,
    PROFILES,
    SECOND,
    Bottleneck,
    Burst,
    Impairments,
    Jitter,
    Link,
    Outages,
    Profile,
    Straggle,
    profile,
)
from bench.trace import Trace
from tests.support.links import drain, drain_one, make_link, numbered, send_every

MINUTE = 60 * SECOND


# ------------------------------------------------------------- a bandwidth limit with a queue
def test_packets_leave_a_bottleneck_one_after_another() -> None:
    # 100 bytes and 25 of headers at 1 Mb/s: 1 ms each.
    neck = Bottleneck(1_000_000, queue_bytes=10_000, overhead_bytes=25)
    link = make_link(Impairments(bottleneck=neck, delay_ns=5 * MS))
    for now_ns in (0, 0, 0, 10 * MS):
        link.send(bytes(100), now_ns)
    assert [at / MS for at, _ in drain(link)] == [6, 7, 8, 16]
    assert link.dropped == 0


def test_what_finds_the_queue_full_is_dropped_and_counted() -> None:
    neck = Bottleneck(1_000_000, queue_bytes=250, overhead_bytes=25)
    link = make_link(Impairments(bottleneck=neck))
    for data in numbered(4):
        link.send(data + bytes(96), 0)
    link.send(bytes(4) + bytes(97), MS)  # one is out by now, but this is a byte too long
    link.send(b"5555" + bytes(96), MS)
    assert (link.sent, link.dropped, link.in_flight) == (6, 3, 3)
    assert [data[:4] for _, data in drain(link)] == [*numbered(2), b"5555"]


def test_a_bottleneck_carries_its_rate_when_more_is_sent() -> None:
    link = make_link(Impairments(bottleneck=Bottleneck(64_000, 2_000)))
    for now_ns in range(0, 60 * SECOND, 10 * MS):  # 102 kb/s
        link.send(bytes(100), now_ns)
    carried = sum(8 * (len(data) + 28) for _, data in link.due(60 * SECOND))
    assert carried / 60 == pytest.approx(64_000, rel=0.01)
    assert link.dropped / link.sent == pytest.approx(1 - 64 / 102.4, abs=0.02)
    assert link.lost == 0


def test_what_the_air_loses_has_taken_its_place_in_the_queue() -> None:
    neck = Bottleneck(1_000_000, queue_bytes=250, overhead_bytes=25)
    link = make_link(Impairments(loss=1.0, bottleneck=neck))
    for data in numbered(3):
        link.send(data + bytes(96), 0)
    assert (link.lost, link.dropped) == (2, 1)


def test_a_profile_can_be_given_a_line_of_its_own() -> None:
    limited = profile("R20").limited(kbps=64, queue_ms=250)
    down, up = limited.links(np.random.default_rng(1))
    for link in (down, up):
        for now_ns in range(0, 60 * SECOND, 10 * MS):
            link.send(bytes(100), now_ns)
        assert link.dropped / link.sent == pytest.approx(1 - 64 / 102.4, abs=0.02)
        # 250 ms of 64 kb/s are 2,000 bytes.
        assert max(at for at, _ in drain(link)) <= 60 * SECOND + 250 * MS
    with pytest.raises(ValueError, match="1,500 bytes"):
        limited.limited(kbps=64, queue_ms=100)


# ------------------------------------------------------------- profiles, changed
def test_a_profile_can_be_given_a_round_trip() -> None:
    for name in ("R10", "r10"):
        down, up = profile(name, rtt_ms=100).links(np.random.default_rng(2))
        assert (drain_one(down), drain_one(up)) == (50 * MS, 50 * MS)
    assert profile("M2") is PROFILES["M2"]
    biased = profile("M3", rtt_ms=20)
    down, up = biased.links(np.random.default_rng(2))
    assert drain_one(down) == 10 * MS
    assert 20 * MS <= drain_one(up) <= 50 * MS


def test_another_round_trip_leaves_the_weather_as_it_is() -> None:
    own, longer = (
        send_every(profile("M2", rtt).links(np.random.default_rng(4))[0], 20 * MS, MINUTE).tolist()
        for rtt in (None, 300)
    )
    assert own == longer


@pytest.mark.parametrize(("name", "rtt_ms"), [("R99", None), ("", None), ("R5", -1), ("R5", 1e9)])
def test_an_unknown_profile_or_round_trip_is_one_line(name: str, rtt_ms: float | None) -> None:
    with pytest.raises(ValueError, match=r"use one of L0, L1|a round trip takes") as caught:
        profile(name, rtt_ms)
    assert len(str(caught.value).splitlines()) == 1


def test_the_two_ways_may_be_of_two_profiles() -> None:
    both = profile("R30").with_uplink(profile("M3"))
    down, up = both.links(np.random.default_rng(3))
    losses = [np.mean(send_every(link, 10 * MS, 10 * MINUTE)) for link in (down, up)]
    assert losses == pytest.approx([0.3, 0.2], abs=0.03)
    down, up = both.links(np.random.default_rng(3))
    assert drain_one(down) == 0
    assert 85 * MS <= drain_one(up) <= 115 * MS
    back = profile("M3").with_uplink(both)
    assert back.uplink == profile("M3").path
    assert drain_one(both.with_rtt(30).links(np.random.default_rng(3))[1]) < 60 * MS


# ------------------------------------------------------------- recorded traces
TRACE = Trace((3 * MS, None, 0, 8 * MS, None))


def fates_of(link: Link, count: int) -> list[int | None]:
    """Of so many packets, each of which is through or lost before the next is sent."""
    found: list[int | None] = []
    for number in range(count):
        now_ns = number * SECOND
        link.send(b"", now_ns)
        arrived = link.due(now_ns + SECOND - 1)
        found.append(arrived[0][0] - now_ns if arrived else None)
    return found


def test_a_trace_says_what_becomes_of_each_packet() -> None:
    link = make_link(Impairments(trace=TRACE, delay_ns=MS, extra_delay_ns=1))
    delays = [None if fate is None else fate + MS + 1 for fate in TRACE.fates]
    assert fates_of(link, 5) == delays
    assert (link.lost, link.delivered) == (2, 3)


def test_a_trace_that_has_ended_goes_on_from_a_seeded_place() -> None:
    trace = Trace(tuple(range(100)))
    first, again, other = (
        fates_of(make_link(Impairments(trace=trace), seed), 1_000) for seed in (1, 1, 2)
    )
    assert first[:100] == list(range(100))
    assert first == again
    assert first != other
    for delay_ns, next_ns in pairwise(first):
        assert delay_ns == 99 or next_ns == (delay_ns or 0) + 1  # always on to the end


def test_a_trace_may_begin_anywhere() -> None:
    link = make_link(Impairments(trace=TRACE, trace_at=3))
    assert fates_of(link, 2) == [8 * MS, None]


def test_the_two_ways_of_a_trace_are_not_in_step() -> None:
    trace = Trace(tuple(range(1_000)))
    down, up = Profile(Impairments(trace=trace)).links(np.random.default_rng(1))
    assert fates_of(down, 100) == list(range(100))
    assert fates_of(up, 100) != list(range(100))


def recorded(path: Impairments, seed: int, count: int = 2_000) -> tuple[Link, list[int | None]]:
    fates: list[int | None] = []
    link = Link(path, np.random.default_rng(seed), fates=fates)
    for index in range(count):
        link.send(index.to_bytes(4), index * 20 * MS)
    return link, fates


def test_a_recorded_run_is_repeated_by_its_trace() -> None:
    wild = replace(PROFILES["L1"].path, duplicate=0.1, bottleneck=Bottleneck(20_000, 3_000))
    link, fates = recorded(wild, seed=5)
    assert len(fates) == 2_000
    assert fates.count(None) == link.lost + link.dropped
    first_of = dict(reversed([(data, at) for at, data in drain(link)]))
    again, _ = recorded(Impairments(trace=Trace(tuple(fates))), seed=6)
    assert {data: at for at, data in drain(again)} == first_of


@pytest.mark.parametrize(
    "spoilt",
    [
        {"loss": 0.1},
        {"burst": Burst(0.1, MS)},
        {"outages": Outages(SECOND, 0, MS)},
        {"jitter": Jitter("gev", MS)},
        {"tail": Straggle(0.1, MS)},
        {"reorder": Straggle(0.1, MS)},
        {"trace_at": 5},
        {"trace_at": -1},
    ],
)
def test_a_trace_takes_the_place_of_the_laws(spoilt: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a trace"):
        Impairments(trace=TRACE, **spoilt)
