"""`loa speakers`: how every loudspeaker is, and what is known of it."""

import argparse
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from server.cli.api import OK, UsageError, add_verb, parser, run, verbs_of
from server.cli.places import add_delay, place, places_joined, trim, trimmed
from server.cli.table import Column, Row, field, show_fields, show_json, show_table
from server.cli.text import NOTHING, duration, level, microseconds, printable, share
from server.remote import call, path_of, rows
from transport.control.messages import MAX_TRIM_US

_SPEAKERS = "/api/v1/speakers"


def is_offline(row: Row) -> bool:
    """Whether the station has not heard of it for five seconds, or would not listen to it."""
    return row["state"] in {"offline", "not enrolled"}


def _now(title: str, name: str, write: Callable[[Any], str]) -> Column:
    """A figure that is of now: what an offline loudspeaker said last does not count."""

    def cell(row: Row) -> str:
        value = row.get(name)
        return NOTHING if value is None or is_offline(row) else write(value)

    return Column(title, cell, right=True)


def _in_step(row: Row) -> str:
    return {True: "yes", False: "no"}.get(row["in_step"], NOTHING)


def _volume(row: Row) -> str:
    return f"{row['volume']} muted" if row["muted"] else str(row["volume"])


def _trim(row: Row) -> str:
    return trimmed(row["trim_us"])


def _state(row: Row) -> str:
    state = str(row["state"])
    return state if row["authenticated"] else f"{state} (unauthenticated)"


def _seen(row: Row) -> str:
    seconds = row["last_seen_s"]
    return "never" if seconds is None else duration(seconds)


COLUMNS = (
    field("name"),
    field("unit"),
    Column("state", _state),
    Column("seen", _seen, right=True),
    Column("in step", _in_step),
    _now("loss", "loss", share),
    _now("missed", "missed", share),
    _now("sync error", "sync_error_us", microseconds),
    _now("step error", "step_error_us", microseconds),
    _now("level", "level_dbfs", level),
    Column("volume", _volume),
    Column("trim", _trim, right=True),
    Column("hearing", lambda row: "" if is_offline(row) else row.get("hearing", "")),
    field("fault"),
)
_FOUND = (
    field("name"),
    field("address"),
    Column("station", lambda row: _station(row["station"])),
    Column("registered", lambda row: "yes" if row["registered"] else "no"),
)


def _station(address: dict[str, Any] | None) -> str:
    return NOTHING if address is None else f"{address['host']}:{address['port']}"


def _parser() -> argparse.ArgumentParser:
    made = parser("speakers", "Every registered loudspeaker, and how it is.")
    made.add_argument(
        "--zone",
        nargs="+",
        action="extend",
        default=[],
        metavar="ZONE",
        help="of these zones alone",
    )
    made.add_argument(
        "--found", action="store_true", help="instead, what answers on this network by mDNS"
    )
    verbs = verbs_of(made)
    show = add_verb(verbs, "show", "everything that is known of one loudspeaker", _show)
    change = add_verb(verbs, "set", "say where a loudspeaker belongs and stands", _set)
    revoke = add_verb(verbs, "revoke", "admit a loudspeaker no more, until it has a code", _revoke)
    remove = add_verb(verbs, "remove", "forget a loudspeaker that is not connected", _remove)
    add_delay(verbs)
    for verb in (show, change, revoke, remove):
        verb.add_argument("name", metavar="NAME")
    change.add_argument("--unit", metavar="U", help="the unit it belongs to, as a path")
    tags = change.add_mutually_exclusive_group()
    tags.add_argument(
        "--tag",
        nargs="+",
        action="extend",
        metavar="T",
        help="the tags it bears, instead of others",
    )
    tags.add_argument("--no-tags", action="store_true", help="it bears none")
    change.add_argument("--position", metavar="LAT,LON", help="where it stands, in degrees")
    change.add_argument(
        "--trim-us",
        type=trim,
        metavar="US",
        help=f"sound so many microseconds later, or earlier (-{MAX_TRIM_US} to {MAX_TRIM_US})",
    )
    _add_clear(change)
    return made


def _add_clear(change: argparse.ArgumentParser) -> None:
    seal = change.add_mutually_exclusive_group()
    seal.add_argument(
        "--clear",
        action="store_const",
        const=True,
        default=None,
        help="it plays what goes out in clear by multicast, which nobody can authenticate",
    )
    seal.add_argument(
        "--sealed",
        dest="clear",
        action="store_const",
        const=False,
        help="it plays what is sealed and signed alone (as it begins)",
    )


def main(argv: list[str]) -> int:
    """List loudspeakers, or show or change one."""
    return run(_parser(), places_joined(argv), _list)


def _list(options: argparse.Namespace) -> int:
    if options.found and options.zone:
        raise UsageError("--found knows no zones")
    if options.found:
        found = rows(options.server, "/api/v1/found")
    else:
        found = _of(options.server, options.zone)
    if options.json:
        show_json(found)
    elif not found:
        print("no loudspeaker answers here" if options.found else "no loudspeaker yet")
    elif options.found:
        show_table(_FOUND, found)
    else:
        show_table(COLUMNS, found, lambda row: "red" if is_offline(row) else "")
    return OK


def _of(server: str, zones: list[str]) -> list[Row]:
    """All loudspeakers, or those of these zones."""
    if not zones:
        return rows(server, _SPEAKERS)
    found = [row for zone in zones for row in rows(server, f"{_SPEAKERS}?zone={quote(zone)}")]
    return sorted({row["name"]: row for row in found}.values(), key=lambda row: str(row["name"]))


def _show(options: argparse.Namespace) -> int:
    row = call(options.server, "GET", path_of(_SPEAKERS, options.name))
    if options.json:
        show_json(row)
    else:
        show_fields(row)
    return OK


def _set(options: argparse.Namespace) -> int:
    change: dict[str, Any] = {}
    if options.unit is not None:
        change["unit"] = options.unit
    if options.tag is not None or options.no_tags:
        change["tags"] = options.tag or []
    if options.position is not None:
        change["position"] = place("--position", options.position)
    if options.clear is not None:
        change["clear"] = options.clear
    if options.trim_us is not None:
        change["trim_us"] = options.trim_us
    if not change:
        raise UsageError(
            "what? give --unit, --tag, --no-tags, --position, --trim-us, --clear or --sealed"
        )
    row = call(options.server, "PATCH", path_of(_SPEAKERS, options.name), change)
    if options.json:
        show_json(row)
    else:
        shown = ("name", "unit", "tags", "position", "trim_us", "authenticated")
        show_fields({name: row[name] for name in shown})
    return OK


def _revoke(options: argparse.Namespace) -> int:
    show_json(call(options.server, "POST", f"{path_of(_SPEAKERS, options.name)}/revoke"))
    if not options.json:
        name = printable(options.name)
        print(f"loudspeaker {name} revoked; a code from `loa enrol` admits it again")
    return OK


def _remove(options: argparse.Namespace) -> int:
    show_json(call(options.server, "DELETE", path_of(_SPEAKERS, options.name)))
    if not options.json:
        print(f"loudspeaker {printable(options.name)} removed")
    return OK
