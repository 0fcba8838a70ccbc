"""One look at a station, as `loa top` shows it: lines and how they look. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from server.cli.programmes import ON_AIR
from server.cli.speakers import COLUMNS, is_offline
from server.cli.table import Column, Row, lines_of
from server.cli.text import meter, printable
from transport.clock.timeline import NS_PER_SECOND

Line = tuple[str, str]
"""A text and its style."""

# Of what is lost most is made good: only what is not is heard.
_MISSING = 0.001
_FAULT_LENGTH = 40


@dataclass(frozen=True, slots=True)
class Look:
    """What the station said at `at_ns` of this machine's clock."""

    at_ns: int
    station: dict[str, Any]
    programmes: list[Row]
    speakers: list[Row]


def _choose(columns: Sequence[Column], titles: str) -> tuple[Column, ...]:
    by_title = {column.title: column for column in columns}
    return tuple(by_title[title] for title in titles.split(", "))


_METER = Column("", lambda row: meter(row["level_dbfs"]))
_FAULT = Column("fault", lambda row: row["fault"][:_FAULT_LENGTH])
_PROGRAMMES = (
    *_choose(ON_AIR, "name, priority, to, state, note, for"),
    _METER,
    *_choose(ON_AIR, "level, D, copies ms, speakers, interrupted at, not in step"),
)
_SPEAKERS = (
    *_choose(COLUMNS, "name, state"),
    _FAULT,
    *_choose(COLUMNS, "in step, loss, missed, sync error, step error"),
    *_choose(COLUMNS, "level, volume, hearing, unit"),
)


def need(row: Row) -> int:
    """How much a loudspeaker needs somebody: 0 most, 4 not at all."""
    if is_offline(row):
        return 1
    if row["fault"]:
        return 0
    if row["in_step"] is False:
        return 2
    return 3 if row.get("missed", 0) >= _MISSING else 4


def draw(looks: Sequence[Look], trouble: str = "", height: int | None = None) -> list[Line]:
    """The newest of `looks`, cut to `height`; `trouble` is why there is none newer."""
    lines: list[Line] = [(printable(trouble), "bold red")] if trouble else []
    if not looks:
        return lines
    look = looks[-1]
    lines += [(_station(look), "bold"), (_senders(look, rate(looks)), ""), ("", "")]
    if look.programmes:
        most = None if height is None else max(height // 3 - 2, 1)
        lines += _cut(_PROGRAMMES, look.programmes, ["" for _ in look.programmes], most, "on air")
    else:
        lines.append(("nothing is on air", ""))
    lines.append(("", ""))
    speakers = sorted(look.speakers, key=lambda row: (need(row), row["name"]))
    styles = [("yellow", "red", "yellow", "yellow", "")[need(row)] for row in speakers]
    most = None if height is None else max(height - len(lines) - 1, 1)
    return lines + _cut(_SPEAKERS, speakers, styles, most, "loudspeakers")


def rate(looks: Sequence[Look]) -> float | None:
    """Datagrams a second between the first and the last; None where that cannot be said."""
    if len(looks) < 2:
        return None
    first, last = (look.station["sender"].get("datagrams") for look in (looks[0], looks[-1]))
    seconds = (looks[-1].at_ns - looks[0].at_ns) / NS_PER_SECOND
    if first is None or last is None or last < first or seconds <= 0:
        return None  # the sender has been born again in between
    return float((last - first) / seconds)


def _station(look: Look) -> str:
    station = look.station
    figures = (
        printable(station["name"]),
        f"{station['online']}/{station['speakers']} online",
        f"sessions {station.get('sessions', '-')}",
    )
    return "   ".join(figures)


def _senders(look: Look, per_second: float | None) -> str:
    """What all senders together do; dashes before they have reported."""
    sender = look.station["sender"]
    total = f"datagrams {sender.get('datagrams', '-')}"
    late_ms = sender.get("late_p99_ms")
    figures = (
        total if per_second is None else f"datagrams/s {per_second:.0f}",
        f"late p99 {'-' if late_ms is None else f'{late_ms:g} ms'}",
        *(f"{what} {sender.get(what, '-')}" for what in ("queue", "stale", "overruns", "errors")),
    )
    return "   ".join(figures)


def _cut(
    columns: Sequence[Column],
    rows: Sequence[Row],
    styles: Sequence[str],
    most: int | None,
    what: str,
) -> list[Line]:
    """Titles and the first `most` lines; the last says how many rows are not shown."""
    shown = len(rows)
    if most is not None and shown > most:
        shown = most - 1
    titles, *lines = lines_of(columns, rows[:shown])
    drawn = [(titles, "bold"), *zip(lines, styles, strict=False)]
    if shown < len(rows):
        hidden = styles[shown:]
        needing = sum(style != "" for style in hidden)
        also = f", {needing} of which need attention" if needing else ""
        drawn.append((f"{len(hidden)} more {what} not shown{also}", "dim"))
    return drawn
