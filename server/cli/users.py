"""`loa users`: who may come in, and what they may do where."""

import argparse
from typing import Any

from server.cli.api import OK, UsageError, add_verb, parser, run, verbs_of
from server.cli.secret import first_password, new_password
from server.cli.table import Column, field, show_json, show_table
from server.cli.text import printable
from server.remote import call, path_of, rows
from server.rights.table import Role
from transport.control.messages import spelt_alike

_USERS = "/api/v1/users"
_SLOW_S = 30.0  # a password takes its time, and others may be before it


def _rights(row: dict[str, Any]) -> str:
    held = [f"{grant['role']} at {grant['unit']}" for grant in row["grants"]]
    return ", ".join(held) or "none"


def _notes(row: dict[str, Any]) -> str:
    notes = {
        "disabled": row["disabled"],
        "first password": row["must_choose_password"],
        "one-time codes": row["codes"],
    }
    return ", ".join(note for note, holds in notes.items() if holds) or "-"


_COLUMNS = (field("user", "name"), Column("rights", _rights), Column("note", _notes))


def _parser() -> argparse.ArgumentParser:
    made = parser("users", "Users, and what they may do where.")
    verbs = verbs_of(made)
    add = add_verb(verbs, "add", "add a user, who chooses a password at the first login", _add)
    grant = add_verb(verbs, "grant", "give a user a role at a unit and all below it", _grant)
    withdraw = add_verb(verbs, "withdraw", "take a role at a unit from a user", _withdraw)
    disable = add_verb(verbs, "disable", "shut a user out, at once", _disable)
    enable = add_verb(verbs, "enable", "let a user in again", _enable)
    remove = add_verb(verbs, "remove", "forget a user", _remove)
    password = add_verb(verbs, "password", "your own, or a first one for another", _password)
    codes = add_verb(verbs, "codes", "one-time codes beside the password", _codes)
    for verb in (add, grant, withdraw, disable, enable, remove, password, codes):
        verb.add_argument("name", metavar="NAME")
    for verb in (grant, withdraw):
        verb.add_argument("role", choices=[*Role], metavar="ROLE", help=", ".join(Role))
        verb.add_argument("unit", nargs="?", metavar="UNIT", help="(the station's own)")
    add.add_argument(
        "--role", nargs="+", default=[], choices=[*Role], metavar="ROLE", help=", ".join(Role)
    )
    add.add_argument("--administrator", action="store_true", help="the same as that role")
    add.add_argument("--unit", metavar="UNIT", help="where (the station's own)")
    codes.add_argument("wanted", choices=["on", "off"], metavar="on|off")
    return made


def main(argv: list[str]) -> int:
    """List users, or change one."""
    return run(_parser(), argv, _list)


def _list(options: argparse.Namespace) -> int:
    users = rows(options.server, _USERS)
    if options.json:
        show_json(users)
    else:
        show_table(_COLUMNS, users)
    return OK


def _say(options: argparse.Namespace, row: dict[str, Any], done: str) -> int:
    if options.json:
        show_json(row)
    else:
        print(f"user {printable(row['name'])} {done}: {printable(_rights(row))}")
    return OK


def root_of(server: str) -> str:
    """The station's own unit, which is called as the station is."""
    return str(call(server, "GET", "/api/v1/station")["name"])


def _add(options: argparse.Namespace) -> int:
    roles = [*options.role, *([Role.ADMINISTRATOR] if options.administrator else [])]
    if not roles:
        raise UsageError("what may the user do? --role ROLE ... [--unit UNIT]")
    unit = options.unit or root_of(options.server)
    password, drawn = first_password(options.name)
    grants = [{"role": role, "unit": unit} for role in dict.fromkeys(roles)]
    wanted = {"name": options.name, "password": password, "grants": grants}
    row = call(options.server, "POST", _USERS, wanted, _SLOW_S)
    _say(options, row, "added")
    if drawn:
        print(f"first password, shown this once: {password}")
    return OK


def _grant(options: argparse.Namespace) -> int:
    return _say(options, _change_rights(options, "grants"), "has now")


def _withdraw(options: argparse.Namespace) -> int:
    return _say(options, _change_rights(options, "grants/withdraw"), "has now")


def _change_rights(options: argparse.Namespace, how: str) -> dict[str, Any]:
    wanted = {"role": options.role, "unit": options.unit or root_of(options.server)}
    row: dict[str, Any] = call(options.server, "POST", f"{_path(options)}/{how}", wanted)
    return row


def _path(options: argparse.Namespace) -> str:
    return path_of(_USERS, options.name)


def _disable(options: argparse.Namespace) -> int:
    row = call(options.server, "PATCH", _path(options), {"disabled": True})
    return _say(options, row, "is shut out, and had")


def _enable(options: argparse.Namespace) -> int:
    row = call(options.server, "PATCH", _path(options), {"disabled": False})
    return _say(options, row, "may come in again")


def _remove(options: argparse.Namespace) -> int:
    show_json(call(options.server, "DELETE", _path(options)))
    if not options.json:
        print(f"user {printable(options.name)} removed")
    return OK


def _password(options: argparse.Namespace) -> int:
    me = call(options.server, "GET", "/api/v1/login")
    own = me["kind"] == "user" and me["name"] == spelt_alike(options.name)
    password, drawn = (new_password(options.name), False) if own else first_password(options.name)
    call(options.server, "PUT", f"{_path(options)}/password", {"password": password}, _SLOW_S)
    print(f"the password of {printable(options.name)} is another")
    if drawn:
        print(f"first password, shown this once: {password}")
    return OK


def _codes(options: argparse.Namespace) -> int:
    path = f"{_path(options)}/codes"
    if options.wanted == "off":
        call(options.server, "DELETE", path)
        print(f"the password of {printable(options.name)} is enough again")
        return OK
    offered = call(options.server, "PUT", path, {})
    print(f"give this to your authenticator: {offered['secret']}")
    print(f"  {offered['uri']}")
    try:
        code = input("and the code it shows: ")
    except EOFError:
        raise UsageError("nothing was changed: no code was given") from None
    call(options.server, "PUT", path, {"code": code})
    print(f"{printable(options.name)} signs in with a code too from now on")
    return OK
