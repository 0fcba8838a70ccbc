"""A row of the audit log, and the hash that chains it to all before it. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from server.audit.details import MAX_DETAILS_BYTES, canonical, clean
from transport.transcript import transcript

HASH_BYTES: Final = 32
# What a row says where the station has another root from there on, `{"root": hexadecimal}`.
ROOTED: Final = "log.root"
# Where rows before were cut off, for their time was over: `{"up_to": the last of them}`.
CUT: Final = "log.cut"
# Where a back-up was put back, `{"made_at": UTC seconds}`: rows written since then are not there.
RESTORED: Final = "database.restore"
_GENESIS_DOMAIN, _ROW_DOMAIN = "loa.audit-genesis.1", "loa.audit-row.1"
_NS_PER_SECOND = 1_000_000_000
# What `clean` may make of so many characters: each its code, and how many there were more.
_WHO, _WHERE, _WHAT, _WHY, _OUTCOME = 128, 64, 64, 256, 128
_WORST = len("\\u{10ffff}")
_MORE = 32


@dataclass(frozen=True, slots=True)
class Entry:
    """What happened, before it has its place in the chain; `of` makes one of any texts.

    `at_ns` is nanoseconds since 1970 (UTC). `who` is a user, `token`, `loudspeaker NAME` or
    `station`, and empty where nobody is known; `where` the address it was asked from, empty for
    this machine's own doing. `what` is a verb such as `zone.put`, `on` canonical JSON, `outcome`
    `done`, or what became of it. ValueError for what no row may hold.
    """

    at_ns: int
    who: str
    where: str
    what: str
    on: str = "{}"
    why: str = ""
    outcome: str = "done"

    def __post_init__(self) -> None:
        if not 0 <= self.at_ns < 1 << 63:
            raise ValueError("a row's time is nanoseconds since 1970, of 63 bits")
        bounds = (
            (self.who, _WHO),
            (self.where, _WHERE),
            (self.what, _WHAT),
            (self.why, _WHY),
            (self.outcome, _OUTCOME),
        )
        if any(
            len(text) > most * _WORST + _MORE or not text.isprintable() for text, most in bounds
        ):
            raise ValueError("a row's texts are short lines: make it with `Entry.of`")
        if len(self.on.encode()) > MAX_DETAILS_BYTES or not self.on.isprintable():
            raise ValueError("a row's details are bounded: make it with `Entry.of`")

    @classmethod
    def of(
        cls,
        at_ns: int,
        who: str,
        where: str,
        what: str,
        on: Mapping[str, Any] | None = None,
        why: str = "",
        outcome: str = "done",
    ) -> Self:
        """One that may be kept, whatever a stranger has chosen of it."""
        return cls(
            at_ns=max(0, at_ns),
            who=clean(who, _WHO),
            where=clean(where, _WHERE),
            what=clean(what, _WHAT),
            on=canonical(on or {}),
            why=clean(why, _WHY),
            outcome=clean(outcome, _OUTCOME),
        )

    def texts(self) -> tuple[str, ...]:
        """Its parts as they are hashed and exported, behind the row's number."""
        at = instant(self.at_ns)
        return at, self.who, self.where, self.what, self.on, self.why, self.outcome


@dataclass(frozen=True, slots=True)
class Row:
    """What stands in the log, or in an export of it, as the `seq`th, from 1 on.

    `texts` as `Entry.texts` has them; `hash` is of them and of all rows before. Nothing of it is
    checked: somebody may have changed it.
    """

    seq: int
    texts: tuple[str, ...]
    hash: bytes


@dataclass(frozen=True, slots=True)
class Tail:
    """How far a chain goes: the number of its last row, 0 if there is none, and its hash."""

    seq: int
    hash: bytes

    @classmethod
    def genesis(cls, root: bytes) -> Self:
        """Of a log that has no row yet, of the station whose root key this is (32 bytes)."""
        return cls(0, genesis_hash(root))

    def append(self, entry: Entry) -> Row:
        """The row that follows."""
        seq, texts = self.seq + 1, entry.texts()
        return Row(seq, texts, row_hash(self.hash, seq, texts))

    @classmethod
    def of(cls, row: Row) -> Self:
        """Of a chain whose last row this is."""
        return cls(row.seq, row.hash)


def genesis_hash(root: bytes) -> bytes:
    """What stands for the row before the first: no two stations' chains begin alike."""
    return hashlib.sha256(transcript(_GENESIS_DOMAIN, root)).digest()


def row_hash(previous: bytes, seq: int, texts: tuple[str, ...]) -> bytes:
    """SHA-256 of the hash before, the row's number in decimal digits, and its texts in UTF-8."""
    parts = [text.encode() for text in (str(seq), *texts)]
    return hashlib.sha256(transcript(_ROW_DOMAIN, previous, *parts)).digest()


def instant(ns: int) -> str:
    """An instant as rows have it: RFC 3339 in UTC, with exactly nine decimals."""
    seconds, rest = divmod(ns, _NS_PER_SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
