"""How figures and names are written for people. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

NOTHING = "-"
_STEPS = ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"))


def printable(text: object) -> str:
    """A text that a stranger may have chosen, without what would command a terminal."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def listed(names: Sequence[str], most: int = 20) -> str:
    """`a, b, c and 7 more`."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def counted(number: int, what: str) -> str:
    """`1 loudspeaker`, `2 loudspeakers`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """`3 s`, `12 min`, `5 h` or `9 d`."""
    if seconds is None:
        return NOTHING
    for below, unit_s, unit in _STEPS:
        if seconds < below:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def share(fraction: float) -> str:
    """In percent, as finely as it matters."""
    if fraction == 0:
        return "0 %"
    return "<0.1 %" if fraction < 0.001 else f"{fraction * 100:.1f} %"


def microseconds(value: float) -> str:
    """`12 µs`, or milliseconds from one on."""
    return f"{value:.0f} µs" if abs(value) < 1000 else f"{value / 1000:.1f} ms"


def level(dbfs: float | None) -> str:
    """In dBFS."""
    return NOTHING if dbfs is None else f"{dbfs:.1f} dBFS"


def meter(dbfs: float | None, width: int = 20) -> str:
    """A bar from -60 to 0 dBFS."""
    value = -60.0 if dbfs is None else max(-60.0, min(0.0, dbfs))
    filled = round((value + 60) / 60 * width)
    return "█" * filled + "·" * (width - filled)


def moment(utc_s: int | None) -> str:
    """An instant, in the time of this machine."""
    if utc_s is None:
        return NOTHING
    return datetime.fromtimestamp(utc_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def standing(row: dict[str, Any]) -> str:
    """What everybody should know of a zone or a programme: `unauthenticated, test`."""
    marks = {
        "unauthenticated": not row.get("authenticated", True),
        "test": row.get("test", False),
    }
    return ", ".join(mark for mark, holds in marks.items() if holds)


def audience(row: dict[str, Any]) -> str:
    """Whom a request is meant for: `market, zone North`."""
    return listed([*row["to"], *(f"zone {zone}" for zone in row["zones"])], 4)
