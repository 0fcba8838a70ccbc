"""Files that are no station's, and disks that fail: one line that says what to do, no harm done."""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from server.directory import Endpoint
from server.store import Store, StoreError

NOBODY = 65534
CODE = "INSERT INTO enrolments (number, secret_hash, name, expires_at)"


@pytest.fixture
def place(path: Path) -> Path:
    """All of this is about files."""
    return path


def refused(path: Path) -> str:
    with pytest.raises(StoreError) as error:
        Store.open(path)
    line = str(error.value)
    assert len(line.splitlines()) == 1
    assert str(path) in line
    return line


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


# ------------------------------------------------------------------ no station's database
def test_no_file(path: Path) -> None:
    assert "loa init" in refused(path)
    assert not path.exists()


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_text("Dear diary, " * 100)
    assert "no database" in refused(path)
    assert path.read_text() == "Dear diary, " * 100


def test_an_empty_file(path: Path) -> None:
    path.touch()
    assert "no station's" in refused(path)


def test_a_folder(path: Path) -> None:
    path.mkdir()
    refused(path)


@pytest.mark.parametrize("table", ["songs (title)", "meta (key, value)"])
def test_another_programs_database_is_left_as_it_was(path: Path, table: str) -> None:
    change(path, f"CREATE TABLE {table}")
    before = path.read_bytes()
    assert "no station's" in refused(path)
    assert path.read_bytes() == before


def test_a_newer_one_is_not_touched(store: Store, path: Path) -> None:
    store.close()
    change(path, "UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()
    line = refused(path)
    assert "newer Loa" in line
    assert "update" in line
    assert path.read_bytes() == before


def test_a_damaged_one(store: Store, path: Path) -> None:
    store.save_endpoints([Endpoint(f"e{number}", "Tân Phú") for number in range(1000)], 1)
    store.close()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 8000)
    assert "put back a copy" in refused(path)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE endpoints SET volume = 300",
        "UPDATE endpoints SET latitude = 91, longitude = 0",
        "UPDATE endpoints SET public_key = 'short'",
        "INSERT INTO zones (name, definition) VALUES ('a', '{')",
        f"{CODE} VALUES ('0011223x', zeroblob(32), '', 1)",
        f"{CODE} VALUES ('00112233', zeroblob(31), '', 1)",
    ],
)
def test_nonsense_that_somebody_wrote_into_it(store: Store, path: Path, statement: str) -> None:
    store.save_endpoints([Endpoint("market", "Tân Phú")], 1)
    change(path, statement)
    with pytest.raises(StoreError, match="put back a copy"):
        store.load()


def test_a_station_is_not_made_over_another(store: Store, path: Path) -> None:
    with pytest.raises(StoreError, match="exists already"):
        Store.create(path, "Elsewhere")
    assert store.load().station_name == "Tân Phú"


# ------------------------------------------------------------------ disks
@pytest.fixture
def bounded(store: Store) -> Callable[[int], None]:
    """Let the database grow by so many pages more."""

    def bounded(pages: int) -> None:
        with store._transaction() as connection:
            count = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {count + pages}")

    return bounded


def test_a_full_disk_loses_nothing_and_is_over_when_there_is_room(
    store: Store, bounded: Callable[[int], None]
) -> None:
    before = [Endpoint("first", "Tân Phú")]
    store.save_endpoints(before, 1)
    bounded(2)
    many = [Endpoint(f"e{number:03}", "Tân Phú") for number in range(1000)]
    with pytest.raises(StoreError, match="the disk is full: make room"):
        store.save_endpoints(many, 1)
    assert store.load().endpoints == tuple(before)
    bounded(1000)
    store.save_endpoints(many, 1)
    assert store.load().endpoints == (*many, *before)


@pytest.fixture
def foreign() -> Iterator[Path]:
    """A folder that this user may read and not write; as root, as another user."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Store.create(folder / "loa.sqlite3", "Tân Phú").close()
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        yield folder
        os.seteuid(user)
        folder.chmod(0o755)


def test_a_folder_that_cannot_be_written(foreign: Path) -> None:
    line = refused(foreign / "loa.sqlite3")
    assert f"let this user write {foreign}" in line or f"read and write {foreign}" in line
    with pytest.raises(StoreError, match="read and write"):
        Store.create(foreign / "other.sqlite3", "Tân Phú")
    assert [file.name for file in foreign.iterdir()] == ["loa.sqlite3"]


def test_a_folder_that_cannot_even_be_looked_into(foreign: Path) -> None:
    user = os.geteuid()
    os.seteuid(foreign.stat().st_uid)
    foreign.chmod(0)
    os.seteuid(user)
    assert "Permission denied" in refused(foreign / "loa.sqlite3")


def test_a_database_that_another_program_keeps_locked(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    monkeypatch.setattr("server.store.sqlite._PRAGMAS", ("busy_timeout = 1",))
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "another program" in refused(path)
