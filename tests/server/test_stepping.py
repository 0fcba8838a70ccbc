"""How far neighbours are out of step, by what each tells of the same packets."""

import random
from dataclasses import replace
from statistics import median

import pytest

from server.station import Station
from server.stepping import OUT_OF_STEP_US, Step, Stepping, Steps, compare
from tests.support.stations import ROOT, S, a_station, join
from transport.control.lateness import MAX_LATE_US, Lateness
from transport.control.messages import Telemetry

NOW = 1_000 * S
WELL = Telemetry("playing", -20.0, 5.0, 6.0, 75, 0, 0, 0, 12.0, hearing="live-1", way="multicast")


def late(late_us: float, begin_s: int = 992, stream: int = 7, length_s: int = 4) -> Telemetry:
    """Of the same eight packets, which the station sent unevenly."""
    places = tuple(range(0, 8 * 960, 960))
    sent = (0.0, 40.0, 900.0, 3_000.0, 3_100.0, 9_000.0, 9_100.0, 20_000.0)
    said = tuple(min(max(us + late_us, -MAX_LATE_US), MAX_LATE_US) for us in sent)
    return replace(WELL, lateness=Lateness(stream, begin_s, length_s, places, said))


def fastest(packets: dict[int, float]) -> Telemetry:
    """Of packets by their numbers."""
    places = tuple(960 * number for number in packets)
    return replace(WELL, lateness=Lateness(7, 992, 4, places, tuple(packets.values())))


def told(**telemetry: Telemetry) -> Station:
    """A station to which loudspeakers of one unit have said this."""
    station = a_station()
    for name, said in telemetry.items():
        join(station, name, multicast=True, now_ns=NOW)
        station.speakers[name].told(said)
    return station


def steps(station: Station, now_ns: int = NOW) -> Steps:
    return compare(station.speakers.values(), station.directory.endpoints, now_ns)


def errors(station: Station, now_ns: int = NOW) -> dict[str, float]:
    return {name: step.error_us for name, step in steps(station, now_ns).by_name.items()}


def test_each_is_held_against_the_median_of_all_others_of_its_unit() -> None:
    found = steps(told(a=late(300), b=late(310), c=late(330), d=late(2_500)))
    assert found.by_name == {
        "a": Step(-30, 3),
        "b": Step(-20, 3),
        "c": Step(20, 3),
        "d": Step(2_190, 3),
    }
    assert (found.worst_us, found.worst) == (2_200, ("a", "d"))
    assert found.out == 1
    assert [name for name, step in found.by_name.items() if step.is_out] == ["d"]


@pytest.mark.parametrize("count", range(2, 9))
def test_the_median_is_without_the_one_that_is_held_against_it(count: int) -> None:
    draw = random.Random(count)
    said = {f"s{n}": round(draw.gauss(500, 40), 1) for n in range(count)}
    found = errors(told(**{name: late(us) for name, us in said.items()}))
    for name, us in said.items():
        others = median(other for n, other in said.items() if n != name)
        assert found[name] == pytest.approx(us - others, abs=0.11)


def test_what_made_a_packet_late_at_the_station_is_the_same_for_all() -> None:
    """They have not had the same packets: the fastest of each differ by milliseconds."""
    sent = {0: 0.0, 1: 700.0, 2: 2_000.0, 3: 2_500.0, 4: 4_000.0}
    own = {"a": 10.0, "b": 20.0, "c": 35.0, "d": 60.0}
    lost = {"a": 0, "b": 1, "c": 2, "d": 0}
    station = told(
        **{
            name: fastest({n: us + own[name] for n, us in sent.items() if n != lost[name]})
            for name in own
        }
    )
    assert errors(station) == pytest.approx({"a": -25, "b": -15, "c": 15, "d": 40}, abs=0.1)


def test_where_each_has_others_that_were_fastest_the_fastest_of_each_are_compared() -> None:
    own = {"a": 10.0, "b": 20.0, "c": 35.0, "d": 5_060.0}
    station = told(
        **{
            name: fastest({8 * at + n: late + 3.0 * n for n in range(8)})
            for at, (name, late) in enumerate(own.items())
        }
    )
    assert errors(station) == {"a": -25, "b": -15, "c": 15, "d": 5_040}
    assert steps(station).out == 1


def test_of_two_and_of_three_nobody_knows_which_is_wrong() -> None:
    two = steps(told(a=late(0), b=late(5_000)))
    assert {name: step.error_us for name, step in two.by_name.items()} == {"a": -5_000, "b": 5_000}
    assert (two.out, two.worst_us) == (0, 5_000)
    assert steps(told(a=late(0), b=late(10), c=late(5_000))).out == 0


def test_of_one_alone_and_of_who_hears_by_unicast_nothing_is_known() -> None:
    found = steps(told(a=late(0), b=replace(WELL, way="udp"), c=WELL))
    assert found == Steps()
    assert (found.p95_us, found.row) == (None, {})


def test_another_unit_another_stream_and_another_window_are_not_compared() -> None:
    station = told(a=late(0), b=late(10), c=late(900, stream=8), d=late(950, begin_s=988))
    join(station, "e", multicast=True)
    station.speakers["e"].told(late(990))
    station.directory.add_unit(f"{ROOT}/Thôn 1")
    endpoint = replace(station.directory.endpoint("e"), unit=f"{ROOT}/Thôn 1")
    station.directory.put_endpoint(endpoint)
    assert errors(station) == {"a": -10, "b": 10}


def test_who_tells_a_little_later_is_compared_by_the_window_before() -> None:
    station = told(a=late(0, 988), b=late(10, 988), c=late(20, 988))
    station.speakers["a"].told(late(500, 992))
    station.speakers["a"].told(late(500, 992))
    assert errors(station) == {"a": -15, "b": 0, "c": 15}
    station.speakers["b"].told(late(510, 992))
    station.speakers["c"].told(late(550, 992))
    assert errors(station) == {"a": -30, "b": -15, "c": 45}


def test_what_was_told_is_soon_of_the_past() -> None:
    station = told(a=late(0), b=late(10))
    assert errors(station, 1_008 * S) == {"a": -10, "b": 10}
    assert errors(station, 1_009 * S) == {}


def test_who_has_left_is_not_compared() -> None:
    station = told(a=late(0), b=late(10), c=late(20))
    station.speakers["c"].session = None
    assert errors(station) == {"a": -10, "b": 10}


@pytest.mark.parametrize(
    "lie",
    [
        late(MAX_LATE_US),
        late(-MAX_LATE_US),
        late(1e5, begin_s=4_000_000_000),
        late(1e5, begin_s=0),
        late(1e5, length_s=8),
        late(1e5, stream=2**32 - 1),
    ],
)
def test_who_talks_nonsense_spoils_nobody_elses_figure(lie: Telemetry) -> None:
    honest = {f"s{n}": late(300.0 + n) for n in range(9)}
    alone = errors(told(**honest))
    found = steps(told(liar=lie, **honest))
    for name, us in alone.items():
        assert found.by_name[name].error_us == pytest.approx(us, abs=1.0)
        assert not found.by_name[name].is_out
    assert found.out == ("liar" in found.by_name)


def test_the_p95_is_of_all_and_not_of_the_worst() -> None:
    said = {f"s{n}": late(float(n % 2 * 40)) for n in range(39)} | {"wrong": late(9_000)}
    found = steps(told(**said))
    assert found.p95_us is not None
    assert found.p95_us < 50
    assert found.row == {
        "speakers": 40,
        "p95_us": found.p95_us,
        "worst_us": 9_000,
        "worst": [found.row["worst"][0], "wrong"],
        "out_of_step": 1,
    }


def test_the_fault_says_by_how_much_and_which_way() -> None:
    assert "2.3 ms before its neighbours" in Step(2_300, 3).fault
    assert "1.5 ms after its neighbours" in Step(-1_500, 3).fault
    assert Step(OUT_OF_STEP_US, 3).fault == ""
    assert Step(5_000, 2).fault == ""


def test_it_is_worked_out_once_a_second_at_most() -> None:
    station = told(a=late(0), b=late(10))
    stepping = Stepping(station)
    first = stepping.steps(NOW)
    assert first.worst_us == 10
    station.speakers["b"].told(late(90, 996))
    station.speakers["a"].told(late(0, 996))
    assert stepping.steps(NOW + S - 1) is first
    assert stepping.steps(NOW + S).worst_us == 90
