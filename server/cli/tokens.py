"""`loa tokens`: what programs show in the place of a person."""

import argparse
import datetime as dt
from typing import Any

from server.cli.api import OK, add_verb, parser, run, verbs_of
from server.cli.table import Column, field, show_json, show_table
from server.cli.text import printable
from server.cli.users import root_of
from server.remote import call, path_of, rows
from server.rights.table import Role

_TOKENS = "/api/v1/tokens"


def _rights(row: dict[str, Any]) -> str:
    held = [f"{grant['role']} at {grant['unit']}" for grant in row["grants"]]
    return ", ".join(held) + (", urgently too" if row["urgent"] else "")


def _until(row: dict[str, Any]) -> str:
    return f"{dt.datetime.fromtimestamp(row['expires'], dt.UTC):%Y-%m-%d}"


_COLUMNS = (
    field("token", "number"),
    field("of", "owner"),
    field("for", "label"),
    Column("until", _until),
    Column("may", _rights),
)


def _parser() -> argparse.ArgumentParser:
    made = parser("tokens", "Tokens: what programs may do in your place.")
    verbs = verbs_of(made)
    add = add_verb(verbs, "add", "make a token of yours; it is shown this once", _add)
    add.add_argument("label", metavar="LABEL", help="what it is for")
    add.add_argument(
        "--role", nargs="+", required=True, choices=[*Role], metavar="ROLE", help=", ".join(Role)
    )
    add.add_argument("--unit", metavar="UNIT", help="where (the station's own)")
    add.add_argument("--days", type=int, default=90, help="how long it is good (%(default)s)")
    add.add_argument("--urgent", action="store_true", help="it may speak urgently too")
    remove = add_verb(verbs, "remove", "have a token open nothing, at once", _remove)
    remove.add_argument("number", metavar="NUMBER")
    return made


def main(argv: list[str]) -> int:
    """List tokens, or change one."""
    return run(_parser(), argv, _list)


def _list(options: argparse.Namespace) -> int:
    tokens = rows(options.server, _TOKENS)
    if options.json:
        show_json(tokens)
    else:
        show_table(_COLUMNS, tokens)
    return OK


def _add(options: argparse.Namespace) -> int:
    unit = options.unit or root_of(options.server)
    wanted = {
        "label": options.label,
        "grants": [{"role": role, "unit": unit} for role in dict.fromkeys(options.role)],
        "days": options.days,
        "urgent": options.urgent,
    }
    row = call(options.server, "POST", _TOKENS, wanted)
    if options.json:
        show_json(row)
        return OK
    print(f"token {row['number']}, until {_until(row)}: {printable(_rights(row))}")
    print(f"shown this once: {row['token']}")
    return OK


def _remove(options: argparse.Namespace) -> int:
    show_json(call(options.server, "DELETE", path_of(_TOKENS, options.number)))
    if not options.json:
        print(f"token {printable(options.number)} opens nothing any more")
    return OK
