"""A server that is not there, refuses, restarts or is another's: one line, and nothing is lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy import PoolProxiedConnection, text

from server.directory import Endpoint
from server.store import Store, StoreError, postgresql
from server.store.engine import UncertainError
from server.store.postgresql import PostgresqlDatabase
from tests.support.postgresql import Server, private_server

PASSWORD = "p%40ss-word"
ROOT = "Tân Phú"


@pytest.fixture
def place(url: str) -> str:
    """All of this is about servers."""
    return url


@pytest.fixture
def own_server() -> Iterator[Server]:
    """One that a test may stop."""
    with private_server() as server:
        yield server


def line(do: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as error:
        do()
    said = str(error.value)
    assert len(said.splitlines()) == 1
    assert "ss-word" not in said
    assert "p@ss" not in said
    return said


def refused(url: str) -> str:
    return line(lambda: Store.open(url))


# ------------------------------------------------------------------ who refuses
@pytest.mark.parametrize(
    ("url", "what"),
    [
        (f"postgresql://loa:{PASSWORD}@127.0.0.1:9/loa", "start its server"),
        (f"postgresql://loa:{PASSWORD}@/loa?host=/nowhere", "start its server"),
        (f"postgresql://loa:{PASSWORD}@no.such.host.invalid/loa", "no machine has that name"),
        (f"postgresql://loa:{PASSWORD}@host:port/loa", "write postgresql://"),
    ],
)
def test_where_nobody_answers(url: str, what: str) -> None:
    assert what in refused(url)


def test_without_its_driver_they_are_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "server.store.postgresql", None)
    assert "`make postgresql`" in refused(f"postgresql://loa:{PASSWORD}@192.0.2.1/loa")


def test_a_wrong_password_is_not_shown(server: Server) -> None:
    server.execute("DROP ROLE IF EXISTS guarded")
    server.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
    said = refused(server.url("postgres", f"guarded:{PASSWORD}"))
    assert "wrong password" in said
    assert said.startswith("postgresql://guarded@/postgres: ")
    assert "wants a password" in refused(server.url("postgres", "guarded"))


def test_a_database_that_is_not_there(server: Server) -> None:
    assert "createdb" in refused(server.url("nowhere"))


def test_a_database_without_a_station(url: str) -> None:
    assert "no station's" in refused(url)


def test_a_server_that_is_too_old(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "OLDEST", 99)
    assert "update it to 99 or newer" in refused(url)


def test_a_database_that_cannot_hold_every_name(server: Server) -> None:
    url = server.new_database("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    assert "--encoding UTF8" in refused(url)


def test_a_database_of_another_user(server: Server, url: str) -> None:
    server.execute("DROP ROLE IF EXISTS stranger")
    server.execute("CREATE ROLE stranger LOGIN PASSWORD 'right'")
    theirs = url.replace("loa@", "stranger:right@")
    said = line(lambda: Store.create(theirs, ROOT))
    assert "make that user the owner" in said


def test_a_newer_one_is_not_touched(store: Store, url: str, server: Server) -> None:
    store.close()
    name = url.partition("@/")[2].partition("?")[0]
    server.execute("UPDATE alembic_version SET version_num = '9999'", name)
    assert "newer Loa" in refused(url)


def test_nothing_is_made_where_there_is_something(store: Store, url: str, server: Server) -> None:
    store.close()
    assert "holds a station already" in line(lambda: Store.create(url, "Elsewhere"))
    other = server.new_database()
    name = other.partition("@/")[2].partition("?")[0]
    server.execute("CREATE TABLE songs (title text)", name)
    assert "holds songs already" in line(lambda: Store.create(other, ROOT))


def test_a_server_that_takes_no_writes(store: Store, url: str, server: Server) -> None:
    name = url.partition("@/")[2].partition("?")[0]
    server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    store.close()
    assert "a standby" in refused(url)


# ------------------------------------------------------------------ two stations
HOLDER = """
import sys
from server.store import Store

store = Store.open(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


def test_two_stations_never_share_a_database(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tuple(word.replace("5000", "50") for word in postgresql._SESSION)
    monkeypatch.setattr(postgresql, "_SESSION", short)
    assert "another station uses it" in refused(url)
    store.close()
    Store.open(url).close()


def test_the_next_control_takes_over_from_one_that_was_killed(store: Store, url: str) -> None:
    store.close()
    with subprocess.Popen(
        [sys.executable, "-P", "-c", HOLDER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        os.kill(holder.pid, signal.SIGKILL)
        Store.open(url).close()


# ------------------------------------------------------------------ restarts
def names(store: Store) -> set[str]:
    return {endpoint.name for endpoint in store.load().endpoints}


def test_a_server_that_was_restarted_is_used_again(own_server: Server) -> None:
    store = Store.create(own_server.new_database(), ROOT)
    store.save_endpoints([Endpoint("before", ROOT)], 1)
    own_server.stop()
    said = line(lambda: store.save_endpoints([Endpoint("while", ROOT)], 1))
    assert "start its server" in said
    own_server.start()
    store.save_endpoints([Endpoint("after", ROOT)], 1)
    assert names(store) == {"before", "after"}
    store.close()


def test_a_session_that_is_ended_in_the_middle_of_a_change_changes_nothing(store: Store) -> None:
    def change() -> None:
        with store._transaction() as connection:
            connection.execute(text("INSERT INTO zones VALUES ('a', '{}', false)"))
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    line(change)
    assert store.load().zones == ()


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_whose_answer_is_lost_is_told_as_it_was(
    store: Store, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = store._database
    assert isinstance(database, PostgresqlDatabase)
    monkeypatch.setattr(postgresql, "_PAUSE_S", 0.05)

    def commit(pooled: PoolProxiedConnection) -> None:
        monkeypatch.undo()
        connection = pooled.dbapi_connection
        assert connection is not None
        if committed:
            connection.commit()
        connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(database._engine.dialect, "do_commit", commit)
    if committed:
        store.save_endpoints([Endpoint("a", ROOT)], 1)
    else:
        with pytest.raises(StoreError):
            store.save_endpoints([Endpoint("a", ROOT)], 1)
    assert names(store) == ({"a"} if committed else set())


def test_a_server_that_does_not_come_back_leaves_it_open_whether_a_change_was_made(
    own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(own_server.new_database(), ROOT)
    database = store._database
    assert isinstance(database, PostgresqlDatabase)
    monkeypatch.setattr(postgresql, "_PAUSE_S", 0.01)

    def commit(pooled: PoolProxiedConnection) -> None:
        connection = pooled.dbapi_connection
        assert connection is not None
        connection.close()
        own_server.stop()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(database._engine.dialect, "do_commit", commit)
    with pytest.raises(UncertainError, match="may have been made: look when it is back"):
        store.save_endpoints([Endpoint("a", ROOT)], 1)
    own_server.start()
    store.close()


def test_what_is_acknowledged_is_on_the_servers_disk(url: str, server: Server) -> None:
    server.execute("ALTER ROLE loa SET synchronous_commit = off")
    try:
        store = Store.create(url, ROOT)
        with store._transaction() as connection:
            assert connection.scalar(text("SHOW synchronous_commit")) == "on"
        store.close()
    finally:
        server.execute("ALTER ROLE loa RESET synchronous_commit")
