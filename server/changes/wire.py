"""Server-sent events as text, and back (WHATWG HTML, section 9.2). Pure."""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MEDIA_TYPE = "text/event-stream"
KEEP_ALIVE = ":\n\n"
"""A comment: so nobody between takes the connection for dead."""
RESET = "reset"
"""The kind of the event upon which a reader reads the lists anew."""
# One row of ours is 1 KB; who sends longer lines is no station.
_MOST = 1 << 20


class NotEventsError(ValueError):
    """That is no such stream, or a line of it is absurd."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `id` is the last that was given, also by an event before it."""

    id: str
    kind: str
    data: str


def written(event: Event) -> str:
    """An event as it is sent; its data is one line."""
    return f"id: {event.id}\nevent: {event.kind}\ndata: {event.data}\n\n"


def written_mark(mark: str) -> str:
    """No event, but where to go on after a break."""
    return f"id: {mark}\n\n"


def written_pause(milliseconds: int) -> str:
    """How long a reader is to wait before it comes back."""
    return f"retry: {milliseconds}\n\n"


def read_events(parts: Iterable[bytes]) -> Iterator[Event]:
    """The events of a stream, each as it comes; NotEventsError, or UnicodeDecodeError."""
    mark, kind, data = "", "", list[str]()
    for line in _lines(parts):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "" if not line:
                if data:
                    yield Event(mark, kind or "message", "\n".join(data))
                kind, data = "", []
            case "id" if "\0" not in value:
                mark = value
            case "event":
                kind = value
            case "data":
                data.append(value)
            case _:
                pass  # a comment, or what others may have


def _lines(parts: Iterable[bytes]) -> Iterator[str]:
    """Whole lines; what follows the last is none."""
    decoder, rest = codecs.getincrementaldecoder("utf-8")(), ""
    for part in parts:
        *whole, rest = (rest + decoder.decode(part)).split("\n")
        if max(map(len, (*whole, rest))) > _MOST:
            raise NotEventsError("a line is too long")
        yield from (line.removesuffix("\r") for line in whole)
