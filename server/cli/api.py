"""What the commands that ask a running station share: options, errors and exit statuses.

0: it was done. 1: the station refused, or something failed. 2: wrong usage.
"""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from server.cli.text import printable
from server.configuration import configure
from server.remote import ApiError
from server.settings import SettingsError
from transport.control.address import StationAddress

OK, FAILED, WRONG = 0, 1, 2
_HERE = "127.0.0.1:7460"


class UsageError(Exception):
    """Options that make no sense together, or a file that is not what it should be; one line."""


class _Parser(argparse.ArgumentParser):
    def error(  # type: ignore[explicit-override]  # typing.override is of Python 3.12
        self, message: str
    ) -> NoReturn:
        """In one line, without the usage before it."""
        sys.exit(complain(self.prog, f"{message} (see {self.prog} --help)", WRONG))


def new_parser(verb: str, description: str) -> argparse.ArgumentParser:
    """A parser for `loa VERB` whose complaints are one line."""
    return _Parser(prog=f"loa {verb}", description=description)


def parser(verb: str, description: str) -> argparse.ArgumentParser:
    """The same with --server and --json."""
    made = new_parser(verb, description)
    _add_station(made, default_station())
    return made


def default_station() -> str:
    """The station that is asked unless another is named: this machine's, at the port it has."""
    named = os.environ.get("LOA_SERVER")
    if named:
        return named
    try:
        settings = configure({}, os.environ)
    except SettingsError:
        return _HERE  # whoever starts the station is told
    everywhere = settings.bind == "0.0.0.0"  # noqa: S104 - compared with, not bound to
    return f"{'127.0.0.1' if everywhere else settings.bind}:{settings.port}"


def verbs_of(
    made: argparse.ArgumentParser,
) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    """Room for verbs below a verb, as in `loa zones add`; see `add_verb`."""
    return made.add_subparsers(metavar="VERB", title="verbs", help="(without one: the list)")


def add_verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    verb: str,
    what: str,
    act: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    """A verb below a verb, with the same --server and --json before and behind it."""
    made = verbs.add_parser(verb, help=what, description=f"{what[:1].upper()}{what[1:]}.")
    _add_station(made, argparse.SUPPRESS)
    made.set_defaults(act=act)
    return made


def _add_station(made: argparse.ArgumentParser, where: str) -> None:
    # Suppressed below a verb, where a default would undo what was said before it.
    made.add_argument(
        "--server",
        default=where,
        type=_address,
        metavar="HOST[:PORT]",
        help=f"the station ($LOA_SERVER, or {_HERE})",
    )
    made.add_argument(
        "--json",
        action="store_true",
        default=argparse.SUPPRESS if where is argparse.SUPPRESS else False,
        help="print what the station's API answered",
    )


def _address(text: str) -> str:
    try:
        return StationAddress.parse(text).text
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def how_many(text: str) -> int:
    """A number from 1 on, for `--limit`."""
    if not text.isdecimal() or not int(text[:10]) > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text[:10])


def add_target(made: argparse.ArgumentParser) -> None:
    """Whom it concerns; see `target`."""
    made.add_argument(
        "--to", nargs="+", action="extend", default=[], metavar="NAME", help="loudspeakers, or all"
    )
    made.add_argument(
        "--zone", nargs="+", action="extend", default=[], metavar="ZONE", help="whole zones"
    )


def target(options: argparse.Namespace) -> dict[str, list[str]]:
    """The same as the API wants it; UsageError if nobody is meant."""
    if not options.to and not options.zone:
        raise UsageError("to whom? name loudspeakers with --to, zones with --zone, or --to all")
    return {"to": options.to, "zones": options.zone}


def run(
    made: argparse.ArgumentParser, argv: list[str], act: Callable[[argparse.Namespace], int]
) -> int:
    """Parse and act; what goes wrong is one line. A verb below the verb acts instead of `act`."""
    made.set_defaults(act=act)
    options = made.parse_args(argv)
    try:
        status: int = options.act(options)
        return status
    except UsageError as error:
        return complain(made.prog, str(error), WRONG)
    except ApiError as error:
        return complain(made.prog, str(error), FAILED)
    except (KeyError, TypeError) as error:
        # The answer had another form than this version of the API gives.
        why = f"{type(error).__name__} {error}"
        return complain(made.prog, f"the station's answer is not understood: {why}", FAILED)


def complain(prog: str, line: str, status: int = FAILED) -> int:
    """Say what is wrong in one line; the exit status."""
    sys.stdout.flush()  # what was said before stays before it
    print(f"{prog}: {printable(line)}", file=sys.stderr)
    return status
