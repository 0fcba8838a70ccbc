"""`loa volume` and `loa mute`: how loud loudspeakers are, now and when they come back."""

import argparse
from typing import Any

from server.cli.api import OK, add_target, parser, run, target
from server.cli.table import show_json
from server.cli.text import listed, printable
from server.remote import call, rows


def volume(argv: list[str]) -> int:
    """Set how loud."""
    made = parser("volume", "Set how loud loudspeakers are, now and when they come back.")
    made.add_argument("volume", type=_percent, metavar="0-100", help="100 is unchanged")
    add_target(made)
    return run(made, argv, _set_volume)


def mute(argv: list[str]) -> int:
    """Silence, or end that."""
    made = parser("mute", "Silence loudspeakers, or let them be heard again.")
    add_target(made)
    made.add_argument("--off", action="store_true", help="let them be heard again")
    return run(made, argv, _set_muted)


def _percent(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no volume: use 0 to 100")
    return int(text)


def _set_volume(options: argparse.Namespace) -> int:
    body = {**target(options), "volume": options.volume}
    return _change(options, "/api/v1/volume", body, f"volume {options.volume}")


def _set_muted(options: argparse.Namespace) -> int:
    body = {**target(options), "muted": not options.off}
    return _change(options, "/api/v1/mute", body, "to be heard" if options.off else "muted")


def _change(options: argparse.Namespace, path: str, body: dict[str, Any], what: str) -> int:
    """Offline loudspeakers have not failed: the station keeps it for them."""
    answer = call(options.server, "POST", path, body)
    if options.json:
        show_json(answer)
        return OK
    changed = set(answer["changed"])
    found = [row for row in rows(options.server, "/api/v1/speakers") if row["name"] in changed]
    here = [row["name"] for row in found if row["state"] != "offline"]
    away = [row["name"] for row in found if row["state"] == "offline"]
    if here:
        print(f"{what}: {printable(listed(here))}")
    if away:
        print(f"{what} when they return, for they are offline: {printable(listed(away))}")
    if not changed:
        print("nobody is in there")
    return OK
