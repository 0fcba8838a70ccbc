"""How a fleet is cut into processes, and what is said of a window."""

import argparse
import csv
import json
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from bench import fleet
from bench.fleet_faults import Stalled
from bench.fleet_figures import FleetFigures, Histogram
from bench.fleet_load import SenderCounts
from bench.fleet_process import Part, parts
from bench.fleet_scene import Cast, Window

FIGURES = FleetFigures(
    endpoints=100,
    joined=100,
    received=49_990,
    expected=50_000,
    lost=10,
    duplicate=0,
    corrupt=0,
    too_late=0,
    simulator_dropped=10,
    rejoined=0,
    late_max_ms=9.0,
    longest_gap_ms=25.0,
    late=Histogram(((1.0, 49_000), (2.0, 900), (9.0, 90))),
    transit=Histogram(((5.0, 49_990),)),
)
SENT = SenderCounts(50_000, 0, 0, 0, Histogram(((0.5, 40_000), (4.0, 9_900), (inf, 100))))
WINDOW = Window(100, 10.0, FIGURES, SENT, {"sender": 0.2, "control": 0.3}, 2.0, 0.5)


# ------------------------------------------------------------------ processes of a fleet
@pytest.mark.parametrize(
    ("endpoints", "last", "cut"),
    [
        (200, 0, [(0, 200)]),
        (10_000, 0, [(0, 10_000)]),
        (20_000, 0, [(0, 10_000), (10_000, 10_000)]),
        (10_000, 9_000, [(0, 1_000), (1_000, 9_000)]),
        (20_000, 18_000, [(0, 2_000), (2_000, 10_000), (12_000, 8_000)]),
        (12_500, 2_500, [(0, 10_000), (10_000, 2_500)]),
    ],
)
def test_no_process_simulates_too_many_and_those_set_apart_are_apart(
    endpoints: int, last: int, cut: list[tuple[int, int]]
) -> None:
    assert parts(endpoints, last) == [Part(first, count) for first, count in cut]


def test_everybody_cannot_be_set_apart() -> None:
    with pytest.raises(ValueError, match="set apart"):
        parts(10, 10)


@pytest.mark.parametrize(("frame_ms", "delivery"), [(10.0, "lan"), (20.0, "wan"), (60.0, "saver")])
def test_frames_are_what_a_network_asks_for(frame_ms: float, delivery: str) -> None:
    assert Cast((), frame_ms).delivery == delivery


@pytest.mark.parametrize(("endpoints", "halls"), [(12_000, False), (12_001, True)])
def test_more_sessions_than_control_has_descriptors_for_go_to_a_hall(
    endpoints: int, halls: bool
) -> None:
    options = Cast((Part(0, endpoints),), senders=2).station_options
    assert options[:2] == ["--senders", "2"]
    assert ("--halls" in options) == halls


# ------------------------------------------------------------------ figures
def test_cpu_time_is_told_by_process_and_what_is_not_the_station_s_apart() -> None:
    found = fleet.window_figures(WINDOW)
    assert found["cpu_us_per_endpoint_second"] == pytest.approx(500.0)
    assert found["cpu_us_per_endpoint_second_simulator"] == pytest.approx(2_000.0)
    assert found["us_per_packet_sender"] == pytest.approx(4.0)
    assert found["processes"] == pytest.approx(
        {"control": 0.03, "sender": 0.02, "simulator": 0.2, "voice": 0.05}
    )


def test_lateness_is_that_against_slots_and_the_loudspeakers_stand_beside_it() -> None:
    found = fleet.window_figures(WINDOW)
    assert found["late_p99_ms"] == 4.0
    assert found["late_p99_ms_at_endpoints"] == 2.0


def test_what_is_lost_counts_whoever_dropped_it() -> None:
    found = fleet.window_figures(WINDOW)
    assert found["received_ratio"] == pytest.approx(0.9998)
    assert found["lost"] == found["simulator_dropped"] == 10


def test_stalling_is_judged_by_medians_so_one_bad_turn_is_no_verdict() -> None:
    found = Stalled((2.0, 2.0, 2.0, 9.0, 1.9), (2.1, 2.2, 2.1, 2.1, 30.0), {}, WINDOW)
    assert found.moved_ms == pytest.approx(0.1)
    assert found.moved_share == pytest.approx(0.05)


# ------------------------------------------------------------------ what is written
def options(tmp_path: Path, **changed: object) -> argparse.Namespace:
    files = {name: tmp_path / f"fleet.{name}" for name in ("json", "csv")}
    plain = {"endpoints": 100, "seconds": 1.0, "frame_ms": 20.0, "senders": 1, "seed": 3}
    kinds = {"storm": False, "faults": False, "cost_line": False}
    return argparse.Namespace(**{**plain, **kinds, **files, "plot": tmp_path / "a.svg", **changed})


def a_run(options: argparse.Namespace, endpoints: int, act: fleet.Act) -> fleet.Done:
    """As if a station had been there: 1,000 us a second, and 10 for each loudspeaker."""
    window = replace(
        WINDOW,
        endpoints=endpoints,
        cpu_s={"sender": 10 * (1_000 + 10 * endpoints) / 1e6},
    )
    head = {"endpoints": endpoints, "join_seconds": 1.0}
    row: fleet.Figures = {"first": 0, "event": "figures", "joined": endpoints}
    return fleet.Done(head | fleet.window_figures(window), window, [row, row])


def test_a_run_is_written_with_the_names_that_others_look_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_play", a_run)
    fleet.run(options(tmp_path))
    found = json.loads((tmp_path / "fleet.json").read_text())
    published = {"endpoints", "received_ratio", "simulator_dropped", "late_p99_ms", "join_seconds"}
    assert published | {"cpu_us_per_endpoint_second", "seed", "environment"} <= found.keys()
    with (tmp_path / "fleet.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"first": "0", "joined": "100"}] * 2
    assert "at the senders" in (tmp_path / "a.svg").read_text()


def test_the_line_is_through_every_size_and_says_how_far_each_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_play", a_run)
    fleet.run(options(tmp_path, cost_line=True, endpoints=3_000))
    found = json.loads((tmp_path / "fleet.json").read_text())
    assert (found["fixed_us"], found["slope_us"]) == (pytest.approx(1_000), pytest.approx(10))
    assert [row["endpoints"] for row in found["points"]] == [100, 300, 1_000, 3_000]
    assert found["most_off"] < 1e-9
    assert found["points"][0]["cpu_us_per_second"] == pytest.approx(2_000)
    assert "measured" in (tmp_path / "a.svg").read_text()


def test_frames_of_no_network_are_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(fleet, "_play")
    with pytest.raises(ValueError, match="use 10, 20 or 60"):
        fleet.run(options(tmp_path, frame_ms=25.0))
