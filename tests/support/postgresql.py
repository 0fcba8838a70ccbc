"""A private PostgreSQL server of Debian's package, on a Unix socket alone."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from server.store.postgresql import engine_of

_SUPERUSER = "loa"
_START_S = "60"


def programs() -> Path:
    """Where its programs are; the test is skipped where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    return found[-1].parent


class Server:
    """A server whose superuser is let in without a password, and others by theirs."""

    def __init__(self, folder: Path, at: Path) -> None:
        self.folder = folder
        self._at = at
        self._data = folder / "data"
        self._run("initdb", "--auth=trust", f"--username={_SUPERUSER}", "--encoding=UTF8", "-N")
        (self._data / "pg_hba.conf").write_text(
            f"local all {_SUPERUSER} trust\nlocal all all scram-sha-256\n"
        )
        with (self._data / "postgresql.conf").open("a") as file:
            # Not what a station's server should have: these tests cut no power.
            file.write(
                f"listen_addresses = ''\nunix_socket_directories = '{folder}'\nfsync = off\n"
                "max_connections = 30\nshared_buffers = 16MB\nlog_min_messages = fatal\n"
            )
        self.start()

    def _run(self, program: str, *words: str) -> None:
        # It refuses to run as root.
        user = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
        command = [*user, str(self._at / program), "-D", str(self._data), *words]
        # Its own children would keep a pipe open.
        with (self.folder / "said").open("w+") as said:
            done = subprocess.run(
                command, cwd=self.folder, stdout=said, stderr=said, check=False, timeout=120
            )
            said.seek(0)
            assert done.returncode == 0, f"{program}: {said.read()}"

    def start(self) -> None:
        """Until it is ready."""
        self._run("pg_ctl", "start", "-w", "-t", _START_S, "-l", str(self.folder / "log"))

    def stop(self, mode: str = "immediate") -> None:
        """As by a crash, if nothing else is said."""
        self._run("pg_ctl", "stop", "-w", "-m", mode)

    def url(self, name: str, user: str = _SUPERUSER) -> str:
        """How to come to a database; `user` may be `name:password`."""
        return f"postgresql://{user}@/{name}?host={self.folder}"

    def new_database(self, options: str = "") -> str:
        """The URL of an empty one."""
        name = f"t{uuid.uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> None:
        """By the superuser, outside a transaction."""
        engine = engine_of(self.url(database))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(statement))
        engine.dispose()


@contextmanager
def private_server() -> Iterator[Server]:
    """One of its own, in a folder that ends with it."""
    at = programs()
    # A short path, for that of a socket is bounded, and one that the server's user may go to.
    with tempfile.TemporaryDirectory(prefix="loa-pg-", dir="/tmp") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        server = Server(folder, at)
        try:
            yield server
        finally:
            server.stop()
