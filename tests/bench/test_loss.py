import json
import wave
from pathlib import Path

import pytest

from bench.cli import main
from bench.loss_matrix import CONDITIONS, markdown, summarised
from bench.loss_measure import Row, Task, measure
from bench.loss_scene import scene_of
from bench.loss_sound import STIPA, VOICE

KEYS = {
    "profile",
    "scheme",
    "playout_delay_ms",
    "raw_loss",
    "residual_loss",
    "pesq_wb",
    "clean_pesq_wb",
    "payload_ratio",
    "wire_kbps",
}


def bench(*words: str) -> int:
    return main(["loss", "--minutes", "0.1", *words])


def test_the_figures_are_written_under_their_names_ours_first(tmp_path: Path) -> None:
    file, plot = tmp_path / "loss.json", tmp_path / "loss.svg"
    assert bench("--profile", "r20", "--json", str(file), "--plot", str(plot)) == 0
    figures = json.loads(file.read_text())
    assert figures.keys() >= KEYS
    assert (figures["profile"], figures["scheme"], figures["seed"]) == ("R20", "loa", 1)
    schemes = [row["scheme"] for row in figures["schemes"]]
    assert schemes[:3] == ["loa", "plc", "inband-fec"]
    assert {"red-1", "red-2", "xor-4+1", "rs-18+10", "repeat-request"} <= set(schemes)
    assert figures["residual_loss"] < figures["schemes"][1]["residual_loss"]
    assert plot.read_text().startswith("<?xml")


def test_by_multicast_no_peer_asks_either() -> None:
    scene = scene_of("R5", "lan", seed=1, multicast=True)
    rows = measure(Task(scene, VOICE, 6))
    assert "repeat-request" not in [row.figures["scheme"] for row in rows]
    assert [row.figures["up_kbps"] for row in rows] == [0.0] * len(rows)


def test_bytes_are_counted_beside_what_the_sound_takes_alone() -> None:
    rows = {
        row.figures["scheme"]: row.figures
        for row in measure(Task(scene_of("R10", "wan", seed=1), VOICE, 6))
    }
    assert rows["plc"]["payload_ratio"] == 1.0
    assert 1.9 < rows["red-1"]["payload_ratio"] <= 2.0
    # 24 kb/s, and 40 bytes of headers 50 times a second.
    assert rows["plc"]["wire_kbps"] == pytest.approx(24 + 16, abs=4)


def test_the_test_signal_is_judged_by_its_index() -> None:
    (row,) = measure(Task(scene_of("L0", "wan", seed=1), STIPA, 12, peers=False))
    assert row.figures["pesq_wb"] is None
    assert row.figures["sti"] == pytest.approx(row.figures["clean_sti"], abs=0.02)
    assert row.figures["sti"] > 0.9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--profile", "R99"], "no profile 'R99'"),
        (["--minutes", "0"], "--minutes 0"),
        (["--minutes", "nan"], "--minutes nan"),
        (["--delivery", "wan", "--multicast"], "unicast alone"),
        (["--audio", "/nowhere.wav"], "there is no such file"),
        (["--trace", "/nowhere.trace"], "/nowhere.trace"),
        (["--stipa", "--audio", "a.wav"], "--stipa"),
        (["--seed", "-1"], "--seed -1: a seed is not negative"),
        (["--matrix", "--json", "a.json"], "--results"),
        (["--matrix", "--results", "/nowhere"], "/nowhere"),
        (["--matrix", "--seeds", "0"], "--seeds"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("--no-peers", *words) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("loa bench loss: ")
    assert said in error
    assert "\n" not in error


def test_where_nobody_speaks_nothing_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    silence, figures = tmp_path / "silence.wav", tmp_path / "loss.json"
    with wave.open(str(silence), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(64_000))
    words = ("--no-peers", "--audio", str(silence), "--json", str(figures))
    for installed, said in ((object(), "no speech to judge"), (None, "are not installed")):
        monkeypatch.setattr("bench.loss.find_spec", lambda _, found=installed: found)
        assert bench(*words) == 0
        assert said in capsys.readouterr().out
        assert json.loads(figures.read_text())["pesq_wb"] is None


def row(scheme: str, residual: float, pesq: float | None) -> Row:
    same = {"profile": "R10", "delivery": "wan", "multicast": False, "playout_delay_ms": 500.0}
    sent = {"rtt_ms": 100.0, "raw_loss": 0.1, "payload_ratio": 2.0, "wire_kbps": 1.0}
    heard = {"residual_loss": residual, "pesq_wb": pesq, "clean_pesq_wb": 4.3, "stoi": None}
    return Row({"scheme": scheme, "up_kbps": 0.0, **same, **sent, **heard}, ())


def test_a_summary_has_the_mean_of_the_seeds_and_the_worst() -> None:
    runs = [[row("loa", 0.0, 4.2), row("plc", 0.1, None)], [row("loa", 0.2, 4.0)] * 2]
    ours, peer = summarised(runs)
    assert (ours["residual_loss"], ours["residual_loss_worst"]) == (0.1, 0.2)
    assert (ours["pesq_wb"], ours["pesq_wb_worst"]) == (4.1, 4.0)
    assert peer["pesq_wb"] == 4.0
    assert peer["stoi"] is None


def test_tables_have_a_line_a_network_and_a_gap_where_a_scheme_is_not_possible() -> None:
    summaries = {
        "one": summarised([[row("loa", 0.001, 4.2), row("plc", 0.1, 2.0)]]),
        "two": summarised([[row("loa", 0.0, None)]]),
    }
    lines = markdown(summaries, "loa bench").splitlines()
    assert "| one | 10.000 | 4.30 | 0.100 | 10.000 |" in lines
    assert "| two | 10.000 | 4.30 | 0.000 |  |" in lines
    assert "| two | 10.000 | 4.30 |  |  |" in lines


def test_networks_of_the_matrix_differ_and_can_be() -> None:
    names = [condition.name for condition in CONDITIONS]
    assert len(set(names)) == len(names)
    for condition in CONDITIONS:
        assert condition.task(1, VOICE, 60).scene.links()
