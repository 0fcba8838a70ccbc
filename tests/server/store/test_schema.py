"""The migrations lead to the tables as they are written, on the databases that are meant."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from server.directory import Endpoint
from server.store import Contents, Store, schema
from server.store.databases import database_at
from server.store.engine import Database, Place
from server.store.sqlite import sqlite_engine
from server.store.tables import Base

ROOT = "Tân Phú"


def definitions(path: Path) -> dict[str, set[str]]:
    """The parts of each table's and index's own definition; these may stand in any order."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
        ).fetchall()
    return {
        # A column that was added stands behind a comma, and not in a line of its own.
        name: {" ".join(part.split()) for part in re.split(r",(?=\s)", sql.strip(" )\n"))}
        for name, sql in rows
        if name != "alembic_version"
    }


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """An empty one."""
    database = database_at(place)
    database.create()
    yield database
    database.close()


def step(database: Database, revision: str) -> None:
    """Up or down, in one transaction."""
    with database.transaction() as connection:
        schema.move(connection, revision)


def test_migrated_tables_are_those_of_the_code(database: Database) -> None:
    step(database, "head")
    with database.transaction() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrated_tables_are_defined_word_by_word_as_those_of_the_code(
    path: Path, tmp_path: Path
) -> None:
    Store.create(path, ROOT).close()
    straight = create_engine(f"sqlite:///{tmp_path / 'straight'}")
    Base.metadata.create_all(straight)
    straight.dispose()
    assert definitions(path) == definitions(tmp_path / "straight")


OLD_ROWS = (
    "INSERT INTO meta VALUES ('application', 'loa')",
    "INSERT INTO units VALUES (1, NULL, 'Tân Phú')",
    "INSERT INTO endpoints VALUES (1, 'market', 1, 'wan', true, NULL, NULL, 40, false, 5, 6)",
    "INSERT INTO endpoint_tags VALUES (1, 'chợ')",
    "INSERT INTO zones VALUES ('schools', '{\"tag\": \"school\"}')",
    "INSERT INTO programmes VALUES (7, 'live-7', 3, '{}', 312.5, 5, NULL, 'enough')",
)
MARKET = Endpoint("market", ROOT, "wan", multicast=True, tags=frozenset({"chợ"}), volume=40)


def test_what_was_stored_before_there_were_keys_is_there_after(
    database: Database, place: Place
) -> None:
    # SQLite makes some changes by making a table anew, which would take the tags with it.
    step(database, "0001")
    write(database, *OLD_ROWS)
    contents = loaded(database, place)
    assert contents.endpoints == (MARKET,)
    assert contents.zones == (("schools", {"tag": "school"}),)
    assert (contents.clear_zones, contents.codes) == (frozenset(), ())


def write(database: Database, *statements: str) -> None:
    with database.transaction() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def loaded(database: Database, place: Place) -> Contents:
    """By a store, which brings it to the newest tables."""
    database.close()  # a server's database has one user at a time
    store = Store.open(place)
    try:
        return store.load()
    finally:
        store.close()


def shape(database: Database) -> dict[str, object]:
    """Each table's columns, keys and indexes, as the database tells them."""
    with database.transaction() as connection:
        inspector = inspect(connection)
        return {
            name: (
                {(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(name)},
                {i["name"] for i in inspector.get_indexes(name)},
                {tuple(k["constrained_columns"]) for k in inspector.get_foreign_keys(name)},
            )
            for name in inspector.get_table_names()
            if name != "alembic_version"
        }


REVISIONS = [script.revision for script in reversed(schema.revisions())]


def test_each_migration_leads_back_to_the_tables_before_it(database: Database) -> None:
    shapes = [shape(database)]
    for revision in REVISIONS:
        step(database, revision)
        shapes.append(shape(database))
    for revision, before in zip(["base", *REVISIONS][-2::-1], shapes[-2::-1], strict=True):
        step(database, revision)
        assert shape(database) == before
    assert shapes[0] == {}


def test_what_is_stored_goes_back_to_the_first_tables_and_forth_again(
    database: Database, place: Place
) -> None:
    step(database, "0001")
    write(database, *OLD_ROWS)
    assert loaded(database, place).endpoints == (MARKET,)
    write(
        database,
        "UPDATE endpoints SET trim_us = 5, clear = true",
        "INSERT INTO zones VALUES ('square', '{}', true)",
    )
    step(database, "0001")
    contents = loaded(database, place)
    assert contents.endpoints == (MARKET,)
    assert dict(contents.zones) == {"schools": {"tag": "school"}, "square": {}}
    assert contents.clear_zones == frozenset()
    assert contents.last_programme_number == 7


def test_a_migration_that_fails_halfway_changes_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr("alembic.op.create_index", fail)
    with pytest.raises(RuntimeError), database.transaction() as connection:
        schema.migrate(connection)
    assert shape(database) == {}


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)],
)
def test_every_connection_is_as_safe_as_sqlite_can_be(
    path: Path, pragma: str, value: object
) -> None:
    Store.create(path, ROOT).close()
    engine = sqlite_engine(path)
    with engine.connect() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value
    engine.dispose()


def test_a_copy_without_a_write_ahead_log_gets_one(path: Path) -> None:
    Store.create(path, ROOT).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
