"""`loa bench impair`: how it judges, what it writes, what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench import cli, impair_bench
from bench.impair_bench import Evidence

RUNS = tuple(np.arange(401, dtype=float).tolist())


def test_evidence_is_inside_or_it_is_not() -> None:
    inside, outside = (Evidence("loss", "R20", real, RUNS).row() for real in (10.0, 9.0))
    assert (inside["low"], inside["middle"], inside["high"]) == (10.0, 200.0, 390.0)
    assert (inside["inside"], outside["inside"], inside["runs"]) == (True, False, 401)


def test_all_evidence_is_shown_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []

    def loss(*words: object) -> Evidence:
        asked.append(words)
        return Evidence("loss", str(words[0]), 0.2, (0.1, 0.2, 0.3))

    def in_step(*words: object) -> list[Evidence]:
        asked.append(words)
        return [Evidence("apart, us", "L1", 500.0, RUNS), Evidence("in order", "L1", 5.0, RUNS)]

    monkeypatch.setattr(impair_bench, "loss", loss)
    monkeypatch.setattr(impair_bench, "in_step", in_step)
    figures, plot = tmp_path / "impair.json", tmp_path / "impair.svg"
    words = ["--seed", "7", "--runs", "50", "--json", str(figures), "--plot", str(plot)]
    assert cli.main(["impair", *words]) == 0
    assert asked == [("R20", 7, 50), ("M2", 7, 50), ("L1", 7, 50, 20.0, 20.0)]
    document = json.loads(figures.read_text())
    assert [row["inside"] for row in document["rows"]] == [True, True, False, False]
    assert (document["seed"], document["settle_s"]) == (7, 20.0)
    assert "apart, us" in capsys.readouterr().out
    assert "<svg" in plot.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--runs", "39"), "--runs 39: use 40 to"),
        (("--settle", "nan"), "use 15 to 600 seconds"),
        (("--seed", "-1"), "a seed is not negative"),
    ],
)
def test_wrong_words_give_one_clear_line(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["impair", *words]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
