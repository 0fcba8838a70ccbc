"""The folder that a station lives in: database, configuration, keys, and the lock on them."""

import datetime as dt
import fcntl
import os
import re
import shlex
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from server.keys.private import (
    PrivateError,
    check_private_folder,
    sync_folder,
    whole_folder,
)
from server.users.records import User
from transport.net.mdns import mdns_interfaces

SYSTEM_FOLDER = Path("/var/lib/loa")
_MODE = 0o700
_LOCK = "lock"
_UNFINISHED = ".unfinished-"
# What an empty folder may hold: a fresh file system's own, and what a killed `loa init` left.
_HARMLESS = re.compile(f"lost\\+found|{_LOCK}|{re.escape(_UNFINISHED)}.*")


class DataError(Exception):
    """The folder cannot be used; one line that says what to do."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A folder that holds a station, or will."""

    path: Path

    @property
    def database(self) -> Path:
        """Where the database is if it is a file: a folder holds a station if this or `mark` is."""
        return self.path / "loa.sqlite3"

    @property
    def mark(self) -> Path:
        """A file that says: the database is on a server, and `database` in the settings where."""
        return self.path / "loa.postgresql"

    @property
    def config(self) -> Path:
        """Where an operator writes settings; there need be none."""
        return self.path / "loa.toml"

    @property
    def keys(self) -> Path:
        """The folder of the keys; see `server.keys.folder`."""
        return self.path / "keys"

    @property
    def tls_certificate(self) -> Path:
        """The certificate that the station made for itself, in PEM."""
        return self.path / "tls" / "certificate.pem"

    @property
    def tls_key(self) -> Path:
        """Its key, in PEM."""
        return self.path / "tls" / "key.pem"

    @property
    def token(self) -> Path:
        """The operator's token; see `server.keys.token`."""
        return self.path / "operator.token"

    @property
    def _lock(self) -> Path:
        return self.path / _LOCK

    def holds_station(self) -> bool:
        """Whether there is one, as far as this user can see."""
        try:
            return self._holds()
        except OSError:
            return False

    def _holds(self) -> bool:
        return self.database.is_file() or self.mark.is_file()

    def place(self, url: str | None) -> Path | str:
        """Where the database is, `url` being what the settings say; DataError if that differs."""
        if url is None and self.mark.exists():
            raise DataError(
                f"{self.path} holds a station whose database is on a server: "
                f"set `database` in {self.config.name} to its URL"
            )
        if url is not None and not self.mark.exists():
            raise DataError(
                f"the database of {self.path} is the file {self.database.name}: take `database` "
                "from the settings, or move it with `loa backup` and `loa restore --database`"
            )
        return self.database if url is None else url

    def check(self) -> None:
        """DataError unless there is a station that this user, and no other, can open."""
        try:
            found = self._holds()
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror} (run as the station's user)") from None
        if not found:
            verb = f"loa init {shlex.quote(str(self.path))}"
            raise DataError(
                f"{self.path} holds no station: make one with `{verb}`, "
                "or name its folder with --data"
            )
        writable = os.access(self.path, os.W_OK, effective_ids=True)
        database = self.database if self.database.exists() else self.mark
        if not writable or not os.access(database, os.R_OK | os.W_OK, effective_ids=True):
            raise DataError(f"{self.path} cannot be written: run as the station's user")
        self._check_private()

    def _check_private(self) -> None:
        try:
            check_private_folder(self.path)
        except PrivateError as error:
            raise DataError(str(error)) from None

    def check_secrets(self) -> None:
        """DataError if keys, certificate or token were never made, as in an older version."""
        missing = [place.name for place in self.secrets if not place.exists()]
        if missing:
            where = f"--data {shlex.quote(str(self.path))}"
            lost = f"put the root back with `loa keys restore FILE {where}`, or, if there is none, "
            hint = lost if self.keys.name in missing else ""
            raise DataError(
                f"{self.path} holds no {' and no '.join(missing)}: {hint}"
                f"make new ones with `loa keys create {where}`"
                + (" and enrol every loudspeaker anew" if hint else "")
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other stations out until the end of the block; DataError if one is in.

        The lock goes with its process, however that dies.
        """
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror} (run as the station's user)") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise DataError(
                f"{self.path} is in use by another station (process {holder or 'unknown'}): "
                "stop that, or name another folder with --data"
            ) from None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def check_free(self) -> None:
        """DataError unless a station can be made here."""
        if self.holds_station():
            raise DataError(f"{self.path} holds a station already; start it with `loa serve`")
        try:
            held = sorted(entry.name for entry in self.path.iterdir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror} (choose another folder)") from None
        held = [name for name in held if not _HARMLESS.fullmatch(name)]
        if held:
            raise DataError(f"{self.path} holds {held[0]} already: name a new or an empty folder")

    def create(
        self,
        name: str,
        configuration: str = "",
        url: str | None = None,
        administrator: User | None = None,
    ) -> None:
        """Make the folder, the database of a station called `name`, and the configuration.

        The administrator is its first user; without one it has none.

        All of it or nothing. The database is a file, or that of a server at `url`. DataError if
        there is something already or it cannot be made, StoreError if the database cannot,
        DirectoryError if that is no name.
        """
        # The supervisor checks and locks folders too, and needs no database library for that.
        from server.store import Store, copies  # noqa: PLC0415

        made: list[Path | str] = []

        def fill(unfinished: DataFolder) -> None:
            if configuration:
                unfinished.configure(configuration)
            unfinished.make_secrets()
            place = unfinished.new_place(url)
            store = Store.create(place, name)
            made.append(place)
            try:
                if administrator is not None:
                    store.users.save(administrator)
            finally:
                store.close()

        with copies.discarding(made):
            self.make(fill)

    def make(self, fill: Callable[["DataFolder"], None]) -> None:
        """Make the folder of what `fill` puts into an unfinished one, all of it or nothing.

        It makes the database last. DataError if there is something already or it cannot be made.
        """
        self.check_free()
        try:
            with ExitStack() as undo:
                self._make_folder(undo)
                self._check_private()  # another user's is not ours to close
                with self.lock():
                    undo.callback(self._lock.unlink)
                    self.check_free()
                    with self._unfinished(undo) as unfinished:
                        fill(unfinished)
                undo.pop_all()
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror} (choose another folder)") from None

    def new_place(self, url: str | None) -> Path | str:
        """Where a new station's database shall be; if that is a server, it is marked here."""
        if url is None:
            return self.database
        _write(self.mark, "This station's database is on a server: see loa.toml.\n")
        return url

    def configure(self, text: str) -> None:
        """Write the settings; OSError if the disk refuses."""
        _write(self.config, text)

    def complete(self) -> list[str]:
        """Make keys, certificate and token where there are none; the names of what was made.

        DataError if it cannot be made, or a station is running.
        """
        self.check()
        try:
            with self.lock():
                return self.make_secrets()
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}") from None

    @property
    def secrets(self) -> tuple[Path, ...]:
        """What no two stations share: files, and folders of them."""
        return self.keys, self.tls_certificate.parent, self.token

    def make_secrets(self) -> list[str]:
        """Make each of these that is not there, whole or not at all; the names of what was made.

        OSError if the disk refuses.
        """
        # Cryptography's library takes time to load, and the supervisor needs none.
        from server.keys.folder import KeyFolder  # noqa: PLC0415
        from server.keys.token import TokenFile  # noqa: PLC0415

        makers = (KeyFolder(self.keys).create, self._make_certificate, TokenFile(self.token).create)
        made = []
        for place, make in zip(self.secrets, makers, strict=True):
            if not place.exists():
                make()
                made.append(place.name)
        return made

    def _make_certificate(self) -> None:
        from server.keys.selfmade import make_certificate  # noqa: PLC0415

        addresses = [interface.address for interface in mdns_interfaces()]
        names = ["localhost", "127.0.0.1", "::1", socket.gethostname(), *addresses]
        with whole_folder(self.tls_certificate.parent) as made:
            make_certificate(made, names, dt.datetime.now(dt.UTC))

    def _make_folder(self, undo: ExitStack) -> None:
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=_MODE if folder == self.path else 0o777)
            undo.callback(_remove_empty, folder)
        if not missing and self.path.stat().st_uid == os.geteuid():
            self.path.chmod(_MODE)

    @contextmanager
    def _unfinished(self, undo: ExitStack) -> Iterator["DataFolder"]:
        """A folder inside this one to fill; at the end its files are moved to their places."""
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=self.path) as folder:
            unfinished = DataFolder(Path(folder))
            yield unfinished
            # The database last: where there is one, there is a whole station.
            last = {unfinished.database, unfinished.mark}
            for made in sorted(unfinished.path.iterdir(), key=lambda made: made in last):
                place = self.path / made.name
                made.rename(place)
                undo.callback(_remove, place)
        sync_folder(self.path)


def default_folder(environment: Mapping[str, str]) -> Path:
    """Where a station is if nobody says: $LOA_DATA, the system's, or this user's own folder.

    DataError if this user has none.
    """
    if named := environment.get("LOA_DATA"):
        return Path(named)
    if DataFolder(SYSTEM_FOLDER).holds_station():
        return SYSTEM_FOLDER
    # A relative path there is to be ignored (XDG Base Directory Specification).
    base = Path(environment.get("XDG_DATA_HOME", ""))
    if base.is_absolute():
        return base / "loa"
    home = Path(environment.get("HOME", ""))
    if not home.is_absolute():
        raise DataError("this user has no home: name the station's folder with LOA_DATA")
    return home / ".local" / "share" / "loa"


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)  # there may be a password in it
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
