"""Reads what `station` judges: files, the database, anchors, and what a running station says."""

import errno
import fcntl
import os
import shutil
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from sqlalchemy import Connection, func, select

from server.archive import ArchiveError, opened
from server.audit.anchors import Anchor, FileAnchor, SyslogAnchor, WebhookAnchor, anchors_of
from server.data import DataError, DataFolder
from server.doctor.station import (
    AnchorFacts,
    AnswerFacts,
    BackupFacts,
    CertificateFacts,
    DatabaseFacts,
    DiskFacts,
    FolderFacts,
    KeysFacts,
)
from server.keys.folder import KeyFolder, KeysError
from server.keys.tls import TlsError, server_context
from server.remote import ApiError, call, credentials_of
from server.settings import Settings
from server.store.databases import database_at
from server.store.engine import Place, StoreError
from server.store.revisions import known, revision_at
from server.store.tables import EndpointRow

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_PATIENCE_S = 3.0


def folder_facts(folder: DataFolder) -> FolderFacts:
    """Whether there is a station, and whom it is open to."""
    try:
        folder.check()
        folder.check_secrets()
        exposed = tuple(_exposed(folder.path))
        owner = folder.path.stat().st_uid
    except DataError as error:
        return FolderFacts(str(folder.path), str(error), is_own=True, exposed=())
    except OSError as error:
        why = f"{error.filename or folder.path}: {error.strerror} (run as the station's user)"
        return FolderFacts(str(folder.path), why, is_own=True, exposed=())
    return FolderFacts(str(folder.path), None, os.geteuid() in {0, owner}, exposed)


def _exposed(path: Path) -> Iterator[str]:
    try:
        told = path.lstat()
        if not stat.S_ISLNK(told.st_mode) and told.st_mode & _OTHERS:
            yield str(path)
        if stat.S_ISDIR(told.st_mode) and path.name != "lost+found":
            for entry in sorted(path.iterdir()):
                yield from _exposed(entry)
    except FileNotFoundError:  # a running station's database has files that come and go
        return


def disk_facts(path: Path) -> DiskFacts:
    """Of the disk that a path is on; OSError if there is none."""
    told = os.statvfs(path)
    return DiskFacts(
        str(path), shutil.disk_usage(path).free, told.f_favail if told.f_files else None
    )


def database_facts(place: Place) -> DatabaseFacts:
    """Reads all of an SQLite file, in use or not; a server looks after its own."""
    shown = str(place) if isinstance(place, Path) else ""
    try:
        database = database_at(place)
        try:
            shown = database.shown
            revision, newest = revision_at(place), known()[0].name
            with database.snapshot() as connection:
                damage = _damage(connection)
                speakers = connection.scalar(select(func.count()).select_from(EndpointRow)) or 0
        finally:
            database.close()
    except StoreError as error:
        return DatabaseFacts(shown, str(error))
    return DatabaseFacts(shown, None, damage, revision, newest, speakers)


def _damage(connection: Connection) -> tuple[str, ...]:
    if connection.dialect.name != "sqlite":
        return ()
    said = connection.exec_driver_sql("PRAGMA quick_check").scalars().all()
    return tuple(" ".join(str(line).split()) for line in said if line != "ok")


def keys_facts(folder: DataFolder) -> KeysFacts:
    """Of the station's keys, without the root where that is kept elsewhere."""
    keys = KeyFolder(folder.keys)
    try:
        return KeysFacts(None, keys.load().certificate.generation, keys.has_root())
    except KeysError as error:
        return KeysFacts(str(error))


def certificate_facts(folder: DataFolder, settings: Settings) -> CertificateFacts:
    """Of the certificate that the station shows, or will."""
    given = settings.tls_certificate
    path = folder.tls_certificate if given is None else Path(given)
    key = folder.tls_key if settings.tls_key is None else Path(settings.tls_key)
    is_given = given is not None
    try:
        server_context(path, key)
        (first, *_) = x509.load_pem_x509_certificates(path.read_bytes())
    except TlsError as error:
        return CertificateFacts(str(path), is_given, str(error))
    except (OSError, ValueError):
        return CertificateFacts(str(path), is_given, f"{path} holds no certificate: put one there")
    begins, ends = first.not_valid_before_utc.timestamp(), first.not_valid_after_utc.timestamp()
    return CertificateFacts(str(path), is_given, None, int(begins), int(ends))


# ------------------------------------------------------------------ anchors, and the back-up
def anchors_facts(settings: Settings, folder: Path) -> list[AnchorFacts]:
    """Whether each can be reached; nothing is written there."""
    anchors = anchors_of(settings.audit_file, settings.audit_syslog, settings.audit_webhook)
    return [_anchor_facts(anchor, folder) for anchor in anchors]


def _anchor_facts(anchor: Anchor, folder: Path) -> AnchorFacts:
    try:
        return AnchorFacts(anchor.shown, None, _reach(anchor, folder))
    except OSError as error:
        return AnchorFacts(anchor.shown, error.strerror or str(error) or "no answer")


def _reach(anchor: Anchor, folder: Path) -> bool:
    """Whether it is on the disk of `folder`; OSError if it cannot be reached."""
    match anchor:
        case FileAnchor(path):
            there = path if path.exists() else path.parent
            device = there.stat().st_dev
            if not os.access(there, os.W_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return device == folder.stat().st_dev
        case SyslogAnchor(str() as path):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.connect(path)
        case SyslogAnchor((host, port)):
            socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        case WebhookAnchor(url):
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), _PATIENCE_S).close()
        case _:  # of another kind there is nothing to try without writing to it
            pass
    return False


def backup_facts(file: Path) -> BackupFacts:
    """Of a file that `loa backup` wrote, read whole."""
    try:
        with opened(file) as archive:
            return BackupFacts(str(file), None, archive.about.station, archive.about.made_at)
    except ArchiveError as error:
        return BackupFacts(str(file), str(error))


# ------------------------------------------------------------------ the running station
def process_in(folder: DataFolder) -> int | None:
    """The process that has the folder; 0 if it does not say its number, None if none has it.

    To know it, the lock is asked for and given back: a station that begins in that very moment
    finds the folder in use.
    """
    try:
        descriptor = os.open(folder.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        said = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        return int(said) if said.isdecimal() else 0
    finally:
        os.close(descriptor)
    return None


def answer_facts(
    folder: DataFolder, server: str | None, environment: Mapping[str, str], *, is_running: bool
) -> AnswerFacts:
    """What the station at `server` says, if one runs in this folder; None is not asked."""
    if not is_running or server is None:
        return AnswerFacts(is_running)
    try:
        credentials = credentials_of(folder, environment)
        said = call(server, "GET", "/api/v1/station", credentials=credentials)
        return AnswerFacts(
            True, None, str(said["name"]), int(said["speakers"]), int(said["online"])
        )
    except ApiError as error:
        # What follows in brackets is advice to whoever asks from elsewhere.
        return AnswerFacts(is_running=True, problem=str(error).partition(" (")[0])
    except (KeyError, TypeError, ValueError):
        return AnswerFacts(is_running=True, problem="its answer is not understood")
