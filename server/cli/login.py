"""`loa login` and `loa logout`: be somebody at a station, until that is over."""

import argparse
import datetime as dt
import getpass
import os
import sys
from contextlib import suppress
from typing import Any

from server.cli.api import OK, UsageError, parser, run
from server.cli.secret import PASSWORD, new_password, typed
from server.cli.table import show_json
from server.cli.text import printable
from server.keys.tls import Trust
from server.remote import (
    ApiError,
    Credentials,
    call,
    find_trust,
    path_of,
    signed_in_at,
)
from server.signed_in import Kept, SignedIn, SignedInError, file_of
from transport.control.address import StationAddress
from transport.control.messages import spelt_alike

_LOGIN = "/api/v1/login"
_CODES = "one-time codes"


def login(argv: list[str]) -> int:
    """Sign in."""
    made = parser("login", "Sign in at a station; all commands are then this user's.")
    made.add_argument("name", nargs="?", metavar="NAME", help="who you are there")
    made.add_argument("--code", help="a one-time code, if you use them (it is asked for)")
    return run(made, argv, _login)


def logout(argv: list[str]) -> int:
    """Sign out."""
    made = parser("logout", "End the session at a station, there and here.")
    return run(made, argv, _logout)


def _kept() -> SignedIn:
    path = file_of(os.environ)
    if path is None:
        raise UsageError("this user has no home to keep a session in: set XDG_CONFIG_HOME")
    return SignedIn(path)


def _login(options: argparse.Namespace) -> int:
    kept, trust = _kept(), find_trust(os.environ)
    name = spelt_alike(options.name or _ask_name())
    wanted: dict[str, Any] = {"name": name, "password": typed(f"password of {name}: ", PASSWORD)}
    stranger = Credentials("", trust)
    answer = _sign_in(options, wanted, stranger)
    _end_former(options)
    known = None if trust.pin is None else trust.pin.hex()
    mine = Credentials(answer["session"], trust)
    try:
        kept.keep(_address(options), Kept(answer["session"], name, known))
    except SignedInError as error:
        call(options.server, "DELETE", _LOGIN, credentials=mine)
        raise ApiError(str(error)) from None
    if answer["must_choose_password"]:
        print("this password was given to you by another: choose one of your own")
        path = f"{path_of('/api/v1/users', name)}/password"
        call(options.server, "PUT", path, {"password": new_password(name)}, 30.0, mine)
    if options.json:
        show_json({key: value for key, value in answer.items() if key != "session"})
    else:
        until = dt.datetime.fromtimestamp(answer["expires"]).astimezone()
        print(f"{printable(name)} is signed in at {_address(options)} until {until:%H:%M %Z}")
    return OK


def _end_former(options: argparse.Namespace) -> None:
    """Whoever was signed in here has another session now, or is another."""
    with suppress(ApiError):
        former = signed_in_at(os.environ, _address(options))
        if former is not None:
            credentials = Credentials(former.session, _trust_of(former))
            call(options.server, "DELETE", _LOGIN, credentials=credentials)


def _trust_of(kept: Kept) -> Trust:
    return Trust(None if kept.fingerprint is None else bytes.fromhex(kept.fingerprint))


def _sign_in(
    options: argparse.Namespace, wanted: dict[str, Any], stranger: Credentials
) -> dict[str, Any]:
    code = options.code
    try:
        answer: dict[str, Any] = call(
            options.server, "POST", _LOGIN, {**wanted, "code": code}, 30.0, stranger
        )
    except ApiError as error:
        if code is not None or _CODES not in str(error) or not sys.stdin.isatty():
            raise
        code = getpass.getpass("one-time code: ")
        return call(options.server, "POST", _LOGIN, {**wanted, "code": code}, 30.0, stranger)  # type: ignore[no-any-return]
    return answer


def _ask_name() -> str:
    if not sys.stdin.isatty():
        raise UsageError("who signs in? loa login NAME")
    try:
        return input("name: ").strip()
    except EOFError:
        raise UsageError("no name was given") from None


def _address(options: argparse.Namespace) -> str:
    return StationAddress.parse(options.server).text


def _logout(options: argparse.Namespace) -> int:
    address = _address(options)
    kept = signed_in_at(os.environ, address)
    if kept is None:
        raise UsageError(f"nobody is signed in at {address}")
    try:
        _kept().forget(address)
    except SignedInError as error:
        raise ApiError(str(error)) from None
    try:
        credentials = Credentials(kept.session, _trust_of(kept))
        call(options.server, "DELETE", _LOGIN, credentials=credentials)
    except ApiError as error:
        print(f"{printable(kept.name)} is signed out here; the station: {printable(str(error))}")
        return OK
    print(f"{printable(kept.name)} is signed out at {address}")
    return OK
