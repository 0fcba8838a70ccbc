"""The way to a database on a PostgreSQL server, and what its errors mean to a person."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, NullPool, Table, create_engine, event, func, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from server.store.engine import StoreError, UncertainError

# pg_current_xact_id() is of this version.
OLDEST = 13
_DRIVER = "postgresql+psycopg"
# Whoever has this lock is the station of the database. "loa", in ASCII.
_LOCK = 0x6C6F61
_WAIT_MS = 5_000
# What is committed is on the server's disk. A station's lock ends soon after its machine is gone.
_SESSION = (
    "SET synchronous_commit = on",
    f"SET lock_timeout = {_WAIT_MS}",
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
)
_CONNECTING: dict[str, Any] = {
    "connect_timeout": 5,
    "application_name": "loa",
    "client_encoding": "utf8",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_CHANGE = text("SELECT pg_current_xact_id_if_assigned()::text")
_STATUS = text("SELECT pg_xact_status(CAST(CAST(:change AS text) AS xid8))")
# How often, and after how long a pause, a server is asked that has gone in the middle of a commit.
_ASKED, _PAUSE_S = 20, 0.5
# By SQLSTATE (PostgreSQL manual, appendix A), or the first two characters of it.
_ADVICE = {
    "55P03": "another station uses it: stop that one, or name another database",
    "53100": "the disk of its server is full: make room on it",
    "53300": "its server has too many connections: raise max_connections there",
    "25006": "its server takes no writes: name the primary, not a standby",
    "42501": "its user may not do that: make that user the owner of the database",
    "57": "its server is stopping or starting: the next call tries again",
    "08": "the connection broke: is its server running?",
}
# A server that is not reached, or refuses, has no SQLSTATE to tell; it tells so in words.
_WORDS = {
    "password authentication failed": "wrong password, or no such user: correct the URL",
    "no password supplied": "its server wants a password: write user:password@ into the URL",
    "does not exist": "there is no such database or user: make it with `createdb` or `createuser`",
    "connection refused": "nobody answers there: start its server, or correct the URL",
    "no such file or directory": "nobody answers there: start its server, or correct the URL",
    "timeout": "nobody answers there: start its server, or correct the URL",
    "resolve host": "no machine has that name: correct the URL",
    "translate host": "no machine has that name: correct the URL",
    "no pg_hba.conf entry": "its server lets this machine not in: add a line to its pg_hba.conf",
    "too many clients": _ADVICE["53300"],
    "starting up": _ADVICE["57"],
    "shutting down": _ADVICE["57"],
}


class PostgresqlDatabase:
    """A database on a server, by a URL such as `postgresql://user:password@host/name`."""

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        plain = URL.create(
            "postgresql",
            username=self._url.username,
            host=self._url.host,
            port=self._url.port,
            database=self._url.database,
        )
        self._shown = plain.render_as_string()
        # Asks before each transaction whether the server is there: it may have been restarted.
        self._engine = create_engine(
            self._url,
            pool_size=1,
            max_overflow=0,
            pool_timeout=_WAIT_MS / 1000,
            pool_pre_ping=True,
            connect_args=_CONNECTING,
        )
        event.listen(self._engine, "connect", _begin_session)

    @property
    def shown(self) -> str:
        """The URL, without password and options."""
        return self._shown

    @property
    def remedy(self) -> str:
        """A copy of the server's."""
        return "put back a copy of that database"

    def create(self) -> None:
        """StoreError if there are tables in it."""
        with self.transaction() as connection:
            # As whoever asks would find them; another schema's are not in the way.
            names = connection.scalars(
                text("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
            ).all()
        if {"meta", "alembic_version"} <= set(names):
            raise StoreError(f"{self._shown} holds a station already: name an empty database")
        if names:
            raise StoreError(f"{self._shown} holds {names[0]} already: name an empty database")

    def find(self) -> None:
        """Whether there is anything is seen in the tables."""

    def adopt(self) -> None:
        """A server has its own settings."""

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Also says truly whether it was committed where the connection breaks in between."""
        with _explaining(self._shown):
            change = None
            try:
                with self._engine.begin() as connection:
                    yield connection
                    change = connection.scalar(_CHANGE)
            except DBAPIError as error:
                broken = change is not None and error.connection_invalidated
                if not broken or not self._was_committed(str(change)):
                    raise

    def _was_committed(self, change: str) -> bool:
        """What became of a transaction whose answer was lost.

        Whoever connects has the lock, so the session that it was made in has ended.
        """
        for _ in range(_ASKED):
            try:
                with self._engine.begin() as connection:
                    return bool(connection.scalar(_STATUS, {"change": change}) == "committed")
            except (DBAPIError, psycopg.Error):
                time.sleep(_PAUSE_S)
        raise UncertainError(
            f"{self._shown}: its server went away in the middle of a change, which may have been "
            "made: look when it is back"
        )

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """By a connection of its own, without the station's lock."""
        with self._without_lock("REPEATABLE READ") as connection:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            yield connection

    @contextmanager
    def beside(self) -> Iterator[Connection]:
        """By such a one as well: what both change is to be locked by rows."""
        with self._without_lock("READ COMMITTED") as connection:
            connection.execute(text("SET LOCAL synchronous_commit = on"))
            connection.execute(text(f"SET LOCAL lock_timeout = {_WAIT_MS}"))
            yield connection

    @contextmanager
    def _without_lock(self, level: IsolationLevel) -> Iterator[Connection]:
        engine = create_engine(
            self._url, poolclass=NullPool, isolation_level=level, connect_args=_CONNECTING
        )
        try:
            with _explaining(self._shown), engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    def count_on(self, connection: Connection, table: Table) -> None:
        """Move the sequences of its columns on."""
        for column in table.primary_key:
            of = func.pg_get_serial_sequence(table.name, column.name)
            sequence = connection.scalar(select(of)) if column.type.python_type is int else None
            highest = connection.scalar(select(func.max(column)))
            if sequence is not None and highest is not None:
                connection.execute(select(func.setval(sequence, highest)))

    def close(self) -> None:
        """End the session, and with it the lock."""
        self._engine.dispose()


def engine_of(url: str) -> Engine:
    """Plain connections, for whoever looks at a database from outside."""
    return create_engine(_parsed(url), poolclass=NullPool, connect_args=_CONNECTING)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # What cannot be read may have a password anywhere.
        raise StoreError(
            "the database's URL is none: write postgresql://user:password@host/name"
        ) from None
    return parsed.set(drivername=_DRIVER)


def _begin_session(connection: "psycopg.Connection[Any]", _: ConnectionPoolEntry) -> None:
    try:
        version = connection.info.server_version // 10_000
        if version < OLDEST:
            raise _WrongServerError(
                f"its server is PostgreSQL {version}: update it to {OLDEST} or newer"
            )
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise _WrongServerError(
                f"its encoding is {encoding}: make one with `createdb --encoding UTF8 "
                "--template template0`"
            )
        connection.autocommit = True
        for statement in _SESSION:
            connection.execute(statement.encode())
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        connection.execute("SET lock_timeout = 0")
        connection.autocommit = False
    except BaseException:
        connection.close()
        raise


class _WrongServerError(Exception):
    """What is wrong with the server, in words for a person."""


@contextmanager
def _explaining(shown: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise ValueError(f"{shown}: {_line(error.orig)}") from error
    except DBAPIError as error:
        raise _explained(shown, error.orig) from error
    except PoolTimeoutError:
        raise StoreError(f"{shown}: another call keeps it: try again in a moment") from None
    except (psycopg.Error, _WrongServerError) as error:
        raise _explained(shown, error) from error


def _explained(shown: str, error: BaseException | None) -> StoreError:
    state = getattr(error, "sqlstate", None) or ""
    advice = _ADVICE.get(state) or _ADVICE.get(state[:2])
    said = _line(error)
    if advice is None:
        advice = next((what for words, what in _WORDS.items() if words in said.lower()), said)
    return StoreError(f"{shown}: {advice}")


def _line(error: BaseException | None) -> str:
    """What it says, in one line; libpq names no password."""
    return " ".join(str(error).split())
