"""That the bench measures what it says; how fast this machine is, nobody asserts."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from bench import seal


def options(**changed: object) -> argparse.Namespace:
    return argparse.Namespace(**{"packets": 60, "seed": 3, "json": None, "plot": None, **changed})


@pytest.mark.parametrize("delivery", ["lan", "wifi", "wan", "saver"])
def test_a_sealed_packet_is_larger_by_the_extension_and_the_tag(delivery: str) -> None:
    row = seal.sizes(delivery, 1)
    assert row["clear"] == pytest.approx(float(str(row["opus"])) + 12)
    assert row["sealed"] == pytest.approx(float(str(row["clear"])) + 72 + 16)


def test_the_rate_on_the_wire_has_ip_and_udp_in_it() -> None:
    row = seal.sizes("wan", 1)
    clear, sealed = float(str(row["clear"])), float(str(row["sealed"]))
    assert row["clear_kbps"] == pytest.approx((clear + 28) * 50 * 8 / 1000)
    assert row["sealed_kbps"] == pytest.approx((sealed + 28) * 50 * 8 / 1000)


def test_shares_are_of_a_core_at_fifty_packets_a_second() -> None:
    times = seal.Times(*(np.array([value]) for value in (20.0, 100.0, 80.0, 500.0)))
    row = seal.costs(20.0, times)
    assert (row["seal_pct"], row["open_pct"]) == (pytest.approx(0.1), pytest.approx(0.5))
    assert (row["seal/ref"], row["open/ref"]) == (pytest.approx(0.04), pytest.approx(0.2))


def test_a_board_is_slower_by_what_is_published() -> None:
    times = seal.Times(*(np.array([value]) for value in (20.0, 100.0, 50.0, 500.0)))
    pi4, pi3 = seal.boards(times)
    assert pi4["open_us"] == pytest.approx(2 * 283.4, rel=1e-3)
    assert pi3["open_pct"] == pytest.approx(2 * 447.7 * 50 / 1e4, rel=1e-3)


def test_the_figures_go_into_the_file_and_what_is_estimated_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "seal.json"
    seal.run(options(json=file))
    figures = json.loads(file.read_text())
    assert [row["frame_ms"] for row in figures["costs"]] == [10.0, 20.0, 60.0]
    assert [row["delivery"] for row in figures["sizes"]] == ["lan", "wifi", "wan", "saver"]
    assert "estimate" in figures["boards_estimate_basis"]
    assert "estimate" in capsys.readouterr().out
    assert figures["seed"] == 3
    assert {"cpu", "commit"} <= figures["environment"].keys()


def test_too_few_packets_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="--packets"):
        seal.run(options(packets=10))
