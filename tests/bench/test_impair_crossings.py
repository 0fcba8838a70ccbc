import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.impair_crossings import Client, Crossings, Due, Lateness
from bench.network import MS, SECOND, Impairments, Profile, Straggle, profile
from bench.trace import Trace

SLOW = Profile(Impairments(delay_ns=30 * MS), uplink=Impairments(delay_ns=50 * MS))
LATEST_NS = 2**62


def client(number: int, port: int = 7460) -> Client:
    return Client(port, "192.0.2.1", number)


def fates(crossings: Crossings, whose: Client, count: int = 200) -> list[bool]:
    """Which of so many datagrams to the station came through."""
    for index in range(count):
        crossings.send(whose, index.to_bytes(2), index * 20 * MS, up=True)
    came = {int.from_bytes(due.data) for due in crossings.due(LATEST_NS)}
    return [index in came for index in range(count)]


def test_each_way_takes_its_own_time_and_nothing_is_changed() -> None:
    crossings = Crossings(SLOW, seed=1)
    assert crossings.next_due_ns() is None
    crossings.send(client(1), b"up", 0, up=True)
    crossings.send(client(1), b"down", 5 * MS, up=False)
    assert crossings.next_due_ns() == 35 * MS
    assert crossings.due(35 * MS - 1) == []
    assert crossings.due(35 * MS) == [Due(35 * MS, client(1), False, b"down")]
    assert crossings.next_due_ns() == 50 * MS
    assert crossings.due(LATEST_NS) == [Due(50 * MS, client(1), True, b"up")]
    assert crossings.next_due_ns() is None


def test_what_is_due_of_several_clients_comes_in_order() -> None:
    crossings = Crossings(SLOW, seed=1)
    order = [3, 1, 2, 1, 3, 2]
    for index, number in enumerate(order):
        crossings.send(client(number), b"", index * MS, up=True)
    assert [due.client.source for due in crossings.due(LATEST_NS)] == order


def test_who_is_sent_later_and_is_due_sooner_is_not_kept_waiting() -> None:
    crossings = Crossings(Profile(Impairments(trace=Trace((70 * MS, 5 * MS)))), seed=1)
    crossings.send(client(1), b"slow", 0, up=False)
    crossings.send(client(1), b"fast", MS, up=False)
    assert crossings.next_due_ns() == 6 * MS
    assert [due.data for due in crossings.due(6 * MS)] == [b"fast"]
    assert crossings.next_due_ns() == 70 * MS


def test_who_overtakes_is_due_first_and_nobody_is_forgotten() -> None:
    half = Profile(Impairments(reorder=Straggle(0.5, 70 * MS)))
    crossings = Crossings(half, seed=3)
    out: list[Due] = []
    for index in range(500):
        now_ns = index * 20 * MS
        crossings.send(client(1), index.to_bytes(2), now_ns, up=True)
        out += crossings.due(now_ns)
        next_ns = crossings.next_due_ns()
        assert next_ns is None or next_ns > now_ns
    out += crossings.due(LATEST_NS)
    times = [due.due_ns for due in out]
    assert times == sorted(times)
    assert sorted(int.from_bytes(due.data) for due in out) == list(range(500))
    assert [due.data for due in out] != sorted(due.data for due in out)


def test_what_is_planned_does_not_grow_while_packets_are_on_their_way() -> None:
    # Every other one is overtaken, and some are always on their way.
    crossings = Crossings(Profile(Impairments(trace=Trace((70 * MS, 5 * MS) * 1_500))), seed=1)
    longest = 0
    for index in range(3_000):
        crossings.send(client(1), b"", index * 20 * MS, up=True)
        crossings.due(index * 20 * MS)
        longest = max(longest, len(crossings._agenda))
    assert longest < 20


def test_one_seed_gives_each_client_the_same_weather_again_and_no_other() -> None:
    fleet = Crossings(profile("R30"), seed=5)
    weather = [fates(fleet, client(number)) for number in (10, 11)]
    again = Crossings(profile("R30"), seed=5)
    # By the order in which they come, not by what the system numbers them.
    assert [fates(again, client(number)) for number in (77, 78)] == weather
    assert weather[0] != weather[1]
    assert fates(Crossings(profile("R30"), seed=6), client(10)) != weather[0]
    assert fates(Crossings(profile("R30"), seed=5), client(10, port=7462)) != weather[0]
    moved = Crossings(profile("R30"), seed=5, first_port=20_000)
    assert fates(moved, client(10, port=27_460)) == weather[0]


def test_its_weather_is_that_of_the_simulation() -> None:
    rng = np.random.default_rng((5, 7460, 0))
    _, up = profile("M2").links(rng)
    expected = []
    for index in range(200):
        lost = up.lost
        up.send(b"", index * 20 * MS)
        expected.append(up.lost == lost)
    assert fates(Crossings(profile("M2"), seed=5), client(1)) == expected


def test_a_trace_is_replayed_to_the_first_client() -> None:
    trace = Trace((MS, None, 3 * MS))
    crossings = Crossings(Profile(Impairments(trace=trace)), seed=1)
    for index in range(3):
        crossings.send(client(1), bytes([index]), index * SECOND, up=False)
    assert [(due.due_ns % SECOND, due.data) for due in crossings.due(LATEST_NS)] == [
        (MS, b"\0"),
        (3 * MS, b"\2"),
    ]


def test_stamps_that_go_back_a_little_do_no_harm() -> None:
    crossings = Crossings(SLOW, seed=1)
    crossings.send(client(1), b"1", 10, up=True)
    crossings.send(client(1), b"2", 7, up=True)
    assert [(due.due_ns, due.data) for due in crossings.due(LATEST_NS)] == [
        (50 * MS + 10, b"1"),
        (50 * MS + 10, b"2"),
    ]


def test_whoever_was_silent_for_longest_makes_room() -> None:
    crossings = Crossings(SLOW, seed=1, most=2)
    for number in (1, 2, 1):
        assert client(number) in crossings or not crossings.make_room()
        crossings.send(client(number), b"", 0, up=True)
    crossings.send(client(2), b"", 0, up=False)  # being sent to is no sign of life
    assert crossings.make_room() == [client(2)]
    crossings.send(client(3), b"", 0, up=True)
    assert [client(number) in crossings for number in (1, 2, 3)] == [True, False, True]
    assert {due.client for due in crossings.due(LATEST_NS)} == {client(1), client(3)}


def test_figures_are_by_port_and_way_and_outlive_their_clients() -> None:
    crossings = Crossings(profile("R30"), seed=1, most=1)
    for number in (1, 2, 3):
        crossings.make_room()
        for _ in range(100):
            crossings.send(client(number), b"", 0, up=True)
        if number < 3:
            crossings.due(0)
    crossings.send(client(3), b"", 0, up=False)
    (port,) = crossings.figures()
    figures = crossings.figures()[port]
    assert (port, figures["clients"]) == ("7460", 3)
    assert figures["down"]["sent"] == 1
    up = figures["up"]
    assert up["sent"] == 300
    assert 60 < up["lost"] < 120
    assert up["in_flight"] == pytest.approx(70, abs=20)
    assert up["sent"] == up["delivered"] + up["lost"] + up["dropped"] + up["in_flight"]


def test_lateness_is_what_the_caller_was_late_by() -> None:
    crossings = Crossings(SLOW, seed=1)
    for index in range(100):
        crossings.send(client(1), b"", index * SECOND, up=True)
        crossings.due(index * SECOND + 50 * MS + (7 * MS if index == 50 else MS // 10))
    late = crossings.late
    assert late.max_ns == 7 * MS
    assert late.percentile_ms(50) == late.percentile_ms(99) == pytest.approx(0.12)
    assert late.percentile_ms(100) == pytest.approx(7.02)
    assert Lateness().percentile_ms(99) == 0


steps = st.lists(
    st.tuples(st.integers(0, 4), st.booleans(), st.sampled_from([0, 1, MS, 50 * MS])), max_size=60
)


@given(steps, st.sampled_from(["L1", "M1", "M3", "R30"]), st.integers(0, 9))
def test_all_that_is_sent_is_accounted_for(
    said: list[tuple[int, bool, int]], name: str, seed: int
) -> None:
    crossings, now_ns, delivered = Crossings(profile(name), seed, most=3), 0, 0
    for number, up, step_ns in said:
        now_ns += step_ns
        if client(number) not in crossings:
            crossings.make_room()
        crossings.send(client(number), b"", now_ns, up=up)
        delivered += len(crossings.due(now_ns))
        assert len(crossings) <= 3
    total = dict.fromkeys(("sent", "delivered", "lost", "dropped", "in_flight"), 0)
    for figures in crossings.figures().values():
        for way in ("up", "down"):
            for count in total:
                total[count] += figures[way][count]
    assert total["sent"] == len(said)
    assert total["delivered"] == delivered
    assert total["sent"] == sum(total.values()) - total["sent"]
