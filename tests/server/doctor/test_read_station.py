"""What is read of a real folder, as it is and as it was broken."""

import os
import socket
from pathlib import Path

import pytest

from server.data import DataFolder
from server.directory import Endpoint
from server.doctor import read_station
from server.doctor.station import BackupFacts
from server.settings import Settings
from server.store import Store
from tests.support.postgresql import Server


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A station."""
    folder = DataFolder(tmp_path / "station")
    folder.create("Tân Phú")
    return folder


def test_a_fresh_folder_is_whole_and_closed(folder: DataFolder) -> None:
    assert read_station.folder_facts(folder).problem is None
    assert read_station.folder_facts(folder).exposed == ()
    assert read_station.keys_facts(folder).problem is None
    database = read_station.database_facts(folder.database)
    assert (database.problem, database.damage) == (None, ())
    certificate = read_station.certificate_facts(folder, Settings())
    assert certificate.problem is None
    assert certificate.valid_until_s - certificate.valid_from_s > 3650 * 86_400


def test_what_others_may_open_is_named(folder: DataFolder) -> None:
    folder.token.chmod(0o640)
    assert read_station.folder_facts(folder).exposed == (str(folder.token),)


def test_a_folder_without_a_station_says_how_to_make_one(tmp_path: Path) -> None:
    assert "loa init" in str(read_station.folder_facts(DataFolder(tmp_path)).problem)


def test_a_database_that_was_damaged_is_found_out(folder: DataFolder) -> None:
    data = bytearray(folder.database.read_bytes())
    page = int.from_bytes(data[16:18], "big")
    for begins in range(page, len(data), page):  # the first page has its own header before this
        data[begins : begins + 8] = b"\xff" * 8
    folder.database.write_bytes(data)
    facts = read_station.database_facts(folder.database)
    assert facts.damage or facts.problem


def test_a_page_that_lies_is_told_by_the_quick_check(folder: DataFolder) -> None:
    data = bytearray(folder.database.read_bytes())
    data[36:40] = (10_000).to_bytes(4, "big")  # how many pages are free, in the file's header
    folder.database.write_bytes(data)
    facts = read_station.database_facts(folder.database)
    assert (facts.problem, len(facts.damage) > 0) == (None, True)


def test_a_database_on_a_server_is_reached_beside_its_station(postgresql: Server) -> None:
    url = postgresql.new_database()
    assert "no station's" in str(read_station.database_facts(url).problem)
    using = Store.create(url, "Tân Phú")
    using.save_endpoints([Endpoint("market", "Tân Phú")], 1)
    facts = read_station.database_facts(url)
    using.close()
    assert (facts.problem, facts.speakers, facts.revision) == (None, 1, facts.newest)


def test_keys_and_certificates_that_are_broken(folder: DataFolder) -> None:
    (folder.keys / "station.cert").write_text("nonsense")
    assert "damaged" in str(read_station.keys_facts(folder).problem)
    folder.tls_certificate.write_text("nonsense")
    problem = read_station.certificate_facts(folder, Settings()).problem
    assert "no PEM file" in str(problem)


def test_a_lock_tells_who_runs(folder: DataFolder) -> None:
    assert read_station.process_in(folder) is None
    with folder.lock():
        assert read_station.process_in(folder)
    assert read_station.process_in(folder) is None


def anchor(folder: Path, **settings: str) -> tuple[str | None, bool]:
    (facts,) = read_station.anchors_facts(Settings(**settings), folder)  # type: ignore[arg-type]
    return facts.problem, facts.is_beside


def test_anchors_that_are_reached_and_not(tmp_path: Path) -> None:
    assert anchor(tmp_path, audit_file=str(tmp_path / "heads")) == (None, True)
    assert not (tmp_path / "heads").exists()
    assert anchor(tmp_path, audit_file="/nowhere/at/all")[0] == "No such file or directory"
    assert anchor(tmp_path, audit_syslog=str(tmp_path / "log"))[0] == "No such file or directory"
    assert anchor(tmp_path, audit_syslog="127.0.0.1:514") == (None, False)
    with socket.create_server(("127.0.0.1", 0)) as hook:
        url = f"http://127.0.0.1:{hook.getsockname()[1]}/x"
        assert anchor(tmp_path, audit_webhook=url) == (None, False)
    assert anchor(tmp_path, audit_webhook=url)[0] == "Connection refused"


def test_an_anchor_that_this_user_may_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # root may
    assert anchor(tmp_path, audit_file=str(tmp_path / "heads"))[0] == "Permission denied"


def test_a_back_up_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    file.write_text("nonsense")
    facts = read_station.backup_facts(file)
    assert isinstance(facts, BackupFacts)
    assert "no back-up" in str(facts.problem)


def test_a_station_that_does_not_answer(folder: DataFolder) -> None:
    facts = read_station.answer_facts(folder, "127.0.0.1:1", {}, is_running=True)
    assert "station not found" in str(facts.problem)
    assert not read_station.answer_facts(folder, "127.0.0.1:1", {}, is_running=False).is_running
