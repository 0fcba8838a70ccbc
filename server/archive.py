"""A back-up: one file with everything that a station is, for its owner alone.

A tar: each table as `tables/NAME`, each file of the station's folder as `folder/PATH`, and last
`manifest.json`, which has every member's size and SHA-256, and its own. One that was cut short has
none.
"""

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from server.keys.private import sync_folder

FORMAT = 1
TABLES, FOLDER = "tables/", "folder/"
_MANIFEST = "manifest.json"
_MAX_MANIFEST = 64 << 20
_CHUNK = 1 << 20
_CUT = "it is cut short or damaged: use another back-up"


class ArchiveError(Exception):
    """A back-up cannot be written, or what was read is none; one line that says what to do."""


@dataclass(frozen=True, slots=True)
class About:
    """What a back-up says of itself. `made_at`: UTC seconds; `revision`: that of the tables."""

    station: str
    revision: str
    version: str
    made_at: int


# ------------------------------------------------------------------ writing
class Writer:
    """A back-up that is being written."""

    def __init__(self, file: IO[bytes], scratch: Path) -> None:
        # A member's header has its size, and as many digits as there may be (POSIX.1-2001).
        self._tar = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)
        self._scratch = scratch
        self._members: dict[str, dict[str, Any]] = {}

    def add_lines(self, name: str, lines: Iterable[bytes]) -> None:
        """A member of these lines; their sum must be known first, so they lie on the disk once."""
        with tempfile.TemporaryFile(dir=self._scratch) as whole:
            whole.writelines(lines)
            size = whole.tell()
            whole.seek(0)
            self._add(name, whole, size)

    def add_file(self, name: str, file: IO[bytes]) -> None:
        """A member of what is in a file now."""
        self._add(name, file, os.fstat(file.fileno()).st_size)

    def _add(self, name: str, file: IO[bytes], size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        hashing = _Hashing(file)
        self._tar.addfile(info, hashing)
        self._members[name] = {"bytes": size, "sha256": hashing.sha256.hexdigest()}

    def finish(self, about: About) -> None:
        """Write the manifest; nothing may follow."""
        manifest = {
            "application": "loa",
            "format": FORMAT,
            "station": about.station,
            "tables": about.revision,
            "version": about.version,
            "made_at": about.made_at,
            "members": self._members,
        }
        with_sum = {**manifest, "sha256": _digest(manifest)}
        text = json.dumps(with_sum, ensure_ascii=False, indent=1).encode()
        with tempfile.TemporaryFile(dir=self._scratch) as whole:
            whole.write(text)
            whole.seek(0)
            self._add(_MANIFEST, whole, len(text))
        self._tar.close()


def _digest(manifest: dict[str, Any]) -> str:
    """Of all but itself, however it is written."""
    plain = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


class _Hashing:
    """Reads a file and hashes what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def write(file: Path, fill: Callable[[Writer], None]) -> None:
    """Make a new back-up of what `fill` adds: whole, on the disk and read again, or not at all.

    ArchiveError if there is such a file, or the disk refuses.
    """
    if os.path.lexists(file):
        raise ArchiveError(f"{file} exists already: name a new file")
    try:
        descriptor, name = tempfile.mkstemp(prefix=".unfinished-", dir=file.parent)  # 0600
        unfinished = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as out:
                fill(Writer(out, file.parent))
                out.flush()
                os.fsync(out.fileno())
            with opened(unfinished):
                pass
            unfinished.rename(file)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        sync_folder(file.parent)
    except OSError as error:
        why = error.strerror or error
        raise ArchiveError(f"{error.filename or file}: {why} (nothing was made)") from None


# ------------------------------------------------------------------ reading
class Archive:
    """A back-up whose every member is what the manifest says."""

    def __init__(self, tar: tarfile.TarFile, about: About, names: tuple[str, ...]) -> None:
        self._tar = tar
        self.about = about
        self._names = names

    def tables(self) -> Iterator[tuple[str, Iterable[bytes]]]:
        """The name of each table, and its lines."""
        for name in self._names:
            if name.startswith(TABLES):
                with _member(self._tar, self._tar.getmember(name)) as lines:
                    yield name.removeprefix(TABLES), lines

    def unpack(self, folder: Path) -> None:
        """Put the files of the station's folder there, each for its owner alone and on the disk."""
        for name in self._names:
            if name.startswith(FOLDER):
                place = folder / name.removeprefix(FOLDER)
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with (
                    _member(self._tar, self._tar.getmember(name)) as member,
                    place.open("xb") as out,
                ):
                    os.fchmod(out.fileno(), 0o600)
                    shutil.copyfileobj(member, out, _CHUNK)
                    out.flush()
                    os.fsync(out.fileno())
                sync_folder(place.parent)


@contextmanager
def opened(file: Path) -> Iterator[Archive]:
    """A back-up, once every byte of it is checked; ArchiveError if it is none, or not whole."""
    try:
        with tarfile.open(file, "r:") as tar:
            found = _checked_names(tar)
            manifest = _manifest(tar, found)
            about = _about(manifest)
            _check_members(tar, found, manifest.get("members"))
            yield Archive(tar, about, tuple(name for name in found if name != _MANIFEST))
    except (tarfile.TarError, EOFError):
        raise ArchiveError(f"{file} is no back-up of a station, or {_CUT}") from None
    except ArchiveError as error:
        raise ArchiveError(f"{file}: {error}") from None
    except OSError as error:
        raise ArchiveError(f"{error.filename or file}: {error.strerror or error}") from None


def _checked_names(tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """The members by name: plain files that can be put nowhere else than below a folder."""
    found: dict[str, tarfile.TarInfo] = {}
    for member in tar:
        path = PurePosixPath(member.name)
        plain = member.isreg() and not path.is_absolute() and ".." not in path.parts
        if not plain or str(path) != member.name or member.name in found:
            raise ArchiveError(f"{member.name!r} has no place in a back-up: {_CUT}")
        found[member.name] = member
    return found


def _manifest(tar: tarfile.TarFile, found: dict[str, tarfile.TarInfo]) -> dict[str, Any]:
    member = found.get(_MANIFEST)
    if member is None or member.size > _MAX_MANIFEST:
        raise ArchiveError(f"there is no manifest: {_CUT}")
    with _member(tar, member) as file:
        try:
            manifest = json.loads(file.read())
        except (ValueError, RecursionError):
            raise ArchiveError(f"the manifest is nonsense: {_CUT}") from None
    if not isinstance(manifest, dict) or manifest.get("application") != "loa":
        raise ArchiveError("it is another program's: name what `loa backup` made")
    if manifest.get("format") != FORMAT:
        raise ArchiveError(
            f"it is of a newer Loa (format {manifest.get('format')}): update this one"
        )
    if manifest.get("sha256") != _digest(manifest):
        raise ArchiveError(f"the manifest was changed: {_CUT}")
    return manifest


def _about(manifest: dict[str, Any]) -> About:
    said = (manifest.get("station"), manifest.get("tables"), manifest.get("version"))
    made_at = manifest.get("made_at")
    if not all(isinstance(text, str) for text in said) or not isinstance(made_at, int):
        raise ArchiveError(f"the manifest is nonsense: {_CUT}")
    station, revision, version = map(str, said)
    return About(station, revision, version, made_at)


def _check_members(tar: tarfile.TarFile, found: dict[str, tarfile.TarInfo], said: object) -> None:
    if not isinstance(said, dict) or found.keys() != said.keys() | {_MANIFEST}:
        raise ArchiveError(f"it has not what its manifest says: {_CUT}")
    for name, row in said.items():
        with _member(tar, found[name]) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        if row != {"bytes": found[name].size, "sha256": digest}:
            raise ArchiveError(f"{name} is not what the manifest says: {_CUT}")


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    if file is None:
        raise ArchiveError(f"{member.name!r} has no place in a back-up: {_CUT}")
    return file
