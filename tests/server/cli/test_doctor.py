"""`loa doctor`, the real command: in a fresh folder, in a broken one, beside a running station."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from server.cli import doctor
from server.data import DataFolder
from server.doctor.read_machine import ports_facts
from server.settings import Settings

LOA = [sys.executable, "-P", "-m", "loa"]


@pytest.fixture(autouse=True)
def _nobodys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LOA_DATABASE", "LOA_SERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOA_PORT", str(_five_free_ports()))
    monkeypatch.setenv("LOA_DATA", str(tmp_path / "station"))


def _five_free_ports() -> int:
    """The first of them, below those that the system gives to whoever asks for any."""
    begin = 20_000 + os.getpid() % 1_000 * 10  # workers that run at once ask for different ones
    tried = range(begin, begin + 1_000, 10)
    return next(p for p in tried if ports_facts(Settings(port=p), None).problem is None)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A station, where `LOA_DATA` says."""
    folder = DataFolder(tmp_path / "station")
    folder.create("Tân Phú")
    return folder


def findings(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    return {row["check"]: row for row in json.loads(capsys.readouterr().out)}


def test_a_fresh_station_is_well(
    folder: DataFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOA_PORT", "0")
    assert doctor.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "look"}
    assert doctor.main(["--json"]) == 0
    found = findings(capsys)
    assert len(found) == len(lines) == 16
    assert found["database"]["level"] == "ok"


def test_what_is_wrong_is_the_exit_status(
    folder: DataFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder.token.chmod(0o644)
    assert doctor.main(["--json", "--backup", str(tmp_path / "none")]) == 1
    found = findings(capsys)
    assert "chmod" in found["folder"]["remedy"]
    assert found["back-up"]["level"] == "wrong"


def test_where_there_is_no_station_or_the_settings_are_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert doctor.main(["--json"]) == 1
    found = findings(capsys)
    assert "loa init" in found["folder"]["found"]
    assert "keys" not in found
    assert found["kernel"]["level"] == "ok"
    (tmp_path / "station").mkdir()
    (tmp_path / "station" / "loa.toml").write_text("prot = 1\n")
    assert doctor.main(["--json"]) == 1
    assert "did you mean port?" in findings(capsys)["settings"]["found"]


@pytest.mark.realtime
def test_a_running_station_has_its_ports_and_answers(folder: DataFolder) -> None:
    with subprocess.Popen(
        [*LOA, "serve"], stdout=subprocess.PIPE, text=True, env=os.environ.copy()
    ) as station:
        try:
            assert station.stdout is not None
            assert "station ready" in station.stdout.readline()
            done = subprocess.run(
                [*LOA, "doctor", "--json"], capture_output=True, text=True, check=False, timeout=60
            )
            found = {row["check"]: row for row in json.loads(done.stdout)}
            assert done.returncode == 0, done.stdout
            assert "'Tân Phú' runs; 0 of 0" in found["station"]["found"]
            assert found["ports"]["found"].endswith("the station's")
        finally:
            station.send_signal(signal.SIGINT)
            station.wait(20)
