"""`loa tone`, `loa identify` and `loa restart`: what loudspeakers do once, now."""

import argparse
from typing import Any

from server.cli.api import FAILED, OK, add_target, complain, parser, run, target
from server.cli.table import show_json
from server.cli.text import listed, printable
from server.remote import call
from transport.control.messages import MAX_TONE_S


def tone(argv: list[str]) -> int:
    """Sound a test tone."""
    made = parser("tone", "Sound a test tone, 1 kHz at -20 dBFS, where no programme is heard.")
    add_target(made)
    made.add_argument(
        "--seconds", type=_seconds, default=2.0, help=f"at most {MAX_TONE_S:g} (%(default)g)"
    )
    return run(made, argv, lambda options: _do("tone", options, {"seconds": options.seconds}))


def identify(argv: list[str]) -> int:
    """Find out which is which."""
    made = parser("identify", "Have loudspeakers beep three times.")
    add_target(made)
    return run(made, argv, lambda options: _do("identify", options, {}))


def restart(argv: list[str]) -> int:
    """Have loudspeakers begin anew."""
    made = parser("restart", "Have loudspeakers begin anew, as if they had been started now.")
    add_target(made)
    return run(made, argv, lambda options: _do("restart", options, {}))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_TONE_S:
        raise argparse.ArgumentTypeError(f"{text!r}: use more than 0, at most {MAX_TONE_S:g}")
    return seconds


def _do(verb: str, options: argparse.Namespace, more: dict[str, Any]) -> int:
    answer = call(options.server, "POST", f"/api/v1/{verb}", {**target(options), **more})
    done, failed = answer["done"], answer["failed"]
    if options.json:
        show_json(answer)
        return FAILED if failed else OK
    if done:
        print(f"{verb}: {printable(listed(done))}")
    if not done and not failed:
        print("nobody is in there")
    # A commune without power is one line, not a thousand.
    reasons: dict[str, list[str]] = {}
    for name, why in failed.items():
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        complain(f"loa {verb}", f"not {listed(names)}: {why}")
    return FAILED if failed else OK
