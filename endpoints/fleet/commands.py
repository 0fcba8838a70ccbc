"""What is said to the fleet on standard input, a line each. Pure, but for what it is done to."""

from typing import Protocol

COMMANDS = "begin, figures, hush K, wake, stall [K], unstall, quit"


class CommandError(Exception):
    """What was said is not understood; one line."""


class Commanded(Protocol):
    """What can be done to a fleet."""

    def begin(self) -> None:
        """The measured window begins."""

    def hush(self, count: int) -> None:
        """The last so many lose their power."""

    def wake(self) -> None:
        """They come back."""

    def stall(self, count: int) -> None:
        """The last so many read nothing more."""

    def unstall(self) -> None:
        """They go on."""


def obey(line: str, fleet: Commanded, count: int, stalled: int) -> str:
    """Do what `line` says to `fleet` of `count`, or CommandError; its verb.

    `stalled` is how many `stall` stalls where it does not say so. "figures" and "quit" are the
    caller's to do.
    """
    verb, *rest = line.split() or [""]
    match verb, rest:
        case (("begin" | "wake" | "unstall"), []):
            getattr(fleet, verb)()
        case "stall", []:
            fleet.stall(stalled)
        case (("hush" | "stall"), [number]):
            getattr(fleet, verb)(_whole(number, count))
        case (("figures" | "quit"), []):
            pass
        case _:
            raise CommandError(f"{line!r} is no command: use {COMMANDS}")
    return verb


def _whole(text: str, most: int) -> int:
    if not text.isdecimal() or int(text) > most:
        raise CommandError(f"{text!r} is not from 0 to {most} loudspeakers")
    return int(text)
