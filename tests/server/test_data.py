"""The station's folder: made whole or not at all, found, and kept from others."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from server import data
from server.data import DataError, DataFolder, default_folder
from server.directory import DirectoryError
from server.store import Store, StoreError
from tests.support.postgresql import Server


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "station")


def line(refused: pytest.ExceptionInfo[DataError]) -> str:
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def contents(folder: DataFolder) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.path.rglob("*") if file.is_file()}


# ------------------------------------------------------------------ making
def test_a_station_is_made_with_its_name_and_its_configuration(folder: DataFolder) -> None:
    folder.create("Tân Phú", "# nothing\n")
    folder.check()
    assert folder.config.read_text() == "# nothing\n"
    store = Store.open(folder.database)
    assert store.load().station_name == "Tân Phú"
    store.close()


def test_a_new_folder_is_for_its_user_alone(folder: DataFolder) -> None:
    folder.create("Station")
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_an_empty_folder_is_taken_and_closed_to_others(folder: DataFolder) -> None:
    folder.path.mkdir(mode=0o755)
    (folder.path / "lost+found").mkdir()
    (folder.path / ".unfinished-killed").mkdir()
    folder.create("Station")
    folder.check()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_folders_above_are_made_as_well(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "a" / "b" / "c")
    folder.create("Station")
    folder.check()


def test_a_station_that_exists_is_not_touched(folder: DataFolder) -> None:
    folder.create("First", "# first\n")
    before = contents(folder)
    with pytest.raises(DataError) as refused:
        folder.create("Second", "# second\n")
    assert "holds a station already" in line(refused)
    assert contents(folder) == before


def test_a_folder_with_something_in_it_is_not_taken(folder: DataFolder) -> None:
    folder.path.mkdir(mode=0o755)
    (folder.path / "holiday.jpg").touch()
    with pytest.raises(DataError) as refused:
        folder.create("Station")
    assert "holds holiday.jpg" in line(refused)
    assert [file.name for file in folder.path.iterdir()] == ["holiday.jpg"]
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o755


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "station"):
        with pytest.raises(DataError) as refused:
            DataFolder(path).create("Station")
        assert str(path) in line(refused)


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(
    "at", ["store.Store.create", "data.sync_folder", "data._write", "keys.private._fill"]
)
def test_what_fails_halfway_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, exists: bool
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    folder = DataFolder(tmp_path / "above" / "station")
    if exists:
        folder.path.mkdir(parents=True)
    monkeypatch.setattr(f"server.{at}", fail)
    with pytest.raises(DataError) as refused:
        folder.create("Station", "# settings\n")
    assert "No space left" in line(refused)
    assert list(tmp_path.rglob("*")) == ([folder.path.parent, folder.path] if exists else [])


def test_a_wrong_name_leaves_nothing(folder: DataFolder) -> None:
    with pytest.raises(DirectoryError):
        folder.create("a/b", "# settings\n")
    assert not folder.path.exists()


def test_of_two_who_make_the_same_station_one_is_told(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = data._write

    def write(path: Path, text: str) -> None:
        with pytest.raises(DataError, match="in use by another"):
            folder.create("Second")
        written(path, text)

    monkeypatch.setattr(data, "_write", write)
    folder.create("First", "# first\n")
    folder.check()


# ------------------------------------------------------------------ keys, certificate and token
def test_all_that_is_secret_is_for_its_user_alone(folder: DataFolder) -> None:
    before = os.umask(0)
    try:
        folder.create("Station")
    finally:
        os.umask(before)
    secret = [path for place in folder.secrets for path in (place, *place.rglob("*"))]
    assert len(secret) == 8
    for path in secret:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_database_and_what_sqlite_keeps_beside_it_are_for_its_user_alone(
    folder: DataFolder,
) -> None:
    """What is kept of a code is as good as the code."""
    before = os.umask(0)
    try:
        folder.create("Station")
        assert modes(folder) == {"loa.sqlite3": 0o600}
        store = Store.open(folder.database)
        store.save_codes((), ())
        assert set(modes(folder).values()) == {0o600}
        assert len(modes(folder)) == 3
        store.close()
    finally:
        os.umask(before)


def test_a_database_of_an_older_version_is_closed_to_others(folder: DataFolder) -> None:
    folder.create("Station")
    killed = Store.open(folder.database)
    for name in modes(folder):
        (folder.path / name).chmod(0o644)
    store = Store.open(folder.database)
    assert set(modes(folder).values()) == {0o600}
    store.close()
    killed.close()


def modes(folder: DataFolder) -> dict[str, int]:
    """Of the database and its companions."""
    files = folder.path.glob("loa.sqlite3*")
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in files}


def test_what_an_older_version_has_not_is_made_and_nothing_else(folder: DataFolder) -> None:
    folder.create("Station", "# settings\n")
    shutil.rmtree(folder.tls_certificate.parent)
    folder.token.unlink()
    before = contents(folder)
    with pytest.raises(DataError) as refused:
        folder.check_secrets()
    assert "holds no tls and no operator.token" in line(refused)
    assert f"`loa keys create --data {folder.path}`" in line(refused)
    assert folder.complete() == ["tls", "operator.token"]
    folder.check_secrets()
    after = contents(folder)
    assert before.items() <= after.items()
    assert folder.complete() == []
    assert contents(folder) == after


def test_nothing_is_made_under_a_station_that_runs(folder: DataFolder) -> None:
    folder.create("Station")
    folder.token.unlink()
    with folder.lock(), pytest.raises(DataError, match="in use by another"):
        folder.complete()
    assert not folder.token.exists()


def test_a_folder_without_a_station_is_not_completed(folder: DataFolder) -> None:
    folder.path.mkdir()
    with pytest.raises(DataError, match="holds no station"):
        folder.complete()
    assert list(folder.path.iterdir()) == []


# ------------------------------------------------------------------ checking
def test_what_is_no_station_is_told_with_the_verb_that_makes_one(folder: DataFolder) -> None:
    def check() -> None:
        with pytest.raises(DataError) as refused:
            folder.check()
        assert f"`loa init {folder.path}`" in line(refused)

    check()
    folder.path.mkdir()
    check()
    folder.config.touch()
    check()


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701, 0o777])
def test_a_folder_that_others_can_enter_is_refused_with_what_to_do(
    folder: DataFolder, mode: int
) -> None:
    folder.create("Station")
    folder.path.chmod(mode)
    for use in (folder.check, folder.complete):
        with pytest.raises(DataError) as refused:
            use()
        assert f"`chmod 700 {folder.path}`" in line(refused)
    folder.path.chmod(0o700)
    folder.check()


def test_a_folder_of_another_user_that_others_can_enter_is_not_taken(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.path.mkdir(mode=0o700)
    folder.path.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: folder.path.stat().st_uid + 1)
    with pytest.raises(DataError) as refused:
        folder.create("Station")
    assert f"`chmod 700 {folder.path}`" in line(refused)
    assert list(folder.path.iterdir()) == []


# ------------------------------------------------------------------ the lock
def test_a_second_station_is_told_who_holds_the_folder(folder: DataFolder) -> None:
    folder.create("Station")
    with folder.lock(), pytest.raises(DataError) as refused, folder.lock():
        pass
    assert f"process {os.getpid()}" in line(refused)
    with folder.lock():
        pass


def test_the_lock_goes_with_a_process_that_is_killed(folder: DataFolder) -> None:
    folder.create("Station")
    hold = "import pathlib, sys, time; from server.data import DataFolder\n"
    hold += "with DataFolder(pathlib.Path(sys.argv[1])).lock(): print(flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", hold, str(folder.path)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(DataError, match=str(holder.pid)), folder.lock():
            pass
        holder.send_signal(signal.SIGKILL)
    with folder.lock():
        pass


def test_the_lock_of_a_folder_that_is_not_there_is_an_error_of_one_line(
    folder: DataFolder,
) -> None:
    with pytest.raises(DataError) as refused, folder.lock():
        pass
    assert str(folder.path) in line(refused)


# ------------------------------------------------------------------ where it is
HOMES: list[tuple[Mapping[str, str], str]] = [
    ({"LOA_DATA": "/srv/loa", "XDG_DATA_HOME": "/data", "HOME": "/home/lan"}, "/srv/loa"),
    ({"XDG_DATA_HOME": "/data", "HOME": "/home/lan"}, "/data/loa"),
    ({"XDG_DATA_HOME": "data", "HOME": "/home/lan"}, "/home/lan/.local/share/loa"),
    ({"LOA_DATA": "", "XDG_DATA_HOME": "", "HOME": "/home/lan"}, "/home/lan/.local/share/loa"),
]


@pytest.mark.parametrize(("environment", "expected"), HOMES)
def test_without_a_word_the_users_own_folder_is_meant(
    environment: Mapping[str, str],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(data, "SYSTEM_FOLDER", tmp_path)
    assert default_folder(environment) == Path(expected)


def test_the_systems_folder_is_meant_once_it_holds_a_station(
    monkeypatch: pytest.MonkeyPatch, folder: DataFolder
) -> None:
    monkeypatch.setattr(data, "SYSTEM_FOLDER", folder.path)
    assert default_folder({"HOME": "/home/lan"}) != folder.path
    folder.create("Station")
    assert default_folder({"HOME": "/home/lan"}) == folder.path
    assert default_folder({"LOA_DATA": "/srv/loa"}) == Path("/srv/loa")


def test_who_has_no_home_is_told_to_name_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(data, "SYSTEM_FOLDER", tmp_path)
    with pytest.raises(DataError, match="LOA_DATA"):
        default_folder({})


# ------------------------------------------------------------------ databases on servers
URL = "postgresql://loa:secret@192.0.2.1/loa"


def test_a_station_on_a_server_is_one_with_its_mark_and_no_file(
    folder: DataFolder, postgresql: Server
) -> None:
    url = postgresql.new_database()
    folder.create("Tân Phú", f'database = "{url}"\n', url)
    folder.check()
    assert folder.holds_station()
    assert not folder.database.exists()
    assert folder.place(url) == url
    store = Store.open(url)
    assert store.load().station_name == "Tân Phú"
    store.close()
    with pytest.raises(DataError) as refused:
        folder.place(None)
    assert "set `database` in loa.toml" in line(refused)


def test_a_url_in_the_settings_does_not_take_the_place_of_a_file(folder: DataFolder) -> None:
    folder.create("Station")
    assert folder.place(None) == folder.database
    with pytest.raises(DataError) as refused:
        folder.place(URL)
    assert "`loa restore --database`" in line(refused)
    assert "secret" not in line(refused)


def test_a_server_that_is_not_there_makes_no_folder(folder: DataFolder) -> None:
    with pytest.raises(StoreError, match="start its server"):
        folder.create("Station", "", "postgresql://loa:secret@127.0.0.1:9/loa")
    assert not folder.path.exists()


def test_settings_are_for_their_owner_alone(folder: DataFolder) -> None:
    folder.create("Station", "# nothing\n")
    assert stat.S_IMODE(folder.config.stat().st_mode) == 0o600


def test_what_fails_after_its_tables_were_made_on_a_server_takes_them_away_again(
    folder: DataFolder, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.new_database()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("server.data.sync_folder", fail)
        with pytest.raises(DataError, match="No space left"):
            folder.create("Station", "", url)
    assert not folder.holds_station()
    folder.create("Station", "", url)
    folder.check()


def test_where_they_cannot_be_taken_away_they_are_told_of(
    folder: DataFolder, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.new_database()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def gone(*_: object) -> None:
        raise StoreError("nobody answers there")

    monkeypatch.setattr("server.data.sync_folder", fail)
    monkeypatch.setattr("server.store.copies._discard", gone)
    with pytest.raises(StoreError) as caught:
        folder.create("Station", "", url)
    said = str(caught.value)
    assert "No space left" in said
    assert "the tables that were made stay, empty that database first" in said
    assert len(said.splitlines()) == 1
