"""`loa programmes`: what is on air, and what was."""

import argparse

from server.cli.api import OK, UsageError, parser, run
from server.cli.table import Column, Row, field, show_json, show_table
from server.cli.text import audience, duration, level, listed, moment
from server.remote import rows
from transport.control.priority import Priority


def _lasted(row: Row) -> str:
    ended = row["ended_at"]
    return duration(None if ended is None else ended - row["began_at"])


ON_AIR = (
    field("name"),
    field("priority"),
    Column("to", audience),
    field("state"),
    Column("for", lambda row: duration(row["seconds"]), right=True),
    Column("level", lambda row: level(row["level_dbfs"]), right=True),
    Column("D", lambda row: f"{row['playout_delay_ms']:g} ms", right=True),
    Column("speakers", lambda row: str(row["speakers"]), right=True),
    Column("interrupted at", lambda row: str(row["interrupted_at"]), right=True),
    Column("not in step", lambda row: listed(row["not_in_step"], 3)),
)
_PAST = (
    field("name"),
    Column("priority", lambda row: Priority(row["priority"]).name.lower()),
    Column("to", lambda row: audience(row["request"])),
    Column("began", lambda row: moment(row["began_at"])),
    Column("lasted", _lasted, right=True),
    Column("why it ended", lambda row: row["why_ended"] or "it is on air"),
)


def _parser() -> argparse.ArgumentParser:
    made = parser("programmes", "What is on air, or was.")
    made.add_argument("--past", action="store_true", help="what was, newest first")
    made.add_argument(
        "--limit", type=int, metavar="N", help="how many of the past, 1 to 1000 (the newest 50)"
    )
    return made


def main(argv: list[str]) -> int:
    """List programmes."""
    return run(_parser(), argv, _list)


def on_air(server: str) -> list[Row]:
    """The programmes that have not ended."""
    return [row for row in rows(server, "/api/programmes") if row["state"] != "ended"]


def _list(options: argparse.Namespace) -> int:
    if options.limit is not None and not options.past:
        raise UsageError("--limit goes with --past")
    path = (
        f"/api/programmes/past?limit={options.limit or 50}" if options.past else "/api/programmes"
    )
    found = rows(options.server, path)
    if options.json:
        show_json(found)
    elif found:
        show_table(_PAST if options.past else ON_AIR, found)
    else:
        print("nothing was on air yet" if options.past else "nothing is on air")
    return OK
