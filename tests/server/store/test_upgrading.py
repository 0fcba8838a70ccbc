"""A database of each revision there has been, with all that it can hold: to the newest and back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, select, text

from server.store import Store, schema
from server.store.databases import database_at
from server.store.engine import Database, Place
from server.store.revisions import downgrade, known, revision_at

REVISIONS = [revision.name for revision in reversed(known())]
Rows = dict[str, list[dict[str, Any]]]
# What a station of each revision could keep beyond one of the revision before it.
ROWS: dict[str, tuple[str, ...]] = {
    "0001": (
        "INSERT INTO meta VALUES ('application', 'loa')",
        "INSERT INTO units VALUES (1, NULL, 'Tân Phú'), (2, 1, 'Thôn 3')",
        "INSERT INTO endpoints VALUES (1, 'market', 1, 'wan', true, 10.5, 106.25, 40, false, 5, 6)",
        "INSERT INTO endpoints VALUES (2, 'school', 2, 'lan', false, NULL, NULL, 90, true, 5, 6)",
        "INSERT INTO endpoint_tags VALUES (1, 'chợ'), (2, 'school')",
        "INSERT INTO zones VALUES ('schools', '{\"tag\": \"school\"}')",
        "INSERT INTO programmes VALUES (7, 'live-7', 3, '{}', 312.5, 5, 6, 'enough')",
    ),
    "0002": (
        "UPDATE endpoints SET public_key = :b32, clear = true WHERE id = 1",
        "UPDATE zones SET clear = true",
        "INSERT INTO enrolments VALUES ('0a0b0c0d', :b32, 'gate', 'Tân Phú/Thôn 3', 9)",
    ),
    "0003": ("UPDATE endpoints SET trim_us = -250 WHERE id = 2",),
    "0004": (
        "INSERT INTO audit VALUES (1, 5, 'ann', '192.0.2.9', 'live.begin', '{}', '', 'done', :b32)",
        "INSERT INTO audit_heads VALUES (1, 5, :b32, :b136, :b112, :b64)",
    ),
    "0005": (
        "UPDATE enrolments SET reach = '[]'",
        "INSERT INTO users VALUES ('ann', 'hash', false, true, :b64, 12)",
        "INSERT INTO grants VALUES ('ann', 'operator', 2)",
        "INSERT INTO tokens VALUES ('1a1b1c1d', :b32, 'ann', 'clock', true, 9)",
        "INSERT INTO token_grants VALUES ('1a1b1c1d', 'viewer', 2)",
        "INSERT INTO login_sessions VALUES (:b32, '2a2b2c2d', 'ann', 5, 9, 5)",
    ),
}
BYTES = {f"b{count}": bytes(range(count)) for count in (32, 64, 112, 136)}


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """An empty one."""
    database = database_at(place)
    database.create()
    yield database
    database.close()


def fill(database: Database, newest: str) -> None:
    """As if each Loa up to that of `newest` had run with it, and left something."""
    for revision in REVISIONS[: REVISIONS.index(newest) + 1]:
        with database.transaction() as connection:
            schema.move(connection, revision)
            for statement in ROWS[revision]:
                named = {name: data for name, data in BYTES.items() if f":{name}" in statement}
                escaped = statement if named else statement.replace(":", "\\:")
                connection.execute(text(escaped), named)


def move(database: Database, revision: str) -> None:
    with database.transaction() as connection:
        schema.move(connection, revision)


def rows(database: Database) -> Rows:
    """Every table and all that is in it."""
    with database.transaction() as connection:
        metadata = MetaData()
        metadata.reflect(connection)
        return {
            table.name: [
                dict(row)
                for row in connection.execute(select(table).order_by(*table.columns)).mappings()
            ]
            for table in metadata.sorted_tables
            if table.name != "alembic_version"
        }


def seen_by(older: Rows, newer: Rows) -> Rows:
    """Of the newer, the tables and columns that the older has too."""
    return {
        name: [{column: row[column] for column in older[name][0]} for row in newer[name]]
        for name in older
    }


def test_there_are_rows_for_every_revision() -> None:
    assert list(ROWS) == REVISIONS


@pytest.mark.parametrize("revision", REVISIONS)
def test_nothing_is_lost_or_changed_on_the_way_to_the_newest_and_back(
    database: Database, revision: str
) -> None:
    fill(database, revision)
    before = rows(database)
    assert all(before.values())
    move(database, "head")
    assert seen_by(before, rows(database)) == before
    move(database, revision)
    assert rows(database) == before


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_station_opens_one_of_any_revision(
    database: Database, place: Place, revision: str
) -> None:
    fill(database, revision)
    database.close()
    store = Store.open(place)
    found = {endpoint.name: endpoint for endpoint in store.load().endpoints}
    store.close()
    assert found.keys() == {"market", "school"}
    assert found["market"].tags == {"chợ"}
    assert revision_at(place) == REVISIONS[-1]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_downgrade_loses_what_the_older_tables_have_no_room_for_and_no_more(
    database: Database, place: Place, revision: str
) -> None:
    fill(database, REVISIONS[-1])
    full = rows(database)
    database.close()
    downgrade(place, revision)
    assert revision_at(place) == revision
    left = rows(database)
    assert all(left.values())
    assert left == seen_by(left, full)


def test_without_its_log_a_database_does_not_say_that_it_was_cut_off(database: Database) -> None:
    fill(database, REVISIONS[-1])
    with database.transaction() as connection:
        connection.execute(text("INSERT INTO meta VALUES ('audit_cut', 'a head')"))
    move(database, "0004")
    kept = [row["key"] for row in rows(database)["meta"]]
    move(database, "0003")
    assert (kept, rows(database)["meta"]) == (
        ["application", "audit_cut"],
        [{"key": "application", "value": "loa"}],
    )


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_document_says_what_is_lost(revision: str) -> None:
    told = (Path(__file__).parents[3] / "docs" / "upgrading.md").read_text(encoding="utf-8")
    assert f"| {revision} |" in told
