"""Passwords, asked for on a terminal, unseen; or taken from the environment."""

import getpass
import os
import sys

from server.cli.api import UsageError
from server.users.errors import UserError
from server.users.passwords import check_password, drawn_password

PASSWORD = "LOA_PASSWORD"  # noqa: S105 - a variable's name
NEW_PASSWORD = "LOA_NEW_PASSWORD"  # noqa: S105 - likewise


def typed(question: str, variable: str) -> str:
    """What the environment says, or somebody types; UsageError if there is nobody to ask."""
    if given := os.environ.get(variable):
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"there is no terminal to ask on: set {variable}")
    try:
        return getpass.getpass(question)
    except EOFError:
        raise UsageError("no password was given") from None


def new_password(name: str) -> str:
    """A password for one's own use, typed twice; UsageError if it can be none."""
    password = _checked(typed(f"new password for {name}: ", NEW_PASSWORD), name)
    if not os.environ.get(NEW_PASSWORD) and password != typed("again: ", NEW_PASSWORD):
        raise UsageError("these were two different passwords")
    return password


def first_password(name: str) -> tuple[str, bool]:
    """A password for another, who will choose his own; and whether it was drawn here."""
    if not os.environ.get(NEW_PASSWORD) and not sys.stdin.isatty():
        return drawn_password(), True
    password = typed(f"first password for {name} (nothing: draw one): ", NEW_PASSWORD)
    return (_checked(password, name), False) if password else (drawn_password(), True)


def _checked(password: str, name: str) -> str:
    try:
        return check_password(password, name)
    except UserError as error:
        raise UsageError(str(error)) from None
