"""The way to an SQLite file, and what its errors mean to a person."""

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from server.store.engine import StoreError

_BUSY_MS = 5_000
# FULL: what is committed is on the disk.
_PRAGMAS = (f"busy_timeout = {_BUSY_MS}", "synchronous = FULL", "foreign_keys = ON")
# Whoever reads the database can use the codes in it that nobody has used.
_MODE = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_COMPANIONS = ("-journal", "-wal", "-shm")
_PRIMARY = 0xFF  # of an extended result code (sqlite.org/rescode.html)
_ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full: make room on it",
    sqlite3.SQLITE_IOERR_SHMSIZE: "the disk is full: make room on it",
    sqlite3.SQLITE_READONLY: "it cannot be written: let this user write {folder}",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: let this user read and write {folder}",
    sqlite3.SQLITE_PERM: "it cannot be opened: let this user read and write {folder}",
    sqlite3.SQLITE_NOTADB: "that is no database: name the folder that `loa init` made",
    sqlite3.SQLITE_CORRUPT: "it is damaged: put back a copy of {folder}",
    sqlite3.SQLITE_BUSY: "another program keeps it locked: end that first",
    sqlite3.SQLITE_IOERR: "its disk reports an error ({code}): look after the disk of {folder}",
}


class SqliteDatabase:
    """An SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = sqlite_engine(path)

    @property
    def shown(self) -> str:
        """Its path."""
        return str(self._path)

    @property
    def remedy(self) -> str:
        """A copy of the folder has one of the file."""
        return f"put back a copy of {self._path.parent}"

    def create(self) -> None:
        """The file, for its owner alone."""
        if _exists(self._path):
            raise StoreError(f"{self._path} exists already: choose another folder")
        create_private(self._path)
        self._use_wal()

    def find(self) -> None:
        """StoreError if there is no file."""
        if not _exists(self._path):
            raise StoreError(f"there is no station at {self._path}: make one with `loa init`")

    def adopt(self) -> None:
        """Close it to others, and have it keep a write-ahead log."""
        make_private(self._path)
        self._use_wal()

    def _use_wal(self) -> None:
        """Keep a write-ahead log from now on, so that a commit is one write.

        The file itself remembers that, so it is done to no file that is not ours.
        """
        with _explaining(self._path), closing(self._engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA journal_mode = WAL")

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Nobody else writes until its end."""
        with _explaining(self._path), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """By a connection of its own: with a write-ahead log, who reads keeps nobody waiting."""
        engine = _engine(self._path, "BEGIN")
        try:
            with _explaining(self._path), engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    def beside(self) -> AbstractContextManager[Connection]:
        """Who writes waits for the other."""
        return self.transaction()

    def count_on(self, connection: Connection, table: Table) -> None:
        """SQLite does so by itself."""

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()


def sqlite_engine(path: Path) -> Engine:
    """Connections to an SQLite file, made when needed; any thread may use them, one at a time."""
    return _engine(path, "BEGIN IMMEDIATE")


def _engine(path: Path, begin: str) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        pool_size=1,
        max_overflow=0,
        pool_timeout=_BUSY_MS / 1000,
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _beginning(begin))
    return engine


def _prepare(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    # The driver would begin transactions late and commit before DDL; `_beginning` does it instead.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _beginning(statement: str) -> Callable[[Connection], None]:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return begin


def create_private(path: Path) -> None:
    """An empty file that its owner alone can read: SQLite's files beside it get the same mode."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with suppress(OSError):  # SQLite fails as well then, and says why
        os.close(os.open(path, flags, _MODE))


def make_private(path: Path) -> None:
    """Close to others a database, and what is beside it; StoreError if it cannot be."""
    for place in (path, *(path.with_name(path.name + end) for end in _COMPANIONS)):
        try:
            if place.stat().st_mode & _OTHERS:
                place.chmod(_MODE)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreError(
                f"{place} is open to others ({error.strerror}): `chmod 600` it as its owner"
            ) from None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror}: let this user read and write {path.parent}"
        ) from None


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise ValueError(f"{path}: {error.orig}") from error
    except DBAPIError as error:
        raise _explained(path, error.orig) from error
    except PoolTimeoutError:
        raise StoreError(f"{path}: another call keeps it: try again in a moment") from None
    except sqlite3.Error as error:
        raise _explained(path, error) from error


def _explained(path: Path, error: BaseException | None) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0)
    advice = _ADVICE.get(code) or _ADVICE.get(code & _PRIMARY, "{error}")
    name = getattr(error, "sqlite_errorname", code)
    return StoreError(f"{path}: {advice.format(folder=path.parent, code=name, error=error)}")
