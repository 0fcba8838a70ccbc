"""How a database is read beside its station, and what is made of two readings."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bench.operators_database import Growth, Reading, figures, read
from server.audit.row import Entry
from server.data import DataFolder
from server.store import Store


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "station")
    folder.create("Bench")
    return folder


def test_what_is_written_beside_it_is_read_before_the_log_is_in_the_file(data: DataFolder) -> None:
    before = read(data.database)
    with closing(Store.open(data.database)) as store:
        for number in range(200):
            store.save_zone(f"zone-{number}", {"tag": "x" * 60})
        after = read(data.database)
    assert after.rows["zones"] - before.rows.get("zones", 0) == 200
    assert after.table_bytes["zones"] > before.table_bytes["zones"]
    assert after.pages_bytes - before.pages_bytes == pytest.approx(
        sum(after.table_bytes.values()) - sum(before.table_bytes.values()), abs=8192
    )
    assert after.log_bytes > 0


def test_rows_of_the_audit_log_are_people_s_or_the_station_s(data: DataFolder) -> None:
    before = read(data.database)
    with closing(Store.open(data.database)) as store:
        store.begin_audit(bytes(32), 1)
        store.note(
            [
                Entry.of(1, who, "", what, {}, "", "done")
                for who, what in (
                    ("desk-001", "zone.put"),
                    ("desk-002", "zone.put"),
                    ("loudspeaker fleet-00001", "speaker.joined"),
                    ("station", "programme.end"),
                )
            ]
        )
    grown = Growth(before, read(data.database), 60.0)
    assert grown.audited == ({"zone.put": 2}, {"speaker.joined": 1, "programme.end": 1})


def test_a_file_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.Error):
        read(tmp_path / "none")


BEFORE = Reading(
    1_000_000,
    4_096,
    {"endpoints": 100, "audit": 10},
    {"endpoints": 900_000, "audit": 8_192},
    ({}, {}),
)
AFTER = Reading(
    1_030_000,
    8_192,
    {"endpoints": 100, "audit": 50, "programmes": 5, "users": 0},
    {"endpoints": 905_808, "audit": 28_192, "programmes": 4_192},
    ({"zone.put": 30}, {"speaker.joined": 10}),
)


def test_growth_is_reckoned_for_a_day_and_for_each() -> None:
    grown = Growth(BEFORE, AFTER, 8_640.0)
    assert (grown.bytes_more, grown.a_day(30)) == (30_000, 300)
    # All of the programmes, and three of four rows of the audit log.
    assert grown.of_people == pytest.approx(4_192 + 15_000)
    found = figures(grown, endpoints=100, operators=10, hours=12.0)
    assert found["bytes_per_endpoint_day_of_fleet"] == pytest.approx(1_080.8)
    assert found["bytes_per_endpoint_day_of_operators"] == pytest.approx(1_919.2 / 2)
    assert found["bytes_per_endpoint_day"] == pytest.approx(1_080.8 + 1_919.2 / 2)
    assert found["bytes_per_operator_hour"] == pytest.approx(19_192 / 24)
    assert found["bytes_per_deed"] == pytest.approx(19_192 / 30)


def test_what_is_kept_for_some_days_is_what_comes_in_so_many() -> None:
    grown = Growth(BEFORE, AFTER, 8_640.0)
    assert grown.kept_bytes(0, 0, 24.0) == 1_030_000
    assert grown.kept_bytes(2, 0, 24.0) == pytest.approx(1_030_000 + 2 * 200_000)
    # A quarter of the rows is the station's own.
    assert grown.kept_bytes(2, 0, 12.0) == pytest.approx(1_030_000 + 2 * 125_000)
    assert grown.kept_bytes(0, 3, 12.0) == pytest.approx(1_030_000 + 3 * 20_960)


def test_tables_that_grew_most_come_first_and_empty_ones_not_at_all() -> None:
    rows = Growth(BEFORE, AFTER, 8_640.0).rows()
    assert [row["table"] for row in rows] == ["audit", "programmes", "endpoints"]
    assert rows[0]["rows_more"] == 40
    assert rows[0]["bytes_a_day"] == pytest.approx(200_000)
