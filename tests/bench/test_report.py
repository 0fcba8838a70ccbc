import json
import math
import sys
import types
from collections.abc import Callable
from importlib import metadata
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bench import report
from bench.report import ReportError


def printed(title: str, rows: list[dict[str, object]]) -> str:
    out = StringIO()
    report.table(title, rows, Console(file=out, width=100))
    return out.getvalue()


# ------------------------------------------------------------------ environment
def test_the_environment_names_machine_commit_and_versions() -> None:
    found = report.environment()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert isinstance(found["cores"], int)
    assert found["versions"] == {
        name: metadata.version(name) for name in ("av", "numpy", "opuslib-next", "trio", "uvloop")
    }
    assert {"cpu", "kernel", "commit", "libopus"} <= found.keys()
    assert found["dred"] is False


@pytest.mark.parametrize(("changes", "commit"), [("", "abc"), (" M file", "abc+dirty")])
def test_a_commit_with_changes_is_marked(
    monkeypatch: pytest.MonkeyPatch, changes: str, commit: str
) -> None:
    answers = {"rev-parse": "abc", "status": changes}
    monkeypatch.setattr(report, "_git", lambda *arguments: answers[arguments[0]])
    assert report.environment()["commit"] == commit


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert report.environment()["commit"] is None


def test_outside_a_repository_there_is_no_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(report, "_HERE", tmp_path)
    assert report.environment()["commit"] is None


@pytest.mark.parametrize("version", ["libopus 1.6", lambda: "libopus 1.6"])
def test_libopus_is_asked_for_its_version(
    monkeypatch: pytest.MonkeyPatch, version: str | Callable[[], str]
) -> None:
    module = types.ModuleType("codec.libopus")
    module.version = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "codec.libopus", module)
    assert report.environment()["libopus"] == "libopus 1.6"


def test_libopus_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "codec.libopus", None)
    assert report.environment()["libopus"] is None


# ------------------------------------------------------------------ percentiles
def test_percentiles_carry_their_unit() -> None:
    figures = report.percentiles(range(101), "ms")
    assert figures == {"p50_ms": 50, "p95_ms": 95, "p99_ms": 99, "max_ms": 100}
    assert report.percentiles([7.0]) == {"p50": 7, "p95": 7, "p99": 7, "max": 7}


def test_no_values_have_no_percentiles() -> None:
    with pytest.raises(ReportError):
        report.percentiles([])


# ------------------------------------------------------------------ table
def test_a_table_shows_every_key_once_and_gaps_as_gaps() -> None:
    out = printed("latency", [{"profile": "L1", "p99_ms": 41.23456}, {"profile": "L2", "n": 12345}])
    lines = [line for line in out.splitlines() if "L" in line]
    assert "latency" in out
    assert [out.count(key) for key in ("profile", "p99_ms")] == [1, 1]
    assert lines[0].split()[1::2] == ["L1", "41.23", "-"]
    assert lines[1].split()[1::2] == ["L2", "-", "12,345"]


def test_square_brackets_are_text() -> None:
    assert "[red]x[/red]" in printed("[b]t", [{"[k]": "[red]x[/red]"}])
    assert "[b]t" in printed("[b]t", [{"k": True}])


# ------------------------------------------------------------------ JSON
def read_written(path: Path, figures: dict[str, object]) -> dict[str, object]:
    report.write_json(path, figures, seed=7)
    written: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return written


def test_figures_are_written_beside_seed_and_environment(tmp_path: Path) -> None:
    written = read_written(tmp_path / "a.json", {"p99_ms": 41.5, "profile": "L1"})
    assert written.pop("environment") == report.environment()
    assert written == {"p99_ms": 41.5, "profile": "L1", "seed": 7}


def test_numpy_values_become_plain_and_the_unspeakable_null(tmp_path: Path) -> None:
    figures: dict[str, object] = {
        "a": np.float32(0.5),
        "b": np.arange(3),
        "c": {"d": (math.nan, -math.inf, np.int64(4))},
        "e": np.array([1.0, np.nan]),
    }
    written = read_written(tmp_path / "a.json", figures)
    assert written["a"] == 0.5
    assert written["b"] == [0, 1, 2]
    assert written["c"] == {"d": [None, None, 4]}
    assert written["e"] == [1.0, None]


@pytest.mark.parametrize("figures", [{"seed": 1}, {"environment": 1}, {"x": object()}])
def test_figures_that_cannot_be_written_are_refused(
    tmp_path: Path, figures: dict[str, object]
) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(ReportError):
        report.write_json(path, figures, seed=1)
    assert not path.exists()


# ------------------------------------------------------------------ plot
SERIES = {"wired": np.array([1.0, 2.0, 3.0]), "Wi-Fi": np.array([2.0, 5.0])}


def test_a_plot_is_an_svg_with_its_words(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    report.plot_cdf(path, SERIES, "error, µs", "Speaker to speaker")
    text = path.read_text(encoding="utf-8")
    assert "<svg" in text
    for word in ("wired", "Wi-Fi", "error, µs", "Speaker to speaker"):
        assert f"<!-- {word} -->" in text


def test_equal_data_make_equal_plots(tmp_path: Path) -> None:
    paths = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in paths:
        report.plot_cdf(path, SERIES, "x", "t")
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_an_empty_series_is_not_plotted(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="wired"):
        report.plot_cdf(tmp_path / "a.svg", {"wired": np.zeros(0)}, "x", "t")


def test_points_are_plotted_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "line.svg"
    report.plot_line(path, [(100, 2.0), (20_000, 90.0)], lambda n: 1 + n / 200, "N", "us", "cost")
    drawn = path.read_text()
    assert all(word in drawn for word in ("cost", "measured", "fixed + slope x N"))


def test_a_line_without_points_is_not_plotted(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no points"):
        report.plot_line(tmp_path / "line.svg", [], lambda n: n, "N", "us", "cost")


def test_without_matplotlib_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ReportError, match=r"pip install loa\[dev\]") as caught:
        report.plot_cdf(tmp_path / "a.svg", SERIES, "x", "t")
    assert "\n" not in str(caught.value)
    assert "make check" in str(caught.value)
