"""`loa units`: the tree of communes, villages, buildings that loudspeakers belong to."""

import argparse
from collections import Counter

from server.cli.api import OK, add_verb, parser, run, verbs_of
from server.cli.table import show_json
from server.cli.text import counted, printable
from server.directory import SEPARATOR
from server.remote import call, listed, path_of, rows

_UNITS = "/api/v1/units"


def _parser() -> argparse.ArgumentParser:
    made = parser("units", "The tree of units, and how many loudspeakers each has.")
    verbs = verbs_of(made)
    add = add_verb(verbs, "add", "add a unit below one that exists", _add)
    remove = add_verb(verbs, "remove", "remove an empty unit", _remove)
    for verb in (add, remove):
        verb.add_argument("path", metavar="PATH", help="from the station's own: Tân Phú/Thôn 3")
    return made


def main(argv: list[str]) -> int:
    """Show the tree, or change it."""
    return run(_parser(), argv, _tree)


def _tree(options: argparse.Namespace) -> int:
    units: list[str] = listed(options.server, _UNITS)
    if options.json:
        show_json(units)
        return OK
    held: Counter[str] = Counter()
    for row in rows(options.server, "/api/v1/speakers"):
        held.update(_and_above(row["unit"]))
    # By parts: as texts, `Thôn 1 A` would come between `Thôn 1` and what is below it.
    for *above, label in sorted(path.split(SEPARATOR) for path in units):
        number = held[SEPARATOR.join((*above, label))]
        print(f"{'  ' * len(above)}{printable(label)}  ({counted(number, 'loudspeaker')})")
    return OK


def _and_above(path: str) -> list[str]:
    parts = path.split(SEPARATOR)
    return [SEPARATOR.join(parts[: depth + 1]) for depth in range(len(parts))]


def _add(options: argparse.Namespace) -> int:
    answer = call(options.server, "POST", _UNITS, {"path": options.path})
    if options.json:
        show_json(answer)
    else:
        print(f"unit {printable(answer['path'])} added")
    return OK


def _remove(options: argparse.Namespace) -> int:
    show_json(call(options.server, "DELETE", path_of(_UNITS, options.path, nested=True)))
    if not options.json:
        print(f"unit {printable(options.path)} removed")
    return OK
