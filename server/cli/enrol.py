"""`loa enrol`: codes for loudspeakers, and who waits to be approved."""

import argparse
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import segno

from server.cli.api import OK, UsageError, add_verb, complain, parser, run, verbs_of
from server.cli.table import Column, Row, field, show_json, show_table
from server.cli.text import duration, listed, printable
from server.remote import ApiError, call, path_of, rows
from transport.control.address import StationAddress
from transport.control.messages import spelt_alike
from transport.security.enrolment import EnrolmentCode

_ENROLMENTS = "/api/v1/enrolments"
_PENDING = f"{_ENROLMENTS}/pending"
_VERBS = ("list", "approve", "refuse", "cancel")
# So many names, however long, fit a request.
_AT_ONCE = 200
_NUMBER = re.compile("[0-9a-f]{8}")
_CODES = (
    Column("name", lambda row: row["name"] or "(whoever comes)"),
    Column("unit", lambda row: row["unit"] or ""),
    Column("good for", lambda row: duration(row["expires_in_s"]), right=True),
    Column("in use", lambda row: "yes" if row["in_use"] else "no"),
    field("number"),
)
_WAITING = (
    Column("would be called", lambda row: row["name"]),
    field("key"),
    field("address"),
    Column("waits", lambda row: duration(row["waits_s"]), right=True),
)


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "enrol",
        "A code for each loudspeaker, good once; without a name, for one that is approved then.",
    )
    made.epilog = (
        "also: loa enrol list; loa enrol approve KEY --name N; loa enrol refuse KEY; "
        "loa enrol cancel NAME (each with --help)"
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="what the loudspeaker is called")
    made.add_argument("--file", type=Path, metavar="NAMES.txt", help="more names, one a line")
    made.add_argument("--unit", metavar="U", help="the unit it belongs to, as a path")
    made.add_argument(
        "--minutes", type=int, default=60, metavar="N", help="how long it is good (%(default)d)"
    )
    made.add_argument(
        "--address",
        metavar="HOST[:PORT]",
        help="where the loudspeaker finds the station (where this command does)",
    )
    return made


def _verbs() -> argparse.ArgumentParser:
    made = parser("enrol", "Codes that nobody has used, and loudspeakers that wait.")
    verbs = verbs_of(made)
    add_verb(verbs, "list", "the codes that nobody has used, and who waits", _list)
    approve = add_verb(verbs, "approve", "admit a loudspeaker that waits", _approve)
    refuse = add_verb(verbs, "refuse", "send a loudspeaker that waits away for good", _refuse)
    for verb in (approve, refuse):
        verb.add_argument("key", metavar="KEY", help="as it says itself, and `loa enrol list`")
    approve.add_argument("--name", required=True, metavar="N", help="what it is called from now on")
    approve.add_argument("--unit", metavar="U", help="the unit it belongs to, as a path")
    cancel = add_verb(verbs, "cancel", "have a code be none", _cancel)
    cancel.add_argument("which", metavar="NAME|NUMBER", help="as `loa enrol list` says")
    return made


def main(argv: list[str]) -> int:
    """Make codes, or see to those there are."""
    verbs = _first_word(argv) in _VERBS
    return run(_verbs(), argv, _list) if verbs else run(_parser(), argv, _enrol)


def _first_word(argv: list[str]) -> str:
    words = iter(argv)
    for word in words:
        if word == "--server":
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


# ------------------------------------------------------------------ codes
def _enrol(options: argparse.Namespace) -> int:
    names = _names(options)
    address = _address(options)
    made: list[Row] = []
    alone = len(names) == 1 and options.file is None
    for codes in _issued(options, names, address):
        made += codes
        if not alone and not options.json:
            for row in codes:
                # As it comes: should the station refuse the rest, these are good all the same.
                print(f"{row['name']}\t{row['code']}", flush=True)
    if options.json:
        show_json(made)
    elif alone:
        _show(made[0])
    _warn(made, given=options.address is not None)
    return OK


def _names(options: argparse.Namespace) -> list[str]:
    names = [*options.names, *_in_file(options.file)]
    if not names and options.file is not None:
        raise UsageError(f"--file {options.file}: there is no name in it")
    # The station is asked in parts, and would not see it.
    twice = [name for name, times in Counter(map(spelt_alike, names)).items() if times > 1]
    if twice:
        raise UsageError(f"{twice[0]!r} is there twice: name each loudspeaker once")
    return names or [""]


def _in_file(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "that is no text in UTF-8"
        raise UsageError(f"--file {file}: {why}") from None
    return [line.strip() for line in lines if line.strip()]


def _address(options: argparse.Namespace) -> str | None:
    """What the code shall say; None for what the station thinks best."""
    if options.address is None:
        return None
    try:
        return StationAddress.parse(options.address).text
    except ValueError as error:
        raise UsageError(f"--address {error}") from None


def _issued(
    options: argparse.Namespace, names: list[str], address: str | None
) -> Iterator[list[Row]]:
    for at in range(0, len(names), _AT_ONCE):
        body: dict[str, Any] = {
            "names": names[at : at + _AT_ONCE],
            "minutes": options.minutes,
            "address": address,
        }
        if options.unit is not None:
            body["unit"] = options.unit
        yield call(options.server, "POST", _ENROLMENTS, body)["codes"]


def _show(row: Row) -> None:
    code = row["code"]
    who = printable(row["name"]) or "whoever comes"
    print(f"a code for {who}, good once, for {duration(row['expires_in_s'])}:")
    print(f"\n  {code}\n")
    drawn = io.StringIO()
    segno.make(code, error="l", micro=False).terminal(drawn, border=2, compact=True)
    print(drawn.getvalue())
    print(f"at the loudspeaker:  loa speaker --enrol {code}")
    if not row["name"]:
        print("then:  loa enrol list  and  loa enrol approve KEY --name NAME")


def _warn(made: list[Row], *, given: bool) -> None:
    replaced = [row["name"] for row in made if row["replaces"]]
    if replaced:
        few = ", ".join(replaced[:5]) + (" and others" if len(replaced) > 5 else "")
        complain("loa enrol", f"{few}: enrolled already; whoever uses the code takes that place")
    server = EnrolmentCode.parse(made[0]["code"]).server
    if not given and server.is_here:
        complain(
            "loa enrol",
            f"a loudspeaker on another machine does not find the station at {server.host}: "
            "say where it is with --address HOST[:PORT]",
        )


# ------------------------------------------------------------------ what there is
def _list(options: argparse.Namespace) -> int:
    codes, waiting = rows(options.server, _ENROLMENTS), rows(options.server, _PENDING)
    if options.json:
        show_json({"codes": codes, "pending": waiting})
        return OK
    if waiting:
        print("loudspeakers that wait to be approved:")
        show_table(_WAITING, waiting)
        print()
    if codes:
        print("codes that nobody has used:")
        show_table(_CODES, codes)
    else:
        print("no code is outstanding")
    return OK


def _approve(options: argparse.Namespace) -> int:
    body = {"name": options.name}
    if options.unit is not None:
        body["unit"] = options.unit
    path = f"{path_of(_PENDING, options.key)}/approve"
    answer = call(options.server, "POST", path, body)
    if options.json:
        show_json(answer)
    else:
        print(f"loudspeaker {printable(answer['name'])} enrolled")
    return OK


def _refuse(options: argparse.Namespace) -> int:
    show_json(call(options.server, "DELETE", path_of(_PENDING, options.key)))
    if not options.json:
        print("it was sent away, and its code is none any more")
    return OK


def _cancel(options: argparse.Namespace) -> int:
    which = spelt_alike(options.which)
    codes = rows(options.server, _ENROLMENTS)
    numbers = [row["number"] for row in codes if row["name"] == which]
    if not numbers and _NUMBER.fullmatch(which):
        numbers = [which]
    if not numbers:
        names = sorted(row["name"] or row["number"] for row in codes)
        there = f"there are {listed(names, 5)}" if names else "there is none"
        raise ApiError(f"no code for {which!r} is outstanding: {there}")
    for number in numbers:
        show_json(call(options.server, "DELETE", path_of(_ENROLMENTS, number)))
    if not options.json:
        print(f"the code for {printable(which)} is none any more")
    return OK
