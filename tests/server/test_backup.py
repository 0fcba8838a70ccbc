"""A station in one file and out of it: all that was acknowledged, and no number twice."""

import os
import shutil
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from server.archive import ArchiveError, Writer, write
from server.audit.row import Entry, Tail, genesis_hash, row_hash
from server.backup import back_up, note_back_up, restore
from server.configuration import configure
from server.data import DataError, DataFolder
from server.directory import Endpoint
from server.keys.folder import SKIPPED_GENERATIONS, KeyFolder
from server.keys.token import TokenFile
from server.store import Store, StoreError
from tests.support.postgresql import Server

ROOT = "Tân Phú"
NOW_S = 1_700_000_000
NOW_NS = NOW_S * 1_000_000_000


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    """Where the station's database is; None is the file in its folder."""
    return new_url(request) if request.param == "postgresql" else None


@pytest.fixture(params=["sqlite", "postgresql"])
def other_url(request: pytest.FixtureRequest) -> str | None:
    """Where that of the station that is put back shall be."""
    return new_url(request) if request.param == "postgresql" else None


def new_url(request: pytest.FixtureRequest) -> str:
    server: Server = request.getfixturevalue("postgresql")
    return server.new_database()


@pytest.fixture
def folder(tmp_path: Path, url: str | None) -> DataFolder:
    """A station."""
    folder = DataFolder(tmp_path / "station")
    configuration = "port = 9000\n" if url is None else f'database = "{url}"\nport = 9000\n'
    folder.create(ROOT, configuration, url)
    return folder


@pytest.fixture
def other(tmp_path: Path) -> DataFolder:
    """Where a station can be made."""
    return DataFolder(tmp_path / "other")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where its back-up shall be."""
    return tmp_path / "station.tar"


@pytest.fixture
def alone(tmp_path: Path) -> DataFolder:
    """A station whose database is a file."""
    folder = DataFolder(tmp_path / "station")
    folder.create(ROOT, "port = 9000\n")
    return folder


def opened(folder: DataFolder, url: str | None) -> "closing[Store]":
    return closing(Store.open(folder.place(url)))


def test_a_station_comes_back_on_either_database(
    folder: DataFolder, url: str | None, other: DataFolder, other_url: str | None, file: Path
) -> None:
    (folder.path / "content" / "a").mkdir(parents=True)
    (folder.path / "content" / "a" / "chime.opus").write_bytes(b"sound")
    with opened(folder, url) as store:
        store.save_endpoints([Endpoint("market", ROOT)], 1)
        contents, boot = store.load(), store.next_boot()
        about = back_up(folder, folder.place(url), file, NOW_S)
    assert (about.station, about.made_at) == (ROOT, NOW_S)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert restore(file, other, other_url, NOW_NS) == about
    other.check()
    other.check_secrets()
    with opened(other, other_url) as store:
        assert store.load() == contents
        assert store.next_boot() > boot + 9_000
    assert (other.path / "content" / "a" / "chime.opus").read_bytes() == b"sound"
    assert TokenFile(other.token).load() == TokenFile(folder.token).load()
    assert other.tls_key.read_bytes() == folder.tls_key.read_bytes()
    settings = configure({"data": str(other.path)}, {})
    assert (settings.port, settings.database) == (9000, other_url)


def test_loudspeakers_know_the_root_and_have_seen_no_younger_key(
    alone: DataFolder, other: DataFolder, file: Path
) -> None:
    back_up(alone, alone.database, file, NOW_S)
    KeyFolder(alone.keys).rotate()
    last = KeyFolder(alone.keys).rotate()
    restore(file, other, None, NOW_NS)
    keys = KeyFolder(other.keys).load()
    assert keys.certificate.root == last.certificate.root
    assert keys.certificate.generation > last.certificate.generation + SKIPPED_GENERATIONS - 10
    assert keys.key.public != last.key.public


def test_the_audit_log_goes_on_and_says_that_the_station_was_put_back(
    alone: DataFolder, other: DataFolder, file: Path
) -> None:
    with opened(alone, None) as store:
        store.begin_audit(bytes(32), 1)
        store.note([Entry.of(2, "token", "", "zone.put", {"zone": "schools"})])
        before = store.audit_rows(0, 10, 10)
    back_up(alone, alone.database, file, NOW_S)
    restore(file, other, None, NOW_NS, "account loa")
    with opened(other, None) as store:
        *first, last = store.audit_rows(0, 10, 10)
    assert tuple(first) == before
    told = {"made_at": NOW_S, "generation": 2 + SKIPPED_GENERATIONS}
    assert last == Tail.of(before[-1]).append(
        Entry.of(NOW_NS, "account loa", "", "database.restore", told)
    )


def test_the_audit_log_of_a_station_that_runs_says_that_it_was_backed_up(
    folder: DataFolder, url: str | None, file: Path
) -> None:
    place = folder.place(url)
    with opened(folder, url) as store:
        about = back_up(folder, place, file, NOW_S)
        note_back_up(place, about, file, "account loa")  # it has not begun yet
        store.begin_audit(bytes(32), 1)

        def write() -> None:
            for number in range(100):
                store.note([Entry.of(number, "x", "", "y")])

        writing = threading.Thread(target=write)
        writing.start()
        for _ in range(20):
            note_back_up(place, about, file, "account loa")
        writing.join()
        rows = store.audit_rows(0, 1000, 1000)
    previous = genesis_hash(bytes(32))
    for number, row in enumerate(rows, 1):
        assert (row.seq, row.hash) == (number, row_hash(previous, number, row.texts))
        previous = row.hash
    told = [row.texts for row in rows if row.texts[3] == "database.backup"]
    on = {"file": str(file), "made_at": NOW_S}
    assert told == 20 * [Entry.of(NOW_NS, "account loa", "", "database.backup", on).texts()]
    assert len(rows) == 120


def test_a_restoration_that_fails_leaves_no_tables_on_a_server(
    alone: DataFolder,
    other: DataFolder,
    file: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    back_up(alone, alone.database, file, NOW_S)
    url = new_url(request)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("server.backup._own_like", fail)
        with pytest.raises((ArchiveError, DataError), match="No space left"):
            restore(file, other, url, NOW_NS)
    restore(file, other, url, NOW_NS)
    other.check()


def test_without_the_root_the_key_is_as_it_was(
    alone: DataFolder, other: DataFolder, file: Path, tmp_path: Path
) -> None:
    KeyFolder(alone.keys).back_up(tmp_path / "root", b"a long passphrase", take_away=True)
    back_up(alone, alone.database, file, NOW_S)
    restore(file, other, None, NOW_NS)
    assert KeyFolder(other.keys).load().certificate == KeyFolder(alone.keys).load().certificate


def test_all_that_was_acknowledged_before_is_there_and_nothing_by_half(
    folder: DataFolder, url: str | None, other: DataFolder, file: Path
) -> None:
    stopping, acknowledged = threading.Event(), [0]

    def load() -> None:
        with opened(folder, url) as store:
            ready.set()
            while not stopping.is_set():
                number = acknowledged[0] + 1
                names = [f"e{number}-{part}" for part in range(3)]
                store.save_endpoints([Endpoint(name, ROOT) for name in names], number)
                acknowledged[0] = number

    ready = threading.Event()
    writing = threading.Thread(target=load)
    writing.start()
    try:
        assert ready.wait(60)
        while acknowledged[0] < 5:
            assert writing.is_alive()
        before = acknowledged[0]
        back_up(folder, folder.place(url), file, NOW_S)
    finally:
        stopping.set()
        writing.join()
    restore(file, other, None, NOW_NS)
    with opened(other, None) as store:
        names = {endpoint.name for endpoint in store.load().endpoints}
    assert {f"e{n}-{part}" for n in range(1, before + 1) for part in range(3)} <= names
    assert len(names) % 3 == 0
    assert len(names) <= 3 * acknowledged[0]


# ------------------------------------------------------------------ what is refused
@pytest.fixture
def backed_up(alone: DataFolder, file: Path) -> Path:
    back_up(alone, alone.database, file, NOW_S)
    return file


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_station_is_not_made_over_another(alone: DataFolder, backed_up: Path) -> None:
    before = contents(alone.path)
    with pytest.raises(DataError, match="holds a station already"):
        restore(backed_up, alone, None, NOW_NS)
    assert contents(alone.path) == before


def test_a_folder_with_something_in_it_is_not_taken(other: DataFolder, backed_up: Path) -> None:
    other.path.mkdir()
    (other.path / "holiday.jpg").touch()
    with pytest.raises(DataError, match="holds holiday"):
        restore(backed_up, other, None, NOW_NS)
    assert list(contents(other.path)) == [other.path / "holiday.jpg"]


def test_a_database_in_use_is_not_taken_and_no_folder_made(
    other: DataFolder, backed_up: Path, postgresql: Server
) -> None:
    url = postgresql.new_database()
    Store.create(url, "Elsewhere").close()
    with pytest.raises(StoreError, match="holds a station already"):
        restore(backed_up, other, url, NOW_NS)
    assert not other.path.exists()


def test_a_damaged_one_makes_nothing(other: DataFolder, backed_up: Path) -> None:
    data = bytearray(backed_up.read_bytes())
    data[data.index(b"-----BEGIN") + 40] ^= 1
    backed_up.write_bytes(data)
    with pytest.raises(ArchiveError, match="use another back-up"):
        restore(backed_up, other, None, NOW_NS)
    assert not other.path.exists()


@pytest.mark.parametrize(
    "name", ["folder/loa.toml", "folder/loa.sqlite3", "folder/keys/station.cert", "tables/units"]
)
def test_what_was_made_by_somebody_else_makes_nothing(
    other: DataFolder, file: Path, name: str
) -> None:
    from server.archive import About  # noqa: PLC0415

    def fill(writer: Writer) -> None:
        writer.add_lines(name, [b"\xffnonsense\n"])
        writer.finish(About(ROOT, "0003", "1", NOW_S))

    write(file, fill)
    with pytest.raises((ArchiveError, DataError, StoreError)) as refused:
        restore(file, other, None, NOW_NS)
    assert len(str(refused.value).splitlines()) == 1
    assert not other.path.exists()


def test_a_back_up_does_not_hold_itself(alone: DataFolder) -> None:
    with pytest.raises(ArchiveError, match="name a file on another disk"):
        back_up(alone, alone.database, alone.path / "backup.tar", NOW_S)
    assert not (alone.path / "backup.tar").exists()


def test_a_link_out_of_the_folder_is_told_not_left_out(
    alone: DataFolder, file: Path, tmp_path: Path
) -> None:
    (alone.path / "content").symlink_to(tmp_path)
    with pytest.raises(ArchiveError, match="mount it there"):
        back_up(alone, alone.database, file, NOW_S)
    assert not file.exists()


# ------------------------------------------------------------------ settings
@pytest.mark.parametrize(
    "text",
    ["", "port = 9000\n", "# nothing", 'database = "postgresql://old/old"\nport = 9000\n'],
)
def test_the_settings_name_the_database_there_is(
    text: str, alone: DataFolder, other: DataFolder, file: Path, postgresql: Server, tmp_path: Path
) -> None:
    alone.config.write_text(text)
    back_up(alone, alone.database, file, NOW_S)
    url = postgresql.new_database()
    restore(file, other, url, NOW_NS)
    assert configure({"data": str(other.path)}, {}).database == url
    third = DataFolder(tmp_path / "third")
    restore(file, third, None, NOW_NS)
    assert configure({"data": str(third.path)}, {}).database is None
    assert stat.S_IMODE(other.config.stat().st_mode) == 0o600


@pytest.fixture
def strangers() -> Callable[[Path], None]:
    if os.geteuid() != 0:
        pytest.skip("only root can give folders away")

    def give(folder: Path) -> None:
        folder.mkdir(mode=0o700)
        shutil.chown(folder, 65534, 65534)

    return give


def test_what_root_puts_back_belongs_to_the_station_s_user(
    strangers: Callable[[Path], None], other: DataFolder, backed_up: Path
) -> None:
    strangers(other.path)
    restore(backed_up, other, None, NOW_NS)
    kept = [path for path in other.path.rglob("*") if path.name != "lock"]
    assert {path.stat().st_uid for path in kept} == {65534}
