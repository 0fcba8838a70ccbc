"""`loa zones`: which loudspeakers are addressed together, and why."""

import argparse
from pathlib import Path
from typing import Any

from server.cli.api import OK, UsageError, add_verb, parser, run, verbs_of
from server.cli.table import Column, field, show_json, show_table
from server.cli.text import counted, listed, printable, standing
from server.remote import call, path_of, rows
from server.zones.errors import ZoneError
from server.zones.geojson import Plain, from_corners, from_geojson

_ZONES = "/api/v1/zones"
_CLEAR = {"on": True, "off": False}
_COLUMNS = (
    field("zone", "name"),
    Column("speakers", lambda row: str(row["speakers"]), right=True),
    Column("note", standing),
    Column("who", lambda row: in_words(row["definition"])),
)


def _parser() -> argparse.ArgumentParser:
    made = parser("zones", "Every zone, how many loudspeakers are in it, and who they are.")
    verbs = verbs_of(made)
    show = add_verb(verbs, "show", "who is in a zone now", _show)
    add = add_verb(verbs, "add", "define a zone, or define it anew: all that is given", _add)
    clear = add_verb(verbs, "clear", "have a zone heard by stock players too, or not", _clear)
    remove = add_verb(verbs, "remove", "forget a zone that nothing uses", _remove)
    for verb in (show, add, clear, remove):
        verb.add_argument("name", metavar="NAME")
    _add_members(add)
    clear.add_argument("clear", choices=_CLEAR, metavar="on|off", help="off seals it again")
    add.add_argument(
        "--clear",
        action="store_true",
        default=None,
        help="stock players shall hear it too: in clear, which nobody can authenticate",
    )
    add.add_argument("--preview", action="store_true", help="who would be in it; define nothing")
    return made


def _add_members(add: argparse.ArgumentParser) -> None:
    for option, letter, what in (
        ("--unit", "U", "all of these units and below"),
        ("--tag", "T", "all that bear these tags"),
        ("--speaker", "S", "these loudspeakers"),
        ("--zone", "Z", "all of these zones; all is everybody"),
        ("--except-zone", "Z", "without all of these zones"),
        ("--except-speaker", "S", "without these loudspeakers"),
    ):
        add.add_argument(option, nargs="+", action="extend", default=[], metavar=letter, help=what)
    add.add_argument(
        "--polygon",
        action="append",
        default=[],
        metavar='FILE|"LAT,LON LAT,LON ..."',
        help="all that stand within: a GeoJSON file, or corners",
    )


def main(argv: list[str]) -> int:
    """List zones, or show or change one."""
    return run(_parser(), argv, _list)


def _list(options: argparse.Namespace) -> int:
    zones = rows(options.server, _ZONES)
    if options.json:
        show_json(zones)
    else:
        show_table(_COLUMNS, zones)
    return OK


def _show(options: argparse.Namespace) -> int:
    zone = call(options.server, "GET", path_of(_ZONES, options.name))
    if options.json:
        show_json(zone)
        return OK
    _say_zone(zone, "")
    _say_members(zone)
    return OK


def _add(options: argparse.Namespace) -> int:
    definition = definition_of(options)
    if options.preview:
        return _preview(options, definition)
    path = path_of(_ZONES, options.name)
    before = {row["name"] for row in rows(options.server, _ZONES)}
    wanted = {"definition": definition, "clear": options.clear}
    zone = call(options.server, "PUT", path, wanted)
    if options.json:
        show_json(zone)
    else:
        _say_zone(zone, " defined anew" if zone["name"] in before else " defined")
    return OK


def _preview(options: argparse.Namespace, definition: Plain) -> int:
    would = call(options.server, "POST", f"{_ZONES}/preview", {"definition": definition})
    if options.json:
        show_json(would)
        return OK
    number = counted(len(would["speakers"]), "loudspeaker")
    print(f"{number} would be in {printable(options.name)}; nothing was changed")
    _say_members(would)
    return OK


def _say_zone(zone: dict[str, Any], done: str) -> None:
    number = counted(len(zone["speakers"]), "loudspeaker")
    name, who = printable(zone["name"]), printable(in_words(zone["definition"]))
    note = f", {standing(zone)}" if standing(zone) else ""
    print(f"zone {name}{done}: {number} ({who}){note}")


def _say_members(zone: dict[str, Any]) -> None:
    for name in zone["speakers"]:
        print(f"  {printable(name)}")


def _clear(options: argparse.Namespace) -> int:
    change = {"clear": _CLEAR[options.clear]}
    zone = call(options.server, "PATCH", path_of(_ZONES, options.name), change)
    if options.json:
        show_json(zone)
        return OK
    how = "sealed" if zone["authenticated"] else "heard in clear too, unauthenticated,"
    print(f"zone {printable(zone['name'])} is {how} from the next programme on")
    return OK


def _remove(options: argparse.Namespace) -> int:
    show_json(call(options.server, "DELETE", path_of(_ZONES, options.name)))
    if not options.json:
        print(f"zone {printable(options.name)} removed")
    return OK


# ------------------------------------------------------------------ definitions
def definition_of(options: argparse.Namespace) -> Plain:
    """What the options mean together; UsageError if that is nobody, or a polygon is none."""
    members: list[Plain] = [{"unit": path} for path in options.unit]
    members += [{"tag": tag} for tag in options.tag]
    if options.speaker:
        members.append({"speakers": options.speaker})
    members += [_area(text) for text in options.polygon]
    members += [{"zone": zone} for zone in options.zone]
    if not members:
        raise UsageError("of whom? give --unit, --tag, --speaker, --polygon or --zone")
    whole: Plain = members[0] if len(members) == 1 else {"union": members}
    excepted: list[Plain] = [{"zone": zone} for zone in options.except_zone]
    if options.except_speaker:
        excepted.append({"speakers": options.except_speaker})
    return {"difference": [whole, *excepted]} if excepted else whole


def _area(text: str) -> Plain:
    """From a file, or from corners: these have digits and a comma, and no file is called so."""
    try:
        if _looks_like_corners(text):
            return from_corners(text)
        return from_geojson(Path(text).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"--polygon {text}: {error.strerror}") from None
    except (ZoneError, ValueError) as error:
        raise UsageError(f"--polygon {text}: {error}") from None


def _looks_like_corners(text: str) -> bool:
    return "," in text and not set(text) - set("0123456789.,+- \t\n")


def in_words(definition: Plain) -> str:
    """A definition as a person would say it."""
    ((kind, value),) = definition.items()
    assert isinstance(value, str | list)  # noqa: S101 - the station has parsed it
    match kind, value:
        case "speakers", list():
            return listed(value, 3)
        case "polygon", list():
            return f"an area of {len(value) - 1} corners"
        case "union", list():
            return " or ".join(_within(member) for member in value)
        case "difference", [first, *others]:
            return f"{_within(first)} except {', '.join(map(_within, others))}"
        case "zone", "all":
            return "everybody"
        case _:
            return f"{kind} {value}"


def _within(definition: Plain) -> str:
    words = in_words(definition)
    return f"({words})" if {"union", "difference"} & definition.keys() else words
