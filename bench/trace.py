"""Recorded traces: what became of each packet of a path, one line a packet, as a text file.

A line says `lost`, or the packet's delay in milliseconds, as 12 or 12.345678. What follows a `#`
is a comment; empty lines count for nothing. A line is a packet, whenever it was sent: a trace of 50
packets a second says what it was recorded for only to 50 packets a second.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LOST = "lost"
# Half a day of 250 packets a second; each is a number in memory.
MAX_PACKETS = 10_000_000
MAX_DELAY_MS = 60_000
_NS_PER_MS = 1_000_000
_DELAY = re.compile(r"\d{1,9}(\.\d{1,12})?", re.ASCII)
_MAX_SHOWN = 40


class TraceError(ValueError):
    """A trace that cannot be used; one line that names the file, the line and what to do."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What becomes of one packet after another: its delay in ns, or None where it is lost.

    At least one and at most `MAX_PACKETS` of them, none later than `MAX_DELAY_MS`: ValueError.
    """

    fates: tuple[int | None, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.fates) <= MAX_PACKETS:
            raise ValueError(f"a trace has 1 to {MAX_PACKETS} packets, not {len(self.fates)}")
        most_ns = MAX_DELAY_MS * _NS_PER_MS
        if not all(fate is None or 0 <= fate <= most_ns for fate in self.fates):
            raise ValueError(f"a delay in a trace is 0 to {MAX_DELAY_MS} ms")

    def __len__(self) -> int:
        return len(self.fates)

    @property
    def loss(self) -> float:
        """The share of packets that are lost."""
        return self.fates.count(None) / len(self.fates)


def load_trace(path: Path) -> Trace:
    """The trace in a file; TraceError if there is none, or if a line of it is none."""
    try:
        with path.open(encoding="utf-8-sig") as file:  # some editors mark what they write
            fates = tuple(_fates(path, file))
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise TraceError(
            f"{path}: this is no text: a trace has a line a packet, `lost` or a delay in ms"
        ) from None
    if not fates:
        raise TraceError(f"{path}: no packets: give a line a packet, `lost` or a delay in ms")
    return Trace(fates)


def save_trace(path: Path, fates: Trace | Sequence[int | None], about: str = "") -> None:
    """Write what `load_trace` reads back to the nanosecond; OSError if it cannot be written.

    `about` says in one line, in a comment, what was recorded. ValueError if it is no trace.
    """
    trace = fates if isinstance(fates, Trace) else Trace(tuple(fates))
    with path.open("w", encoding="utf-8") as file:
        if about:
            file.write(f"# {' '.join(about.split())}\n")
        file.writelines(f"{_spelt(fate)}\n" for fate in trace.fates)


def _fates(path: Path, lines: Iterator[str]) -> Iterator[int | None]:
    packets = 0
    for number, line in enumerate(lines, 1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        packets += 1
        if packets > MAX_PACKETS:
            raise TraceError(f"{path}, line {number}: more than {MAX_PACKETS} packets: cut it here")
        yield _fate(path, number, word)


def _fate(path: Path, number: int, word: str) -> int | None:
    if word == LOST:
        return None
    if not _DELAY.fullmatch(word):
        shown = word if len(word) <= _MAX_SHOWN else f"{word[:_MAX_SHOWN]}..."
        raise TraceError(f"{path}, line {number}: {shown!r}: write `lost` or a delay in ms")
    delay_ms = float(word)
    if delay_ms > MAX_DELAY_MS:
        raise TraceError(
            f"{path}, line {number}: {word} ms is more than {MAX_DELAY_MS}: write `lost`"
        )
    return round(delay_ms * _NS_PER_MS)


def _spelt(fate: int | None) -> str:
    if fate is None:
        return LOST
    whole, part = divmod(fate, _NS_PER_MS)
    return f"{whole}.{part:06d}".rstrip("0").rstrip(".")
