"""Files that nobody but their owner may read, and that are written whole or not at all."""

import os
import shlex
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_UNFINISHED = ".unfinished-"


class PrivateError(Exception):
    """A file cannot be used, or should not be; one line that says what to do."""


def read_private(path: Path, others: int = _OTHERS) -> bytes:
    """What is in it; PrivateError if it is not there, or open to `others` (mode bits)."""
    try:
        with path.open("rb") as file:
            _check(path, file.fileno(), others, "600")
            return file.read()
    except OSError as error:
        raise PrivateError(f"{path}: {error.strerror} (run as the station's user)") from None


def check_private_folder(path: Path) -> None:
    """PrivateError if anybody else may look into it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PrivateError(f"{path}: {error.strerror} (run as the station's user)") from None
    try:
        _check(path, descriptor, _OTHERS, "700")
    finally:
        os.close(descriptor)


def create_private(path: Path, data: bytes) -> None:
    """Write a file that is not there yet; FileExistsError if it is, OSError as usual."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _fill(descriptor, data)
        sync_folder(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def replace_private(path: Path, data: bytes) -> None:
    """Write a file in place of another, if there is one: whoever reads sees this or that."""
    descriptor, unfinished = tempfile.mkstemp(prefix=_UNFINISHED, dir=path.parent)
    try:
        _fill(descriptor, data)
        _own_like(Path(unfinished), path.parent)
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that becomes `path` at the end of the block; OSError if that is there."""
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=path.parent) as unfinished:
        made = Path(unfinished) / path.name
        made.mkdir(mode=0o700)
        yield made
        for entry in (made, *made.iterdir()):
            _own_like(entry, path.parent)
        sync_folder(made)
        made.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """What was made, renamed or removed in it is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stamp(path: Path) -> tuple[int, ...]:
    """Differs from what it was if the file was replaced; empty where there is none."""
    try:
        told = path.stat()
    except OSError:
        return ()
    return told.st_mtime_ns, told.st_size, told.st_ino


def _check(path: Path, descriptor: int, others: int, mode: str) -> None:
    if os.fstat(descriptor).st_mode & others:
        verb = f"chmod {mode} {shlex.quote(str(path))}"
        raise PrivateError(f"{path} is open to others, who may know it by now: `{verb}`")


def _fill(descriptor: int, data: bytes) -> None:
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _own_like(path: Path, folder: Path) -> None:
    """Root makes files for the station's user, who could not read root's."""
    if os.geteuid() == 0:
        told = folder.stat()
        os.chown(path, told.st_uid, told.st_gid)
