"""`loa init`: make the folder that a station lives in."""

import argparse
import getpass
import os
import shlex
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from server.cli.api import UsageError
from server.configuration import configure, database_url, toml_text
from server.data import DataError, DataFolder, default_folder
from server.directory import DirectoryError, check_label
from server.errors import StationError
from server.keys.folder import KeyFolder, KeysError
from server.rights.table import Grant, Role
from server.settings import Settings, SettingsError
from server.store import StoreError
from server.users.passwords import Passwords, check_password, drawn_password
from server.users.records import User, check_user_name
from transport.security.keys import shown_fingerprint

_Answer = TypeVar("_Answer")
# Every address of this machine. Nothing is bound here; it is written for `loa serve`.
_EVERYBODY = "0.0.0.0"  # noqa: S104
_A_URL = "postgresql://loa@192.0.2.5/loa"
_TEMPLATE = """\
# The settings of a Loa station. Lines that begin with # show the defaults: remove the # to change
# one. LOA_PORT=8000 in the environment and `loa serve --port 8000` override this file.

# IP address to listen on; "0.0.0.0" is every IPv4 address of this machine, "::" IPv6 as well.
{bind}

# HTTP and control (TCP) and time (UDP); the next four ports are used too. 0: any free ports.
{port}

# IPv4 address that multicast leaves by; that of `bind` if nothing is said.
# interface = "192.0.2.1"

# Multicast: the range, the RTP port (even; RTCP is the next), how many routers it may pass.
# groups = "{defaults.groups}"
# group_port = {defaults.group_port}
# ttl = {defaults.ttl}

# Announce programmes by SAP, for players that are not Loa's.
# announce = true

# Processes that share the loudspeakers which are sent sound by UDP, each with a warm spare: more
# than one if `loa top` shows a sender that is late. Processes that hold loudspeakers' sessions: one
# or more if there are more loudspeakers than a process may have descriptors (`ulimit -Hn`).
# senders = {defaults.senders}
# halls = {defaults.halls}

# The database is a file in this folder; or one on a PostgreSQL server, which `loa init --database`
# makes ready. With a password in its URL, nobody else may read this file.
{database}

# A certificate of your own for TLS, with those that lead to its CA, and its key: PEM files that the
# station's user can read, by their whole paths. Without them the station shows the one it has made.
# tls_certificate = "/etc/ssl/loa/certificate.pem"
# tls_key = "/etc/ssl/loa/key.pem"

# Where the signed heads of the audit log are kept as well, for whoever verifies it (see AUDIT.md):
# a file on a disk of another machine, a log host or /dev/log, a URL that they are posted to.
# audit_file = "/mnt/other/heads.jsonl"
# audit_syslog = "192.0.2.6:514"
# audit_webhook = "https://log.example.org/loa"

# For how many days rows of the audit log are kept, and what is known of past programmes; 0: for
# ever.
# audit_days = {defaults.audit_days}
# programmes_days = {defaults.programmes_days}
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loa init",
        description="Make the folder that a station lives in: its settings, its database "
        "and its keys. "
        "On a terminal it asks for what is not given here.",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="DIR",
        help="a new or an empty folder ($LOA_DATA, or ~/.local/share/loa)",
    )
    parser.add_argument("--name", help="of the station (the name of this machine)")
    parser.add_argument("--bind", help="IP address to listen on (this machine alone)")
    parser.add_argument("--port", help=f"the first of five ports ({Settings().port})")
    parser.add_argument(
        "--database",
        metavar="URL",
        help="an empty one on a PostgreSQL server (a file in the folder); "
        "with a password in it, set LOA_DATABASE instead",
    )
    parser.add_argument(
        "--administrator", metavar="NAME", help="a user who administers it; a password is drawn"
    )
    parser.add_argument(
        "--password-file", metavar="FILE", type=Path, help="the first line is that password"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(asked=False)
    return parser


def main(argv: list[str]) -> int:
    """Make a station, or say in one line why not."""
    options = _parser().parse_args(argv)
    named = options.folder
    try:
        folder = DataFolder(Path(named) if named else default_folder(os.environ))
        folder.check_free()
        if sys.stdin.isatty() and not options.yes:
            _ask_missing(options)
        name = check_label("station", options.name or _machine_name())
        url = database_url(options.database, os.environ)
        configuration = _configuration(folder, options.bind, options.port, url)
        first = _administrator(options, check_label("station", name))
        folder.create(name, configuration, url, None if first is None else first.user)
    except (DataError, KeysError, SettingsError, StationError, StoreError, UsageError) as error:
        print(f"loa init: {error}", file=sys.stderr)
        return 2
    except EOFError:  # the terminal was closed instead of an answer
        print("\nloa init: nothing was made", file=sys.stderr)
        return 2
    where = shlex.quote(str(folder.path))
    print(f"{folder.path} holds the station {name!r}; its settings are in {folder.config.name}")
    print(f"loudspeakers will know it by its root key {_root(folder)}")
    print(f"keep a copy of that elsewhere: loa keys backup FILE --data {where}")
    print(f"start it: loa serve --data {where}")
    if first is not None:
        drawn = f" with the password {first.drawn}, shown this once" if first.drawn else ""
        print(f"then be its administrator: loa login {first.user.name}{drawn}")
    return 0


@dataclass(frozen=True, slots=True)
class _First:
    """The first user; `drawn` is a password that was drawn here, empty where it was chosen."""

    user: User
    drawn: str


def _administrator(options: argparse.Namespace, root: str) -> _First | None:
    """Who administers the station called `root`; UserError or UsageError for what cannot be."""
    if not options.administrator:
        if options.password_file:
            raise UsageError("whose password is in --password-file? name an --administrator")
        return None
    name = check_user_name(options.administrator)
    password, drawn = _password(options, name)
    hashed = Passwords().hashed(password)
    grants = frozenset({Grant(Role.ADMINISTRATOR, root)})
    return _First(User(name, hashed, grants, must_choose=drawn), password if drawn else "")


def _password(options: argparse.Namespace, name: str) -> tuple[str, bool]:
    """And whether it was drawn: whoever has it by the screen then chooses another."""
    if options.password_file is None:
        asked = options.asked and sys.stdin.isatty()
        password = getpass.getpass(f"password for {name} (nothing: draw one): ") if asked else ""
        if not password:
            return drawn_password(), True
        if check_password(password, name) != getpass.getpass("again: "):
            raise UsageError("these were two different passwords")
        return password, False
    try:
        lines = options.password_file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "that is no text"
        raise UsageError(f"--password-file {options.password_file}: {why}") from None
    return check_password(lines[0] if lines else "", name), False


def _root(folder: DataFolder) -> str:
    return shown_fingerprint(KeyFolder(folder.keys).load().certificate.root)


# ------------------------------------------------------------------ what is asked
def _ask_missing(options: argparse.Namespace) -> None:
    if options.name is None:
        options.name = _ask("name of the station?", _machine_name(), _as_name)
    if options.bind is None:
        reachable = _ask("may other machines reach it?", "no", _as_yes)
        options.bind = _EVERYBODY if reachable else Settings().bind
    if options.administrator is None:
        options.administrator = _ask("who administers it?", "nobody", _as_user)
        options.asked = True


def _ask(question: str, otherwise: str, read: Callable[[str], _Answer]) -> _Answer:
    """The answer as `read` has it; asked again, with the reason, while that says StationError."""
    while True:
        try:
            return read(input(f"{question} [{otherwise}] ").strip() or otherwise)
        except StationError as error:
            print(error)


def _as_name(answer: str) -> str:
    return check_label("station", answer)


def _as_user(answer: str) -> str:
    """Nothing for nobody: then the station's user on this machine does, by the operator's token."""
    return "" if answer == "nobody" else check_user_name(answer)


def _as_yes(answer: str) -> bool:
    if answer.lower() not in {"y", "yes", "n", "no"}:
        raise DirectoryError("answer yes or no")
    return answer.lower().startswith("y")


def _machine_name() -> str:
    try:
        return check_label("station", socket.gethostname().partition(".")[0])
    except DirectoryError:
        return "station"


# ------------------------------------------------------------------ what is written
def _configuration(
    folder: DataFolder, bind: str | None, port: str | None, database: str | None
) -> str:
    """The text of loa.toml; SettingsError if it would be refused."""
    given = {"data": str(folder.path), "bind": bind, "port": port, "database": database}
    settings = configure(given, {})
    defaults = Settings()
    return _TEMPLATE.format(
        bind=_line("bind", f'"{settings.bind}"', said=settings.bind != defaults.bind),
        port=_line("port", str(settings.port), said=settings.port != defaults.port),
        database=_line("database", toml_text(database or _A_URL), said=database is not None),
        defaults=defaults,
    )


def _line(setting: str, value: str, *, said: bool) -> str:
    return f"{'' if said else '# '}{setting} = {value}"
