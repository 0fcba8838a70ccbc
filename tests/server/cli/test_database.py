"""`loa database`: which tables there are, and the way back."""

from pathlib import Path

import pytest

from server.cli import database
from server.data import DataFolder
from server.directory import Endpoint
from server.store import Store
from server.store.revisions import known, revision_at
from tests.support.postgresql import Server

NEWEST = known()[0].name


@pytest.fixture(autouse=True)
def _nobodys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LOA_DATABASE", raising=False)
    monkeypatch.setenv("LOA_DATA", str(tmp_path / "station"))


@pytest.fixture(params=["sqlite", "postgresql"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> DataFolder:
    """A station with a loudspeaker, where `LOA_DATA` says."""
    folder = DataFolder(tmp_path / "station")
    url = None
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        url = server.new_database()
    folder.create("Tân Phú", "" if url is None else f'database = "{url}"\n', url)
    store = Store.open(folder.place(url))
    store.save_endpoints([Endpoint("market", "Tân Phú")], 1)
    store.close()
    return folder


def starred(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().out.splitlines()
    (now,) = [line for line in lines if line.startswith("* ")]
    assert len(lines) == 1 + len(known())
    return now.split()[1]


def test_it_goes_back_and_a_newer_loa_brings_it_forth(
    folder: DataFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert database.main([]) == 0
    assert starred(capsys) == NEWEST
    assert database.main(["--downgrade", "0001"]) == 0
    assert starred(capsys) == "0001"
    assert database.main(["--downgrade", "0002"]) == 1
    assert "no way back to '0002' from 0001" in capsys.readouterr().err
    place = folder.database
    if folder.mark.exists():
        place = folder.place(folder.config.read_text().split('"')[1])  # type: ignore[assignment]
    store = Store.open(place)
    assert [endpoint.name for endpoint in store.load().endpoints] == ["market"]
    store.close()
    assert revision_at(place) == NEWEST


def test_a_station_that_runs_keeps_its_tables(
    folder: DataFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with folder.lock():
        assert database.main(["--downgrade", "0001"]) == 1
    assert "in use by another station" in capsys.readouterr().err
    assert database.main([]) == 0
    assert starred(capsys) == NEWEST
