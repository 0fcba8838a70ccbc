"""`loa database`: which tables the station's database has, and the way back to older ones."""

import argparse
import os
from pathlib import Path

from server.cli.api import OK, complain, new_parser
from server.cli.backup import add_folder
from server.configuration import configure
from server.data import DataError, DataFolder
from server.settings import SettingsError
from server.store import revisions
from server.store.databases import database_at
from server.store.engine import Place, StoreError


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "database",
        "Where the station's database is, and of which revision its tables are. A newer Loa brings "
        "them to its own when it starts; before an older one, bring them back.",
    )
    add_folder(parser)
    parser.add_argument(
        "--downgrade",
        metavar="REVISION",
        help="bring the tables of a stopped station back to these; what they have no room for is "
        "lost, so back it up before",
    )
    return parser


def main(argv: list[str]) -> int:
    """Do it, or say in one line why not."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        settings = configure({"data": options.data}, os.environ)
        folder = DataFolder(settings.data or Path())
        folder.check()
        place = folder.place(settings.database)
        if options.downgrade is not None:
            with folder.lock():
                revisions.downgrade(place, options.downgrade)
        _show(place)
    except (DataError, SettingsError, StoreError) as error:
        return complain(parser.prog, str(error))
    return OK


def _show(place: Place) -> None:
    database = database_at(place)
    print(database.shown)
    database.close()
    now = revisions.revision_at(place)
    for revision in revisions.known():
        print(f"{'*' if revision.name == now else ' '} {revision.name}  {revision.what}")
