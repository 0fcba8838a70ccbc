"""What is written of operators' calls, of a whole run and of one that was cut short."""

import argparse
import json
from math import inf
from pathlib import Path

import pytest

from bench import operators
from bench.fleet_figures import FleetFigures, Histogram
from bench.fleet_load import SenderCounts
from bench.fleet_scene import Window
from bench.operators_database import Growth
from bench.operators_database import Reading as Database
from bench.operators_figures import Call
from bench.operators_machine import Reading as Machine
from bench.report import ReportError

FIGURES = FleetFigures(
    **dict.fromkeys(("endpoints", "joined", "received", "expected"), 100),
    **dict.fromkeys(("lost", "duplicate", "corrupt", "too_late", "simulator_dropped"), 0),
    rejoined=0,
    late_max_ms=9.0,
    longest_gap_ms=65.0,
    late=Histogram(((1.0, 99), (9.0, 1))),
    transit=Histogram(((60.0, 100),)),
)
SENT = SenderCounts(100, 0, 0, 3, Histogram(((0.5, 100),)))
ALONE = Window(100, 10.0, FIGURES, SENT, {"control": 1.0, "sender": 0.5}, 2.0, 0.5)
BUSY = Window(100, 100.0, FIGURES, SENT, {"control": 30.0, "sender": 5.0}, 20.0, 5.0)
EMPTY = Database(1_000_000, 0, {"audit": 0}, {"audit": 4_096}, ({}, {}))
FULL = Database(1_008_640, 0, {"audit": 50}, {"audit": 12_736}, ({"zone.put": 50}, {}))
CALLS = [
    Call(1_000.0, "zone", 200, 4.0, 240),
    Call(1_030.0, "programmes", 200, 6.0, 300),
    Call(1_090.0, "volume", 503, 20.0, 40, 5.0),
    Call(1_090.0, "sign in", 201, 300.0, 100),
    Call(1_091.0, "connect", 0, 3.0, 0),
]


def seen(**changed: object) -> operators.Seen:
    whole = {
        "began_s": 995.0,
        "seconds": 100.0,
        "calls": CALLS,
        "signed_in": CALLS[3:4],
        "late_ms": [0.5, 1.5],
        "alone": ALONE,
        "window": BUSY,
        "growth": Growth(EMPTY, FULL, 100.0),
        "lag": Histogram(((1.0, 399), (inf, 1))),
        "desk_cpu_s": 5.0,
        "readings": (Machine(50_000_000, 0, 1.0, 10.0), Machine(60_000_000, 4_096, 3.0, 90.0)),
    }
    return operators.Seen(2.5, **{**whole, **changed})  # type: ignore[arg-type]


def options(tmp_path: Path, **changed: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    operators.add_options(parser)
    plain = vars(parser.parse_args(["--endpoints", "100", "--operators", "10"]))
    files = {"json": tmp_path / "operators.json", "plot": tmp_path / "operators.svg", "seed": 1}
    return argparse.Namespace(**{**plain, **files, **changed})


def written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: operators.Seen
) -> dict[str, object]:
    monkeypatch.setattr(operators, "_play", lambda _: of)
    given = options(tmp_path)
    operators.run(given)
    found: dict[str, object] = json.loads(given.json.read_text())
    return found


def test_a_run_is_written_with_the_names_that_others_look_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = written(tmp_path, monkeypatch, seen())
    assert (found["calls"], found["in_vain"], found["p99_ms"]) == (3, 1, 20.0)
    assert found["p99_ms_with_connecting"] == 25.0
    assert found["errors"] == {"volume: 503": 1}
    assert found["control_lag_ms"] == {"p50": 1.0, "p99": 1.0, "p999": None, "max": None}
    assert found["kinds"]["sign in"]["max_ms"] == 300.0  # type: ignore[index]
    assert found["media"]["sender_overruns"] == 3  # type: ignore[index]
    assert "read" in (tmp_path / "operators.svg").read_text()


def test_what_operators_cost_control_is_told_beside_a_while_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = written(tmp_path, monkeypatch, seen())
    assert found["control_share"] == pytest.approx(0.3)
    assert found["control_share_without_operators"] == pytest.approx(0.1)
    assert found["control_ms_per_call"] == pytest.approx(20.0 / 3 * 1e3)
    assert found["control_waited_share"] == pytest.approx(0.02)
    # 80 s of work in all: 35 were the station's, 20 the loudspeakers', 5 each voice and operators.
    assert found["others_share"] == pytest.approx(0.15)


def test_what_is_kept_is_told_for_the_days_that_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = written(tmp_path, monkeypatch, seen())["database"]
    assert isinstance(found, dict)
    # 8,640 bytes in 100 s are 7.46 MB a day, of which operators are there for a third.
    assert found["bytes_per_endpoint_day"] == pytest.approx(7_464_960 / 3 / 100)
    kept = 1_008_640 + 7_464_960 / 3 * found["audit_days"]
    assert found["mb_with_retention"] == pytest.approx(kept / 1e6)


def test_what_there_is_of_a_run_cut_short_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = dict.fromkeys(("window", "growth", "lag", "readings"))
    found = written(tmp_path, monkeypatch, seen(**nothing, cut_short="interrupted"))
    assert (found["calls"], found["cut_short"]) == (3, "interrupted")
    assert "media" not in found
    assert "cut short: interrupted" in capsys.readouterr().err


def test_a_run_without_a_call_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReportError, match="no values"):
        written(tmp_path, monkeypatch, seen(calls=[]))


@pytest.mark.parametrize(
    ("name", "value"), [("frame_ms", 25.0), ("operators", 0), ("minutes", 0.0), ("communes", 0)]
)
def test_what_cannot_be_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    monkeypatch.delattr(operators, "_play")
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')}"):
        operators.run(options(tmp_path, **{name: value}))


@pytest.mark.realtime
def test_operators_are_answered_and_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "_ALONE_S", 1.0)
    given = options(tmp_path, endpoints=20, communes=4, operators=6, minutes=0.1, think_s=0.1)
    operators.run(given)
    found = json.loads(given.json.read_text())
    assert found["in_vain"] == 0
    assert found["errors"] == {}
    assert found["calls"] > 100
    assert {"read", "change", "wait for loudspeakers"} <= found["groups"].keys()
    assert found["sign_in_before"]["calls"] == 6
    assert found["media"]["received"] > 0
    assert found["media"]["lost"] <= found["media"]["sender_stale"]
    assert found["database"]["audited_by_people"]["speaker.change"] > 0
    assert found["cut_short"] == ""
