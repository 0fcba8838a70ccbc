"""The migrations lead to the tables as they are written, on the databases that are meant."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from server.directory import Endpoint
from server.store import Store, schema
from server.store.engine import sqlite_engine
from server.store.tables import Base


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


def test_migrated_tables_are_those_of_the_code(store: Store, path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_migrated_tables_are_defined_word_by_word_as_those_of_the_code(
    store: Store, path: Path, tmp_path: Path
) -> None:
    straight = create_engine(f"sqlite:///{tmp_path / 'straight'}")
    Base.metadata.create_all(straight)
    straight.dispose()
    assert definitions(path) == definitions(tmp_path / "straight")


def test_what_was_stored_before_there_were_keys_is_there_after(path: Path) -> None:
    # SQLite makes some changes by making a table anew, which would take the tags with it.
    engine = sqlite_engine(path)
    with engine.begin() as connection:
        command.upgrade(_config_for(connection), "0001")
        for statement in (
            "INSERT INTO meta VALUES ('application', 'loa')",
            "INSERT INTO units VALUES (1, NULL, 'Tân Phú')",
            "INSERT INTO endpoints VALUES (1, 'market', 1, 'wan', 1, NULL, NULL, 40, 0, 5, 6)",
            "INSERT INTO endpoint_tags VALUES (1, 'chợ')",
            "INSERT INTO zones VALUES ('schools', '{\"tag\": \"school\"}')",
        ):
            connection.exec_driver_sql(statement)
    engine.dispose()
    store = Store.open(path)
    contents = store.load()
    store.close()
    tags = frozenset({"chợ"})
    market = Endpoint("market", "Tân Phú", "wan", multicast=True, tags=tags, volume=40)
    assert contents.endpoints == (market,)
    assert contents.zones == (("schools", {"tag": "school"}),)
    assert (contents.clear_zones, contents.codes) == (frozenset(), ())


def _config_for(connection: Connection) -> Config:
    config = schema._config()
    config.attributes["connection"] = connection
    return config


def test_a_migration_that_fails_halfway_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr("alembic.op.create_index", fail)
    engine = sqlite_engine(path)
    with pytest.raises(RuntimeError), engine.begin() as connection:
        schema.migrate(connection)
    engine.dispose()
    assert definitions(path) == {}


def test_the_tables_can_be_made_on_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in Base.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert "INDEX" in str(CreateIndex(index).compile(dialect=dialect))


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)],
)
def test_every_connection_is_as_safe_as_sqlite_can_be(
    store: Store, path: Path, pragma: str, value: object
) -> None:
    store.close()
    engine = sqlite_engine(path)
    with engine.connect() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value
    engine.dispose()


def test_a_copy_without_a_write_ahead_log_gets_one(store: Store, path: Path) -> None:
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
