"""`loa backup` and `loa restore`: what people are told."""

import json
import os
import pwd
from pathlib import Path

import pytest

from server.cli import backup, restore
from server.data import DataFolder
from server.keys.folder import KeyFolder
from server.store import Store, StoreError
from tests.support.postgresql import Server


@pytest.fixture(autouse=True)
def _nobodys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LOA_DATABASE", "LOA_PORT", "LOA_SERVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOA_DATA", str(tmp_path / "station"))


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A station, where `LOA_DATA` says."""
    folder = DataFolder(tmp_path / "station")
    folder.create("Tân Phú")
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where its back-up shall be."""
    return tmp_path / "station.tar"


def refused(status: int, capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr()
    assert status == 1
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    return said.err


def test_a_station_is_backed_up_and_restored(
    folder: DataFolder, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert backup.main([str(file)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{file} holds the station 'Tân Phú' as of 20")
    other = tmp_path / "new one"
    assert restore.main([str(file), "--data", str(other)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{other} holds the station 'Tân Phú' as of 20")
    assert "its key is of generation 1002;" in told
    assert told.endswith(f"start it: loa serve --data '{other}'\n")
    DataFolder(other).check()


def test_without_the_root_they_are_told_what_to_do(
    folder: DataFolder, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    KeyFolder(folder.keys).back_up(tmp_path / "root", b"a long passphrase", take_away=True)
    assert backup.main([str(file)]) == 0
    assert restore.main([str(file), "--data", str(tmp_path / "other")]) == 0
    assert "`loa keys restore FILE --data" in capsys.readouterr().out


def test_on_a_server_by_a_url_that_nobody_sees(
    folder: DataFolder,
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    postgresql: Server,
) -> None:
    assert backup.main([str(file)]) == 0
    url = postgresql.new_database().replace("loa@", "loa:secret@")
    other = str(tmp_path / "other")
    capsys.readouterr()
    line = refused(restore.main([str(file), "--data", other, "--database", url]), capsys)
    assert "set LOA_DATABASE" in line
    assert "secret" not in line
    monkeypatch.setenv("LOA_DATABASE", url)
    assert restore.main([str(file), "--data", other]) == 0
    assert "secret" not in capsys.readouterr().out
    monkeypatch.delenv("LOA_DATABASE")
    assert backup.main([str(tmp_path / "again.tar"), "--data", other]) == 0


def test_where_there_is_no_station(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no station" in refused(backup.main([str(file)]), capsys)
    assert not file.exists()


def test_over_a_file_and_over_a_station(
    folder: DataFolder, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert backup.main([str(file)]) == 0
    capsys.readouterr()
    assert "name a new file" in refused(backup.main([str(file)]), capsys)
    assert "holds a station already" in refused(restore.main([str(file)]), capsys)


def test_a_setting_of_a_server_in_a_folder_with_a_file(
    folder: DataFolder,
    file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOA_DATABASE", "postgresql://loa:secret@192.0.2.1/loa")
    line = refused(backup.main([str(file)]), capsys)
    assert "move it with `loa backup`" in line
    assert "secret" not in line


def test_the_audit_log_has_who_backed_it_up_and_who_put_it_back(
    folder: DataFolder, file: Path, tmp_path: Path
) -> None:
    store = Store.open(folder.database)
    store.begin_audit(bytes(32), 1)
    assert backup.main([str(file)]) == 0
    (made,) = store.newest_audit_rows(None, 9)
    store.close()
    who = f"account {pwd.getpwuid(os.geteuid()).pw_name}"
    assert (made.texts[1], made.texts[3]) == (who, "database.backup")
    assert json.loads(made.texts[4])["file"] == str(file)
    other = tmp_path / "new one"
    assert restore.main([str(file), "--data", str(other)]) == 0
    store = Store.open(DataFolder(other).database)
    (back,) = store.newest_audit_rows(None, 9)
    store.close()
    assert (back.texts[1], back.texts[3]) == (who, "database.restore")


def test_a_back_up_that_the_log_cannot_have_is_whole_and_said(
    folder: DataFolder,
    file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise StoreError("the disk is full: make room on it")

    monkeypatch.setattr("server.store.copies.note", full)
    assert backup.main([str(file)]) == 0
    said = capsys.readouterr()
    assert "the back-up is whole, but the audit log does not have it: the disk is full" in said.err
    assert file.exists()
    folder.check()
