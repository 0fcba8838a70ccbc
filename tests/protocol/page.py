"""PROTOCOL.md and docs/vectors.json as their readers find them; nothing of our code."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "PROTOCOL.md").read_text()


@dataclass(frozen=True)
class Vector:
    """One row of docs/vectors.json."""

    name: str
    kind: str
    direction: str
    use: str
    meaning: Any
    hex: str

    @property
    def data(self) -> bytes:
        return bytes.fromhex(self.hex)


VECTORS = {
    row["name"]: Vector(**row) for row in json.loads((ROOT / "docs" / "vectors.json").read_text())
}


def of(*uses: str, kind: str = "") -> pytest.MarkDecorator:
    """A parameter for each vector of these uses."""
    wanted = [v for v in VECTORS.values() if v.use in uses and kind in {"", v.kind}]
    assert wanted
    return pytest.mark.parametrize("vector", wanted, ids=lambda v: v.name)


# ---------------------------------------------------------------- tables
class Field(NamedTuple):
    """One row of a message's table."""

    name: str
    type: str
    limits: str
    default: str

    @property
    def span(self) -> tuple[float, float] | None:
        """The least and the greatest number it may be, or items it may have."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?) to (\d+)(?: items)?", self.limits)
        return (float(found[1]), float(found[2])) if found and self.type != "str" else None

    @property
    def size(self) -> int | None:
        """How many bytes it has."""
        found = re.fullmatch(r"(\d+) bytes", self.limits)
        return int(found[1]) if found else None


def between(start: str, end: str) -> str:
    assert PAGE.count(start) == 1, start
    return PAGE.partition(start)[2].partition(end)[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of the first table's rows, its heading left out."""
    begun = 0
    for line in text.splitlines():
        if not line.startswith("|") and begun:
            return
        if line.startswith("|"):
            begun += 1
            if begun > 2:
                yield [cell.strip() for cell in line.strip("|").split("|")]


def table(*headings: str) -> Iterator[list[str]]:
    """The rows of the one table whose first headings these are."""
    head = "\n" + "".join(f"| {heading} " for heading in headings) + "|"
    return rows(head + between(head, "\n\n"))


def _messages(section: str) -> dict[str, list[Field]]:
    parts = re.split(r"^#### (\w+)$", section, flags=re.MULTILINE)[1:]
    return {
        name: [Field(f.strip("`"), kind, limits, default) for f, kind, _, limits, default in found]
        for name, found in zip(parts[::2], map(rows, parts[1::2]), strict=True)
    }


TABLES = {
    "to station": _messages(between("### 2.3 From the loudspeaker\n", "\n### ")),
    "to loudspeaker": _messages(between("### 2.4 From the station\n", "\n### ")),
}
RECORDS = TABLES["to station"] | TABLES["to loudspeaker"]
# What lies within a message, and is none itself.
PARTS = {"StreamSpec", "SealSpec", "EpochSpec", "Lateness"}

# ---------------------------------------------------------------- what the vectors take for known
_UNQUOTED = re.compile(r"`([0-9a-f]+)`")


def _hex(cell: str) -> bytes:
    found = _UNQUOTED.fullmatch(cell)
    assert found, cell
    return bytes.fromhex(found[1])


SEEDS = {who: _hex(seed) for who, seed, _ in table("key", "seed", "public key")}
PUBLIC = {who: _hex(public) for who, _, public in table("key", "seed", "public key")}
KNOWN = {what.strip("`"): _hex(value) for what, value in table("what", "known to be")}
