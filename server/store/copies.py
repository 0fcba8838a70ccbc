"""All rows of a station's database, out of one and into another, which may be of another kind.

A table is told in lines of JSON: first the names of its columns, then a row each. Bytes are
`{"base64": text}`. Which tables there are, and how, is read from the database itself: a copy of
older tables can be put into tables as old, and these brought to the newest then.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, MetaData, Table, insert, select, text, update

from server.audit.row import Entry
from server.store.audit import AuditTrail
from server.store.databases import database_at
from server.store.engine import Database, Place, StoreError
from server.store.schema import NewerError, check_revision, migrate, move, revisions
from server.store.store import Store, is_ours, too_new
from server.store.tables import Base, MetaRow, UnitRow

# What nobody should have again by a copy that is put back: who was signed in then.
_LEFT_OUT = frozenset({"login_sessions"})
# A copy knows of no beginning since it was made. Minutes pass by themselves, so that this is for
# clocks that went wrong.
SKIPPED_BOOTS = 10_000
_ROWS_AT_ONCE = 1000
_BYTES = "base64"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A database as it is at one moment."""

    revision: str
    station: str
    _connection: Connection

    def tables(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The name of each table, and its lines; a table before those that refer to it."""
        for table in _tables(self._connection):
            yield table.name, _lines(self._connection, table)


@contextmanager
def snapshot(place: Place) -> Iterator[Snapshot]:
    """Of a station's database, which may be in use; StoreError if it cannot be read."""
    database = database_at(place)
    try:
        database.find()
        with database.snapshot() as connection:
            revision = _known_revision(database, connection)
            root = select(UnitRow.name).where(UnitRow.parent_id.is_(None))
            yield Snapshot(revision, connection.scalars(root).one(), connection)
    finally:
        database.close()


def _known_revision(database: Database, connection: Connection) -> str:
    try:
        revision = check_revision(connection) if is_ours(connection) else None
    except NewerError as error:
        raise too_new(database, error) from None
    if revision is None:
        raise StoreError(f"{database.shown} is no station's: name what `loa init` made")
    return revision


def note(place: Place, entry: Entry) -> bool:
    """Add a row to the audit log of a station, which may be running; false if it has none.

    StoreError if it cannot be written.
    """
    database = database_at(place)
    try:
        database.find()
        with database.beside() as connection:
            newest = _known_revision(database, connection) == revisions()[0].revision
            return newest and AuditTrail.append_beside(connection, [entry])
    finally:
        database.close()


@contextmanager
def discarding(made: Sequence[Place]) -> Iterator[None]:
    """Should the block fail, the tables go again that were made on these servers meanwhile.

    A file goes with its folder.
    """
    try:
        yield
    except Exception as error:
        for url in (place for place in made if isinstance(place, str)):
            try:
                _discard(url)
            except StoreError as other:
                raise StoreError(
                    f"{error}; the tables that were made stay, empty that database first ({other})"
                ) from None
        raise


def _discard(url: str) -> None:
    database = database_at(url)
    try:
        with database.transaction() as connection:
            move(connection, "base")
            connection.execute(text("DROP TABLE alembic_version"))
    finally:
        database.close()


def restore(
    place: Place,
    revision: str,
    tables: Iterable[tuple[str, Iterable[bytes]]],
    entries: Sequence[Entry] = (),
) -> None:
    """Make a database of the tables of a snapshot, of this revision, and bring it to the newest.

    All or nothing, but for an empty file. What a station counts its beginnings by is raised: no
    session and no stream has a number that one had before. These entries are kept in the audit
    log, if that has begun. StoreError if there is something already or it cannot be made;
    ValueError if these are not the tables of that revision.
    """
    database = database_at(place)
    try:
        database.create()
        with database.transaction() as connection:
            _move(connection, revision)
            _fill(database, connection, tables)
            migrate(connection)
            _raise_boot(connection)
            Store.check(database, connection, entries)
        database.adopt()
    finally:
        database.close()


def _move(connection: Connection, revision: str) -> None:
    try:
        move(connection, revision)
        check_revision(connection)
    except (NewerError, ValueError):
        raise StoreError(f"it is of a newer Loa (tables {revision}): update this one") from None


def _fill(
    database: Database, connection: Connection, tables: Iterable[tuple[str, Iterable[bytes]]]
) -> None:
    missing = {table.name: table for table in _tables(connection)}
    for name, lines in tables:
        if name not in missing:
            raise ValueError(f"there is no table {name!r}")
        _load(connection, missing[name], lines)
        database.count_on(connection, missing.pop(name))
    if missing:
        raise ValueError(f"table {min(missing)!r} is missing")


def _raise_boot(connection: Connection) -> None:
    mine = MetaRow.key == "boot"
    boot = connection.scalar(select(MetaRow.value).where(mine))
    if boot is not None:
        raised = str(int(boot) + SKIPPED_BOOTS)
        connection.execute(update(MetaRow).where(mine).values(value=raised))


# ------------------------------------------------------------------ tables and their rows
def _tables(connection: Connection) -> list[Table]:
    """Those that a copy has, as they are; one before those that refer to it."""
    metadata = MetaData()
    names = Base.metadata.tables.keys() - _LEFT_OUT
    metadata.reflect(connection, only=lambda name, _: name in names)
    return [table for table in metadata.sorted_tables if table.name in names]


def _lines(connection: Connection, table: Table) -> Iterator[bytes]:
    yield _line([column.name for column in table.columns])
    # By number, so that a row that refers to another of its table comes after that.
    rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(
        select(table).order_by(*table.primary_key)
    )
    for row in rows:
        yield _line([_plain(value) for value in row])


def _line(values: list[Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _plain(value: Any) -> Any:
    return {_BYTES: base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _load(connection: Connection, table: Table, lines: Iterable[bytes]) -> None:
    """ValueError if these are not rows of this table."""
    left = iter(lines)
    names = json.loads(next(left, b"[]"))
    if not isinstance(names, list) or set(names) != set(table.columns.keys()):
        raise ValueError(f"table {table.name!r} has other columns")
    rows: list[dict[str, Any]] = []
    for line in left:
        rows.append(dict(zip(names, map(_value, json.loads(line)), strict=True)))
        if len(rows) == _ROWS_AT_ONCE:
            connection.execute(insert(table), rows)
            rows.clear()
    if rows:
        connection.execute(insert(table), rows)


def _value(plain: Any) -> Any:
    return base64.b64decode(plain[_BYTES], validate=True) if isinstance(plain, dict) else plain
