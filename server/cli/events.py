"""`loa events`: what changes at a station, as it does."""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from server.changes.log import Kind
from server.changes.wire import RESET, Event, NotEventsError, read_events
from server.cli.api import OK, complain, parser, run
from server.cli.text import printable
from server.remote import ApiError, download, not_a_station
from transport.control.address import StationAddress

# A station that is begun again is there again by then.
_PATIENCE_S, _PAUSE_S = 30.0, 1.0


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "events",
        "What changes of what you see, a line for each, as it happens. Ctrl-C ends it. After a "
        "break it goes on where it was; `reset` says that something may have been missed.",
    )
    made.add_argument(
        "--kinds", nargs="+", choices=list(Kind), metavar="KIND", help=f"of {', '.join(Kind)}"
    )
    return made


def main(argv: list[str]) -> int:
    """Print until Ctrl-C, or until the station is gone for good."""
    return run(_parser(), argv, _events)


def _events(options: argparse.Namespace) -> int:
    with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends
        for event in _follow(options.server, options.kinds or ()):
            line = _as_json(event) if options.json else shown(event)
            print(line, flush=True)
    return OK


def _follow(server: str, kinds: Iterable[str]) -> Iterator[Event]:
    """The events, over breaks; ApiError if there are none any more."""
    last, left_s = "", 0.0
    while True:
        try:
            for event in _read(server, kinds, last):
                last, left_s = event.id, _PATIENCE_S
                yield event
            why = "the station has ended the stream"
        except ApiError as error:
            why = str(error)
        if left_s <= 0:
            raise ApiError(why)
        if left_s == _PATIENCE_S:
            complain("loa events", f"{why}; trying again")
        left_s -= _PAUSE_S
        time.sleep(_PAUSE_S)


def _read(server: str, kinds: Iterable[str], last: str) -> Iterator[Event]:
    asked = {"kinds": ",".join(kinds), "last": last}
    query = urlencode({name: value for name, value in asked.items() if value})
    try:
        yield from read_events(download(server, f"/api/v1/events?{query}"))
    except (NotEventsError, UnicodeDecodeError):
        raise not_a_station(StationAddress.parse(server)) from None


def _as_json(event: Event) -> str:
    """An event in one line of JSON."""
    told = {"id": event.id, "event": event.kind, **_told(event)}
    return json.dumps(told, ensure_ascii=False)


def _told(event: Event) -> dict[str, Any]:
    try:
        told = json.loads(event.data)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise ApiError("the station's answer is not understood: an event without an object")
    return told


def shown(event: Event) -> str:
    """An event in one line for a person."""
    told = _told(event)
    if event.kind == RESET:
        return "reset: what was before is not told"
    row = told["row"] if isinstance(told["row"], dict) else {}
    more = row.get("fault") or row.get("state") or ""
    line = f"{told['at']}  {event.kind:<9}  {told['name']}  {told['what']}"
    return printable(f"{line}: {more}" if more and more != told["what"] else line)
