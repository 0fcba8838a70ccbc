"""What the processes of a bench are started with."""

from pathlib import Path

import pytest

from bench.processes import Bench, ProcessError


def test_an_operator_s_settings_for_another_station_are_not_those_of_a_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOA_TOKEN", "0" * 64)
    monkeypatch.setenv("LOA_DATA", "/nowhere")
    monkeypatch.setenv("HOME", "/home/somebody")
    with Bench(tmp_path) as bench:
        given = {n: v for n, v in bench.environment.items() if n == "HOME" or n.startswith("LOA_")}
        assert given == {"HOME": "/home/somebody", "LOA_DATA": str(tmp_path / "station")}


def test_a_bench_shows_the_token_that_its_station_has_now(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        with pytest.raises(ProcessError, match=r"operator\.token"):
            _ = bench.credentials
        bench.data.create("Bench")
        before = bench.credentials
        bench.data.token.write_text("0" * 64 + "\n")
        assert bench.credentials.token == "0" * 64 != before.token
        assert bench.credentials.trust == before.trust
