"""`loa top`: everything at a glance, for as long as somebody looks."""

import argparse
import time
from collections import deque
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from server.cli.api import OK, parser, run
from server.cli.look import Line, Look, draw
from server.cli.table import show_json
from server.remote import ApiError, call, rows
from transport.clock.timeline import NS_PER_SECOND
from transport.net.clocks import HostClock

_EVERY_S = 0.5
# Over so many looks datagrams are counted; the sender reports twice a second.
_LOOKS = 9
# The station has more to do than to be looked at: it rests for so many times what it worked.
_REST = 4
_TIMEOUT_S = 2.0


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "top",
        "The station, what is on air, and the loudspeakers, those that need attention first. "
        "Ctrl-C ends it. Where there is no terminal, one look is printed.",
    )
    made.add_argument("--once", action="store_true", help="one look, at everybody")
    return made


def main(argv: list[str]) -> int:
    """Look until Ctrl-C."""
    return run(_parser(), argv, _top)


def _top(options: argparse.Namespace) -> int:
    console = Console(highlight=False)
    clock = HostClock()
    if options.json or options.once or not console.is_terminal:
        _print_once(console, _look(options.server, clock), as_json=options.json)
        return OK
    with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
        _watch(options.server, console, clock)
    return OK


def _look(server: str, clock: HostClock) -> Look:
    """ApiError if the station is not there."""
    return Look(
        clock.now_ns(),
        call(server, "GET", "/api/v1/station", timeout_s=_TIMEOUT_S),
        rows(server, "/api/v1/programmes", _TIMEOUT_S),
        rows(server, "/api/v1/speakers", _TIMEOUT_S),
    )


def _print_once(console: Console, look: Look, *, as_json: bool) -> None:
    if as_json:
        parts = ("station", "programmes", "speakers")
        show_json({part: getattr(look, part) for part in parts})
        return
    for text, style in draw([look]):
        if console.is_terminal:
            console.print(Text(text, style), soft_wrap=True)
        else:
            print(text)


def _watch(server: str, console: Console, clock: HostClock) -> None:
    """Until Ctrl-C; a station that goes away is waited for."""
    looks: deque[Look] = deque(maxlen=_LOOKS)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            trouble, asked_ns = "", clock.now_ns()
            try:
                looks.append(_look(server, clock))
            except ApiError as error:
                trouble = f"{error}; what is below was before that" if looks else str(error)
            worked_s = (clock.now_ns() - asked_ns) / NS_PER_SECOND
            lines = draw(looks, trouble, console.size.height)
            live.update(Group(*map(_text, lines)), refresh=True)
            time.sleep(max(_EVERY_S, _REST * worked_s))


def _text(line: Line) -> Text:
    return Text(*line, no_wrap=True, overflow="ellipsis")
