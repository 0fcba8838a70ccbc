"""`loa restore`: a station of what `loa backup` wrote."""

import argparse
import datetime as dt
import os
import shlex
from pathlib import Path

from server.archive import About, ArchiveError
from server.backup import restore
from server.cli.api import OK, complain, new_parser
from server.cli.backup import account, add_folder, shown_time
from server.configuration import configure, database_url
from server.data import DataError, DataFolder
from server.keys.folder import KeyFolder, KeysError
from server.settings import SettingsError
from server.store.engine import StoreError


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "restore",
        "Make a station of what `loa backup` wrote, in a new or an empty folder. The one that it "
        "is a copy of must never run again.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="what `loa backup` wrote")
    add_folder(parser)
    parser.add_argument(
        "--database",
        metavar="URL",
        help="an empty one on a PostgreSQL server (a file in the folder); "
        "with a password in it, set LOA_DATABASE instead",
    )
    return parser


def main(argv: list[str]) -> int:
    """Do it, or say in one line why not."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        url = database_url(options.database, os.environ)
        settings = configure({"data": options.data}, {**os.environ, "LOA_DATABASE": ""})
        folder = DataFolder(settings.data or Path())
        now = dt.datetime.now(dt.UTC)
        now_ns = int(now.timestamp()) * 1_000_000_000
        about = restore(options.file, folder, url, now_ns, account())
        _tell(folder, about)
    except (ArchiveError, DataError, KeysError, SettingsError, StoreError) as error:
        return complain(parser.prog, str(error))
    return OK


def _tell(folder: DataFolder, about: About) -> None:
    where = shlex.quote(str(folder.path))
    keys = KeyFolder(folder.keys)
    print(f"{folder.path} holds the station {about.station!r} as of {shown_time(about.made_at)}")
    print("what was changed since then is as it was: revoke again whom you revoked since, and")
    print("withdraw again what you withdrew; codes used since then can be used again")
    if keys.has_root():
        print(f"its key is of generation {keys.load().certificate.generation}; {_OTHER}")
    else:
        print("the root is not in it: if the station's key was rotated since then, use")
        print(f"`loa keys restore FILE --data {where}` and `loa keys rotate --data {where}`")
    print(f"start it: loa serve --data {where}")


_OTHER = "never start the one again that it is a copy of"
