from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    Straggle,
)
from tests.support.links import drain, drain_one, make_link, numbered, send_every

MINUTE = 60 * SECOND


def runs_of_loss(fates: np.ndarray) -> list[int]:
    return [len(list(run)) for lost, run in groupby(fates) if lost]


def test_a_perfect_wire_delivers_at_once_in_order() -> None:
    link = make_link(Impairments())
    for data in numbered(3):
        link.send(data, 7)
    assert link.due(6) == []
    assert link.due(7) == [(7, data) for data in numbered(3)]
    assert (link.sent, link.delivered, link.in_flight) == (3, 3, 0)


def test_delay_and_bias_add_up() -> None:
    link = make_link(Impairments(delay_ns=10, extra_delay_ns=5))
    link.send(b"x", 100)
    assert link.next_due_ns() == 115
    assert link.due(114) == []
    assert link.due(115) == [(115, b"x")]
    assert link.next_due_ns() is None


def test_a_full_queue_drops_what_comes_and_counts_it() -> None:
    link = make_link(Impairments(delay_ns=10), limit=2)
    for data in numbered(3):
        link.send(data, 0)
    assert (link.dropped, link.in_flight) == (1, 2)
    assert [data for _, data in drain(link)] == numbered(2)


def test_time_does_not_go_back() -> None:
    link = make_link(Impairments())
    link.send(b"", 5)
    with pytest.raises(ValueError, match="time"):
        link.send(b"", 4)


@pytest.mark.parametrize("rate", [0.05, 0.3, 1.0])
def test_random_loss_is_at_its_rate_and_without_memory(rate: float) -> None:
    fates = send_every(make_link(Impairments(loss=rate)), MS, 20 * SECOND)
    assert fates.mean() == pytest.approx(rate, abs=0.012)
    # Of packets that follow a lost one as many are lost as of any.
    assert fates[1:][fates[:-1]].mean() == pytest.approx(rate, abs=0.03)


@pytest.mark.parametrize("interval_ns", [5 * MS, 20 * MS, 60 * MS])
def test_burst_loss_has_its_mean_rate_at_every_packet_rate(interval_ns: int) -> None:
    path = Impairments(burst=Burst(0.3, 100 * MS))
    # 30 minutes hold 5,400 bursts: one standard deviation of the rate is 0.4 %.
    fates = send_every(make_link(path), interval_ns, 30 * MINUTE)
    assert fates.mean() == pytest.approx(0.3, abs=0.015)


@pytest.mark.parametrize("mean_ns", [20 * MS, 100 * MS])
def test_bursts_last_their_mean_time(mean_ns: int) -> None:
    fates = send_every(make_link(Impairments(burst=Burst(0.05, mean_ns))), MS, 4 * MINUTE)
    # A burst of length d hides d / 1 ms packets; those shorter than 1 ms may hide none.
    assert np.mean(runs_of_loss(fates)) == pytest.approx(mean_ns / MS, rel=0.12)


def test_burst_lengths_are_exponential() -> None:
    fates = send_every(make_link(Impairments(burst=Burst(0.3, 20 * MS))), MS, 5 * MINUTE)
    lengths = np.array(runs_of_loss(fates))
    assert np.std(lengths) == pytest.approx(np.mean(lengths), rel=0.1)
    assert np.mean(lengths > 20) == pytest.approx(np.exp(-1), abs=0.05)


def test_bursts_come_at_the_same_times_however_much_is_sent() -> None:
    path = Impairments(burst=Burst(0.2, 100 * MS), outages=Outages(5 * SECOND, MS, 500 * MS))
    dense = send_every(make_link(path), 5 * MS, MINUTE)
    sparse = send_every(make_link(path), 20 * MS, MINUTE)
    assert np.array_equal(dense[::4], sparse)


def test_bursts_keep_their_rate_across_long_silences() -> None:
    fates = send_every(make_link(Impairments(burst=Burst(0.3, MS))), 3_600 * SECOND, 10**16)
    assert fates.mean() == pytest.approx(0.3, abs=0.04)


def test_each_period_has_one_outage_of_a_length_in_range() -> None:
    path = Impairments(outages=Outages(5 * SECOND, 100 * MS, 500 * MS))
    periods = send_every(make_link(path), 5 * MS, 10 * MINUTE).reshape(120, 1000)
    lengths_ms = periods.sum(axis=1) * 5
    assert all(len(runs_of_loss(period)) == 1 for period in periods)
    assert 95 <= lengths_ms.min() < 150
    assert 450 < lengths_ms.max() <= 505
    assert lengths_ms.mean() == pytest.approx(300, abs=40)
    assert len(set(periods.argmax(axis=1))) > 100


def extra_delays(path: Impairments, count: int = 20_000) -> np.ndarray:
    link = make_link(path, seed=4)
    for index in range(count):
        link.send(index.to_bytes(4), index)
    return np.array([arrival - int.from_bytes(data) for arrival, data in drain(link)])


def test_exponential_jitter_has_its_mean_and_tail() -> None:
    jitter = extra_delays(Impairments(jitter=Jitter("exponential", 2 * MS))) / MS
    assert jitter.min() >= 0
    assert jitter.mean() == pytest.approx(2, rel=0.03)
    assert np.mean(jitter > 6) == pytest.approx(np.exp(-3), abs=0.006)


def test_gev_jitter_follows_the_law_above_zero() -> None:
    jitter = extra_delays(Impairments(jitter=Jitter("gev", 15 * MS))) / MS
    assert np.mean(jitter == 0) == pytest.approx(np.exp(-1), abs=0.015)
    for level in (5, 15, 45):
        expected = 1 - np.exp(-np.exp(-level / 15))
        assert np.mean(jitter > level) == pytest.approx(expected, abs=0.012)


def test_the_heavy_tail_adds_its_delay_at_its_rate() -> None:
    delays = extra_delays(Impairments(delay_ns=MS, tail=Straggle(0.1, 30 * MS)))
    assert set(delays) == {MS, 31 * MS}
    assert np.mean(delays == 31 * MS) == pytest.approx(0.1, abs=0.01)


def test_a_reordered_packet_is_overtaken_by_those_that_follow() -> None:
    link = make_link(Impairments(reorder=Straggle(0.05, 25 * MS)))
    for index, data in enumerate(numbered(10_000)):
        link.send(data, index * 10 * MS)
    order = [int.from_bytes(data) for _, data in drain(link)]
    overtaken = [n for at, n in enumerate(order) if order[at - 2 : at] == [n + 1, n + 2]]
    assert len(overtaken) / len(order) == pytest.approx(0.05, abs=0.01)
    assert sorted(order) == list(range(10_000))


def test_duplicates_come_at_their_rate_and_are_counted() -> None:
    link = make_link(Impairments(duplicate=0.2))
    for data in numbered(10_000):
        link.send(data, 0)
    arrived = [data for _, data in drain(link)]
    assert len(arrived) == 10_000 + link.duplicated
    assert set(arrived) == set(numbered(10_000))
    assert link.duplicated / link.sent == pytest.approx(0.2, abs=0.015)


def run_profile(name: str, seed: int) -> list[tuple[int, bytes]]:
    down, _ = PROFILES[name].links(np.random.default_rng(seed))
    for index, data in enumerate(numbered(3_000)):
        down.send(data, index * 20 * MS)
    return drain(down)


@pytest.mark.parametrize("name", PROFILES)
def test_one_seed_gives_one_result_and_another_seed_another(name: str) -> None:
    assert run_profile(name, 1) == run_profile(name, 1)
    if name != "L0":  # which loses one packet in 10,000
        assert run_profile(name, 1) != run_profile(name, 2)


def test_links_of_one_generator_differ() -> None:
    rng = np.random.default_rng(1)
    fates = [send_every(Link(Impairments(loss=0.5), rng), MS, SECOND) for _ in range(2)]
    assert not np.array_equal(fates[0], fates[1])


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        *[("L0", 0.0001), ("L1", 0.05), ("L2", 0.10), ("M1", 0.007), ("M2", 0.10), ("M3", 0.20)],
        *[("O1", 0.01 + 0.99 * 0.06), ("R5", 0.05), ("R10", 0.1), ("R20", 0.2), ("R30", 0.3)],
    ],
)
def test_profiles_lose_what_their_definition_says(name: str, loss: float) -> None:
    down, _ = PROFILES[name].links(np.random.default_rng(3))
    fates = send_every(down, 10 * MS, 10 * MINUTE)
    assert fates.mean() == pytest.approx(loss, rel=0.12, abs=0.0003)


def test_bad_wifi_is_above_10_ms_for_5_percent() -> None:
    path = replace(PROFILES["L1"].path, burst=None)
    assert np.mean(extra_delays(path) > 10 * MS) == pytest.approx(0.05, abs=0.006)


def test_the_edge_uplink_is_slower_by_10_to_40_ms_per_endpoint() -> None:
    rng = np.random.default_rng(1)
    gaps = []
    for _ in range(200):
        down, up = (drain_one(link) for link in PROFILES["M3"].links(rng))
        assert down == 75 * MS
        gaps.append((up - down) / MS)
    assert 10 <= min(gaps) < 12
    assert 38 < max(gaps) <= 40


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (Impairments, {"loss": 1.1}),
        (Impairments, {"duplicate": -0.1}),
        (Impairments, {"delay_ns": -1}),
        (Impairments, {"extra_delay_ns": -1}),
        (Burst, {"rate": 1.0, "mean_ns": 5}),
        (Burst, {"rate": 0.1, "mean_ns": 0}),
        (Outages, {"every_ns": 5, "shortest_ns": 3, "longest_ns": 2}),
        (Outages, {"every_ns": 5, "shortest_ns": 3, "longest_ns": 6}),
        (Outages, {"every_ns": 0, "shortest_ns": 0, "longest_ns": 0}),
        (Jitter, {"law": "gev", "scale_ns": -1}),
        (Straggle, {"rate": 2.0, "extra_ns": 0}),
        (Straggle, {"rate": 0.5, "extra_ns": -1}),
        (Bottleneck, {"bits_per_second": 0, "queue_bytes": 9}),
        (Bottleneck, {"bits_per_second": 9, "queue_bytes": 0}),
        (Bottleneck, {"bits_per_second": 9, "queue_bytes": 9, "overhead_bytes": -1}),
    ],
)
def test_what_cannot_be_is_refused(make: type, arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"."):
        make(**arguments)


rates = st.floats(0, 1)
short_ns = st.integers(0, 200 * MS)
stragglers = st.none() | st.builds(Straggle, rates, short_ns)
orderly_paths = st.builds(
    Impairments,
    loss=rates,
    burst=st.none() | st.builds(Burst, st.floats(0.001, 0.999), st.integers(1, SECOND)),
    outages=st.none() | st.just(Outages(SECOND, 0, 300 * MS)),
    delay_ns=short_ns,
    extra_delay_ns=short_ns,
    duplicate=rates,
    bottleneck=st.none() | st.builds(Bottleneck, st.integers(1_000, 10**7), st.integers(1, 10_000)),
)
wild_paths = st.builds(
    lambda path, jitter, tail, reorder: replace(path, jitter=jitter, tail=tail, reorder=reorder),
    orderly_paths,
    st.none() | st.builds(Jitter, st.sampled_from(["exponential", "gev"]), short_ns),
    stragglers,
    stragglers,
)
# Steps between packets: mostly a frame, at times none or a long silence.
step_lists = st.lists(st.sampled_from([0, 1, 10 * MS, 20 * MS, 10**15]), max_size=60)


@given(wild_paths, step_lists, st.integers(0, 2**32), st.integers(0, 20))
def test_packets_are_neither_made_nor_forgotten(
    path: Impairments, steps: list[int], seed: int, limit: int
) -> None:
    link, now_ns = make_link(path, seed, limit), 0
    for step_ns in steps:
        now_ns += step_ns
        link.send(now_ns.to_bytes(8), now_ns)
        assert link.in_flight <= limit
        for arrival_ns, data in link.due(now_ns):
            earliest_ns = int.from_bytes(data) + path.delay_ns + path.extra_delay_ns
            assert earliest_ns <= arrival_ns <= now_ns
        next_ns = link.next_due_ns()
        assert (next_ns is None) == (link.in_flight == 0)
        assert next_ns is None or next_ns > now_ns
        assert link.sent + link.duplicated == (
            link.delivered + link.lost + link.dropped + link.in_flight
        )


@given(orderly_paths, step_lists, st.integers(0, 2**32))
def test_without_jitter_and_reordering_nothing_overtakes(
    path: Impairments, steps: list[int], seed: int
) -> None:
    link, now_ns = make_link(path, seed), 0
    for index, step_ns in enumerate(steps):
        now_ns += step_ns
        link.send(index.to_bytes(4), now_ns)
    order = [data for _, data in drain(link)]
    assert order == sorted(order)


@given(wild_paths, step_lists, st.integers(0, 2**32))
def test_arrivals_are_in_order_of_time(path: Impairments, steps: list[int], seed: int) -> None:
    link, now_ns = make_link(path, seed), 0
    for step_ns in steps:
        now_ns += step_ns
        link.send(b"", now_ns)
    times = [arrival_ns for arrival_ns, _ in drain(link)]
    assert times == sorted(times)
