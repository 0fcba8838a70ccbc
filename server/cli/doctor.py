"""`loa doctor`: what may be wrong with a station and its machine, and what to do."""

import argparse
import datetime as dt
import ipaddress
import json
import os
from pathlib import Path

from server.cli.api import FAILED, OK, new_parser
from server.cli.backup import add_folder
from server.cli.text import printable
from server.configuration import configure
from server.data import DataFolder
from server.doctor.examination import Asked, examine
from server.doctor.findings import Finding, Level
from server.settings import Settings, SettingsError
from transport.control.address import StationAddress


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "doctor",
        "Look for what is wrong with the station and its machine, whether it runs or not, and say "
        "in one line each what to do. Nothing is changed. Run it as the station's user. Exit "
        "status 1: something is wrong.",
    )
    add_folder(parser)
    parser.add_argument(
        "--backup", metavar="FILE", type=Path, help="the last back-up: is it whole, how old is it"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser


def main(argv: list[str]) -> int:
    """Look at everything, and tell."""
    options = _parser().parse_args(argv)
    found = _findings(options)
    if options.json:
        print(json.dumps([finding.row for finding in found], indent=2, ensure_ascii=False))
    else:
        for finding in found:
            print(printable(finding.line))
    return FAILED if any(finding.level is Level.WRONG for finding in found) else OK


def _findings(options: argparse.Namespace) -> list[Finding]:
    try:
        settings = configure({"data": options.data}, os.environ)
    except SettingsError as error:
        return [Finding("settings", Level.WRONG, str(error))]
    folder = DataFolder(settings.data or Path())
    now_s = int(dt.datetime.now(dt.UTC).timestamp())
    server = _server(settings)
    return examine(Asked(settings, folder, server, os.environ, options.backup, now_s))


def _server(settings: Settings) -> str | None:
    """Where a station of these settings answers, on this machine; None if its port is any."""
    if not settings.port:
        return None
    everywhere = ipaddress.ip_address(settings.bind).is_unspecified
    return StationAddress("127.0.0.1" if everywhere else settings.bind, settings.port).text
