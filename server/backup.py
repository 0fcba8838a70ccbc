"""Back-up and restoration of a whole station: its database, and all else in its folder.

A back-up is made beside the running station, of one moment of its database. A station that is put
back has a younger key and counts its beginnings from higher up, so that whoever has heard the one
before takes it for no replay.
"""

import os
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from server.archive import FOLDER, TABLES, About, Archive, ArchiveError, Writer, opened, write
from server.audit.row import RESTORED, Entry
from server.configuration import toml_text
from server.data import DataFolder
from server.keys.folder import SKIPPED_GENERATIONS, KeyFolder
from server.store import copies
from server.store.engine import Place, StoreError

# Of this run alone, or in the back-up as tables.
_NOT_KEPT = re.compile(r"lock|lost\+found|loa\.postgresql|loa\.sqlite3(-.*)?|\.unfinished-.*")
_SETTING = re.compile(r"^[ \t]*[\"']?database[\"']?[ \t]*=.*$", re.MULTILINE)


def back_up(folder: DataFolder, place: Place, file: Path, now_s: int) -> About:
    """Write a station into a new file, for its owner alone; `now_s`: UTC seconds.

    ArchiveError, KeysError or StoreError, and no file, if it cannot be.
    """
    if file.absolute().resolve().is_relative_to(folder.path.absolute().resolve()):
        raise ArchiveError(f"{file} is in the station's folder: name a file on another disk")
    about: list[About] = []

    def fill(writer: Writer) -> None:
        with KeyFolder(folder.keys).held(), copies.snapshot(place) as snapshot:
            for name, lines in snapshot.tables():
                writer.add_lines(f"{TABLES}{name}", lines)
            for path in _files(folder.path):
                with path.open("rb") as content:
                    writer.add_file(f"{FOLDER}{path.relative_to(folder.path).as_posix()}", content)
            about.append(About(snapshot.station, snapshot.revision, version("loa"), now_s))
        writer.finish(about[0])

    write(file, fill)
    return about[0]


def note_back_up(place: Place, about: About, file: Path, by: str) -> None:
    """Have the station's audit log say that there is this back-up, and who made it.

    StoreError if that cannot be written.
    """
    told = {"file": str(file.absolute()), "made_at": about.made_at}
    at_ns = about.made_at * 1_000_000_000
    copies.note(place, Entry.of(at_ns, by, "", "database.backup", told))


def _files(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if _NOT_KEPT.fullmatch(entry.name):
            continue
        if entry.is_symlink() and entry.is_dir():
            raise ArchiveError(f"{entry} leads out of the station's folder: mount it there instead")
        if entry.is_dir():
            yield from _files(entry)
        elif entry.is_file():
            yield entry


def restore(
    file: Path, folder: DataFolder, url: str | None, now_ns: int, by: str = "station"
) -> About:
    """Make a station of a back-up, in a folder that holds none; its database at `url`, or a file.

    Its audit log says so, as of `now_ns` (UTC, since 1970), and who did it. All or nothing.
    ArchiveError, DataError, KeysError or StoreError if it cannot be.
    """
    made: list[Place] = []
    with opened(file) as archive, copies.discarding(made):

        def fill(unfinished: DataFolder) -> None:
            archive.unpack(unfinished.path)
            _configure(unfinished, url)
            unfinished.check_secrets()
            keys = KeyFolder(unfinished.keys)
            keys.load()
            if keys.has_root():
                keys.rotate(SKIPPED_GENERATIONS)
            told = {
                "made_at": archive.about.made_at,
                "generation": keys.load().certificate.generation,
            }
            entry = Entry.of(now_ns, by, "", RESTORED, told)
            place = unfinished.new_place(url)
            _fill_database(file, archive, place, entry)
            made.append(place)
            _own_like(unfinished.path, folder.path)

        folder.make(fill)
        return archive.about


def _fill_database(file: Path, archive: Archive, place: Place, entry: Entry) -> None:
    try:
        copies.restore(place, archive.about.revision, archive.tables(), [entry])
    except StoreError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise ArchiveError(f"{file}: its tables are nonsense ({why}): use another") from None


def _configure(unfinished: DataFolder, url: str | None) -> None:
    """Have the settings name the database that there is now."""
    try:
        text = unfinished.config.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        text = ""
    except UnicodeDecodeError:
        raise ArchiveError(
            f"its {unfinished.config.name} is no text: use another back-up"
        ) from None
    line = "" if url is None else f"database = {toml_text(url)}"
    changed = _SETTING.sub(lambda _: line, text, count=1)
    if changed == text and line:
        changed = f"{line}\n{text}"
    try:
        found = tomllib.loads(changed).get("database")
    except tomllib.TOMLDecodeError:
        found = url  # it was so before, and `loa serve` says where
    if found != url:
        raise ArchiveError(
            f"{unfinished.config.name} in it sets `database` in a way not understood"
        )
    if changed != text:
        unfinished.configure(changed)


def _own_like(made: Path, folder: Path) -> None:
    """Root makes files for the station's user, who could not read root's."""
    if os.geteuid() == 0:
        told = folder.stat()
        for path in (made, *made.rglob("*")):
            os.chown(path, told.st_uid, told.st_gid)
