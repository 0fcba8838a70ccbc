"""`loa keys`: what the station proves itself with, and what an operator does."""

import argparse
import getpass
import os
import shlex
import sys
from pathlib import Path

from server.cli.api import OK, WRONG, UsageError, complain, new_parser
from server.configuration import configure
from server.data import DataError, DataFolder, default_folder
from server.keys.folder import KeyFolder, KeysError, check_passphrase
from server.keys.tls import TlsError, certificate_hash
from server.keys.token import AccessError, TokenFile
from server.remote import certificate_of
from server.settings import SettingsError
from transport.security.keys import shown_fingerprint

_PASSPHRASE = "LOA_PASSPHRASE"  # noqa: S105 - a variable's name
_SOON = "a running station takes it up within seconds"


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "keys",
        "The station's keys. The root key, which loudspeakers know it by, certifies the key it "
        "speaks with; keep a back-up of it in another place.",
    )
    _add_folder(parser, None)
    parser.set_defaults(act=_show)
    verbs = parser.add_subparsers(metavar="VERB", title="verbs", help="(without one: show)")

    def verb(name: str, what: str, act: object) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=what, description=f"{what[:1].upper()}{what[1:]}.")
        # Suppressed below a verb, where a default would undo what was said before it.
        _add_folder(made, argparse.SUPPRESS)
        made.set_defaults(act=act)
        return made

    verb("show", "say by what the station is known", _show)
    verb("create", "make what the folder of an older version has not", _create)
    verb("rotate", "speak with another key, which the root certifies", _rotate)
    backup = verb("backup", "seal the root into a file, by a passphrase", _back_up)
    backup.add_argument("file", metavar="FILE", type=Path, help="a new file, on another disk")
    backup.add_argument(
        "--take-away", action="store_true", help="then remove the root from this machine"
    )
    restore = verb("restore", "put the root back from a back-up", _restore)
    restore.add_argument("file", metavar="FILE", type=Path, help="what `loa keys backup` made")
    token = verb("token", "print the operator's token, by which programs use the API", _token)
    token.add_argument("--new", action="store_true", help="make another; this one is void then")
    return parser


def _add_folder(parser: argparse.ArgumentParser, otherwise: str | None) -> None:
    parser.add_argument(
        "--data",
        metavar="DIR",
        default=otherwise,
        help="the station's folder ($LOA_DATA, /var/lib/loa or ~/.local/share/loa)",
    )


def main(argv: list[str]) -> int:
    """Do it, or say in one line why not."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        folder = DataFolder(Path(options.data) if options.data else default_folder(os.environ))
    except DataError as error:
        return complain(parser.prog, str(error))
    try:
        folder.check()
        options.act(folder, options)
    except UsageError as error:
        return complain(parser.prog, str(error), WRONG)
    except (AccessError, DataError, KeysError, TlsError) as error:
        return complain(parser.prog, str(error))
    except OSError as error:
        return complain(parser.prog, f"{error.filename or folder.path}: {error.strerror}")
    return OK


def _keys(folder: DataFolder) -> KeyFolder:
    folder.check_secrets()
    return KeyFolder(folder.keys)


def _show(folder: DataFolder, _: argparse.Namespace) -> None:
    keys = _keys(folder)
    certificate = keys.load().certificate
    shown = certificate_of(folder, os.environ)
    away = "" if keys.has_root() else "  (taken away from this machine)"
    print(f"root         {shown_fingerprint(certificate.root)}{away}")
    print(f"generation   {certificate.generation}")
    print(f"fingerprint  {certificate_hash(shown).hex()}  (of {shown})")
    where = shlex.quote(str(folder.path))
    print("from another machine, with the station's address and what `loa keys token` prints:")
    print(f"  export LOA_SERVER=HOST:{_port(folder)}")
    print(f"  export LOA_FINGERPRINT={certificate_hash(shown).hex()}")
    print(f"  export LOA_TOKEN=...         # loa keys token --data {where}")


def _port(folder: DataFolder) -> int:
    try:
        return configure({"data": str(folder.path)}, os.environ).port
    except SettingsError as error:
        raise UsageError(str(error)) from None


def _create(folder: DataFolder, _: argparse.Namespace) -> None:
    made = folder.complete()
    if not made:
        print(f"{folder.path} has all it needs: nothing was made")
        return
    print(f"made: {', '.join(made)}")
    print(f"loudspeakers will know the station by its root key {_root(folder)}")


def _root(folder: DataFolder) -> str:
    return shown_fingerprint(_keys(folder).load().certificate.root)


def _rotate(folder: DataFolder, _: argparse.Namespace) -> None:
    generation = _keys(folder).rotate().certificate.generation
    print(f"the station's key is of generation {generation}; {_SOON}")


def _back_up(folder: DataFolder, options: argparse.Namespace) -> None:
    keys = _keys(folder)
    if options.file.exists():
        raise UsageError(f"{options.file} exists already: name a new file")
    keys.back_up(options.file, _new_passphrase(), take_away=options.take_away)
    print(f"{options.file} holds the root {_root(folder)}, sealed; it was opened again to see")
    if options.take_away:
        print("the root is no longer on this machine; before `loa keys rotate` put it back")


def _restore(folder: DataFolder, options: argparse.Namespace) -> None:
    if not options.file.exists():
        raise UsageError(f"{options.file}: no such file")
    known = folder.keys.exists()
    passphrase = check_passphrase(_typed("passphrase: "))
    certificate = KeyFolder(folder.keys).restore(options.file, passphrase).certificate
    print(f"the root {shown_fingerprint(certificate.root)} is back")
    if not known:
        print(f"the station's key is of generation {certificate.generation}")


def _token(folder: DataFolder, options: argparse.Namespace) -> None:
    file = TokenFile(folder.token)
    if options.new:
        file.renew()
        print(f"{_SOON}; the old one is then void", file=sys.stderr)
    print(file.load())


# ------------------------------------------------------------------ passphrases
def _new_passphrase() -> bytes:
    passphrase = check_passphrase(_typed("passphrase for the back-up: "))
    if not os.environ.get(_PASSPHRASE) and passphrase != check_passphrase(_typed("again: ")):
        raise UsageError("these were two different passphrases")
    return passphrase


def _typed(question: str) -> str:
    """From the environment, or as it is typed, unseen."""
    if given := os.environ.get(_PASSPHRASE):
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"there is no terminal to ask on: set {_PASSPHRASE}")
    try:
        return getpass.getpass(question)
    except EOFError:  # the terminal was closed instead of an answer
        raise UsageError("no passphrase was given") from None
