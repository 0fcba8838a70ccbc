"""Places and trims as people type them, and `loa speakers delay`."""

import argparse
from typing import Any

from server.cli.api import OK, UsageError, add_target, add_verb, target
from server.cli.table import Column, field, show_json, show_table
from server.cli.text import NOTHING, counted
from server.remote import call
from transport.control.messages import MAX_TRIM_US

_PLACES = ("--position", "--from")
_COLUMNS = (
    field("name"),
    Column("distance", lambda row: f"{row['distance_m']:.1f} m", right=True),
    Column("trim now", lambda row: trimmed(row["before_us"]), right=True),
    Column("trim by distance", lambda row: trimmed(row["trim_us"]), right=True),
)


def places_joined(argv: list[str]) -> list[str]:
    """South of the equator a place begins as an option does."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] in _PLACES:
            words[-1] = f"{words[-1]}={word}"
        else:
            words.append(word)
    return words


def place(option: str, text: str) -> dict[str, float]:
    """A place as the API wants it; UsageError if it is none."""
    latitude, _, longitude = text.partition(",")
    try:
        found = {"latitude": float(latitude), "longitude": float(longitude)}
    except ValueError:
        raise UsageError(f"{option} {text}: use LAT,LON in degrees, as 21.03,105.85") from None
    if abs(found["latitude"]) > 90 >= abs(found["longitude"]):
        raise UsageError(f"{option} {text}: latitude comes first, as in {longitude},{latitude}")
    return found


def trim(text: str) -> int:
    """A trim in microseconds, for argparse."""
    try:
        trim_us = int(text)
    except ValueError:
        trim_us = MAX_TRIM_US + 1
    if abs(trim_us) > MAX_TRIM_US:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no trim: use -{MAX_TRIM_US} to {MAX_TRIM_US} microseconds"
        )
    return trim_us


def trimmed(trim_us: int) -> str:
    """A trim as it is shown, exactly: `+1200 µs`."""
    return f"{trim_us:+d} µs" if trim_us else NOTHING


def add_delay(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The verb."""
    verb = add_verb(verbs, "delay", "trim a street's loudspeakers by the way of the sound", _delay)
    add_target(verb)
    verb.add_argument(
        "--from",
        dest="origin",
        required=True,
        metavar="LAT,LON",
        help="where the sound begins: each loudspeaker waits until it has come from there",
    )
    verb.add_argument(
        "--temperature",
        type=float,
        default=20.0,
        metavar="C",
        help="of the air, for the speed of sound (%(default)g)",
    )
    verb.add_argument(
        "--store", action="store_true", help="keep these trims, instead of what they are now"
    )


def _delay(options: argparse.Namespace) -> int:
    body: dict[str, Any] = {
        **target(options),
        "origin": place("--from", options.origin),
        "temperature_c": options.temperature,
        "store": options.store,
    }
    answer = call(options.server, "POST", "/api/v1/trim/distance", body)
    if options.json:
        show_json(answer)
        return OK
    if not answer["trims"]:
        print("nobody is in there")
        return OK
    show_table(_COLUMNS, answer["trims"])
    number = counted(len(answer["trims"]), "loudspeaker")
    print(f"{number} trimmed" if answer["stored"] else "nothing was changed: --store keeps these")
    return OK
