"""`loa backup`: the whole station in one file, while it runs."""

import argparse
import datetime as dt
import os
import pwd
from pathlib import Path

from server.archive import ArchiveError
from server.backup import back_up, note_back_up
from server.cli.api import OK, complain, new_parser
from server.configuration import configure
from server.data import DataError, DataFolder
from server.keys.folder import KeysError
from server.settings import SettingsError
from server.store.engine import StoreError


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "backup",
        "Write the whole station into one file, while it runs: its database, settings and keys. "
        "Whoever has that file has the station's keys. Run it as the station's user.",
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="a new file, on another disk")
    add_folder(parser)
    return parser


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Where the station is, or shall be."""
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="the station's folder ($LOA_DATA, /var/lib/loa or ~/.local/share/loa)",
    )


def main(argv: list[str]) -> int:
    """Do it, or say in one line why not."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        settings = configure({"data": options.data}, os.environ)
        folder = DataFolder(settings.data or Path())
        folder.check()
        folder.check_secrets()
        place = folder.place(settings.database)
        now = dt.datetime.now(dt.UTC)
        about = back_up(folder, place, options.file, int(now.timestamp()))
    except (ArchiveError, DataError, KeysError, SettingsError, StoreError) as error:
        return complain(parser.prog, str(error))
    try:
        note_back_up(place, about, options.file, account())
    except (StoreError, ValueError) as error:
        complain(parser.prog, f"the back-up is whole, but the audit log does not have it: {error}")
    print(f"{options.file} holds the station {about.station!r} as of {shown_time(about.made_at)}")
    print("whoever has that file has the station's keys: keep it where you would keep those")
    return OK


def account() -> str:
    """Whose this process is on the machine, as the audit log has it."""
    try:
        return f"account {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"account {os.geteuid()}"


def shown_time(at_s: int) -> str:
    """An instant in UTC seconds, for people."""
    return f"{dt.datetime.fromtimestamp(at_s, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
