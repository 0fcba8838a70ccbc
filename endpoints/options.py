"""The options of `loa speaker`, and whether they make sense."""

import argparse
import ipaddress
import os
import platform
from pathlib import Path

from endpoints.station.store import default_path
from transport.control.delivery import DELIVERIES

NO_NAME = "speaker"
_CARDS = frozenset({"device", "pulse"})
# Less holds no voice, with its headers; more is no limit of any loudspeaker.
_LEAST_KBPS, _MOST_KBPS = 8, 1_000_000


class UsageError(Exception):
    """An option that cannot be used; one line."""


def parser() -> argparse.ArgumentParser:
    """All that can be said to it."""
    made = argparse.ArgumentParser(prog="loa speaker", description="Be a loudspeaker.")
    made.add_argument(
        "--enrol",
        metavar="CODE|FILE|-",
        help="become a loudspeaker of the station that gave this code; other users of this machine "
        "see what is typed here, but not the first line of a FILE or of standard input (-)",
    )
    made.add_argument(
        "--state",
        metavar="FILE",
        type=Path,
        help="where it keeps its key, its name and its station "
        f"({default_path(os.environ, is_root=os.geteuid() == 0)})",
    )
    made.add_argument(
        "--server",
        metavar="HOST[:PORT]",
        help="where the station is (where it was last, or where it answers on this network)",
    )
    made.add_argument(
        "--name",
        help="what it would like to be called, where the code says no name "
        f"({platform.node() or NO_NAME})",
    )
    made.add_argument(
        "--output",
        metavar="pulse[:SINK]|device[:NAME]|wav:FILE|pipe|null",
        help="a card of PulseAudio's or PipeWire's, a sound card through PortAudio (device:? "
        "lists them), a recording, raw s16le 48 kHz mono on standard "
        "output, or nothing",
    )
    made.add_argument(
        "--delivery",
        choices=tuple(DELIVERIES),
        default="lan",
        help="the network it is on, which decides D (%(default)s)",
    )
    made.add_argument(
        "--multicast", action="store_true", help="where the network carries it: lan and wifi"
    )
    made.add_argument("--interface", help="IPv4 address to join multicast groups on")
    made.add_argument(
        "--no-discovery", action="store_true", help="do not let others find this loudspeaker"
    )
    made.add_argument(
        "--buffer-ms",
        type=float,
        help="how far ahead the output is filled; must be well below D (10; 5 for a sound card, "
        "which keeps as much again)",
    )
    made.add_argument(
        "--max-kbps",
        metavar="N",
        help="where each byte is paid for, as by a metered SIM: ask for what was lost only as far "
        "as no second brings more than so many kilobits, headers included",
    )
    made.add_argument(
        "--simulate",
        default="{}",
        metavar="JSON",
        help="a wrong clock and crystal, for tests",
    )
    return made


def check(options: argparse.Namespace) -> None:
    """UsageError; `max_kbps` is a number afterwards."""
    if options.interface is not None and not _is_address(options.interface):
        raise UsageError(f"--interface {options.interface}: use an IPv4 address of this machine")
    if options.buffer_ms is not None and not 2 <= options.buffer_ms <= 1000:
        raise UsageError(f"--buffer-ms {options.buffer_ms}: use 2 to 1000")
    if options.output is not None:
        _check_output(options.output)
    if options.max_kbps is not None:
        options.max_kbps = _kbps(options.max_kbps)


def _check_output(text: str) -> None:
    kind, _, rest = text.partition(":")
    if text not in {"pipe", "null"} and kind not in _CARDS and not (kind == "wav" and rest):
        raise UsageError(f"--output {text}: use pulse[:SINK], device[:NAME], wav:FILE, pipe, null")


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _kbps(text: str) -> int:
    if not (
        len(text) < 9
        and text.isascii()
        and text.isdigit()
        and _LEAST_KBPS <= int(text) <= _MOST_KBPS
    ):
        raise UsageError(
            f"--max-kbps {text}: use a whole number of kilobits a second, "
            f"{_LEAST_KBPS} to {_MOST_KBPS}"
        )
    return int(text)
