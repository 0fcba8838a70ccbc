"""Whether a log is whole and its station's, from its lines alone. Pure; needs the root's key.

What is wrong is said of the first row that shows it. Who can change rows can hash anew what
follows, but not sign: rows up to a signed head are as they were when it was signed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from server.audit.head import Head
from server.audit.lines import Beginning, LineError, parse_line
from server.audit.row import RESTORED, ROOTED, Row, Tail, instant, row_hash
from transport.clock.timeline import NS_PER_SECOND
from transport.errors import MalformedPacket
from transport.security.certificates import StationCertificate
from transport.security.keys import fingerprint


class Flaw(Exception):  # noqa: N818 - it is what was found, and no failure of ours
    """The first thing that is wrong; one line. `row` is the number of the row that it is about."""

    def __init__(self, row: int, reason: str) -> None:
        self.row = row
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Verified:
    """A log that is whole: how many rows, and by whom and when the last head was signed.

    `cut` says up to where, and when, the station itself has cut rows off the front; None if it has
    not. `anchors` agree, `anchors_cut` are of rows before that. Rows before `rooted` were signed
    under another root, for which nobody vouches but the station that wrote that row; 0 if none.
    """

    rows: int
    heads: int
    root: bytes
    generation: int
    closed_at_ns: int
    anchors: int
    cut: Head | None = None
    anchors_cut: int = 0
    rooted: int = 0


def is_anchor(head: Head, trusted: bytes) -> bool:
    """Whether a head that was found somewhere is one of the station with this fingerprint."""
    try:
        return fingerprint(head.check().root) == trusted
    except MalformedPacket:
        return False


class Verifier:
    """Takes an export line by line, then says what it is; `Flaw` as soon as something is wrong.

    `trusted` is the root's fingerprint of 16 bytes. `anchors` are heads that were kept elsewhere,
    in any order, of which `is_anchor` is true.
    """

    def __init__(self, trusted: bytes, anchors: Sequence[Head] = ()) -> None:
        self._trusted = trusted
        self._anchors = sorted(anchors, key=lambda head: head.seq, reverse=True)
        self._agreed = 0
        self._cut: Head | None = None
        self._anchors_cut = 0
        self._restored: Row | None = None
        self._rooted = 0
        # None before the first line.
        self._root: bytes | None = None
        self._tail = Tail(0, b"")
        self._signed = 0
        self._generation = 0
        self._last: Head | None = None
        self._lines = 0
        self._heads = 0

    @property
    def rows(self) -> int:
        """The number of the last row that was right."""
        return self._tail.seq

    # ------------------------------------------------------------- lines
    def feed(self, data: bytes) -> None:
        """The next line, without its end."""
        self._lines += 1
        try:
            line = parse_line(data)
        except LineError as error:
            raise self._flaw(f"line {self._lines} cannot be read: {error}") from None
        if self._root is None:
            self._begin(line)
        elif self._last is not None and self._last.kind == "closing":
            raise self._flaw(f"line {self._lines} stands behind the closing head")
        elif isinstance(line, Head) and line.kind == "cut":
            self._begin_behind(line)
        elif isinstance(line, Head):
            self._hear(line)
        elif isinstance(line, Row):
            self._follow(line)
        else:
            raise self._flaw(f"line {self._lines} begins a second log")

    def _flaw(self, reason: str) -> Flaw:
        return Flaw(self._tail.seq + 1, reason)

    def _begin(self, line: object) -> None:
        if not isinstance(line, Beginning):
            raise self._flaw("the first line does not say whose log this is")
        self._root = line.root
        self._tail = Tail.genesis(line.root)

    def _begin_behind(self, cut: Head) -> None:
        """All rows up to this one were cut off, as the station has signed."""
        if self._lines != 2 or not cut.seq:
            raise self._flaw(f"line {self._lines} cuts off rows: that can the second line alone")
        missing = f"rows 1 to {cut.seq} are missing: what says that they were cut off"
        try:
            root = cut.check().root
        except MalformedPacket:
            raise self._flaw(f"{missing} has a wrong signature") from None
        if root != self._root and fingerprint(root) != self._trusted:
            raise self._flaw(f"{missing} is another station's")
        self._cut, self._tail, self._signed = cut, cut.tail, cut.seq
        while self._anchors and self._anchors[-1].seq <= cut.seq:
            anchor = self._anchors.pop()
            if anchor.seq == cut.seq and anchor.hash != cut.hash:
                raise Flaw(
                    cut.seq,
                    f"the rows that were cut off, up to {cut.seq}, are not those that were "
                    f"anchored: the anchor of row {cut.seq} has another hash",
                )
            self._anchors_cut += 1

    # ------------------------------------------------------------- rows
    def _follow(self, row: Row) -> None:
        due = self._tail.seq + 1
        if row.seq > due:
            raise Flaw(
                due, f"row {due} is missing: row {row.seq} stands where it should{self._since()}"
            )
        if row.seq < due:
            raise Flaw(
                row.seq, f"row {row.seq} stands again behind row {due - 1}, out of its order"
            )
        if row_hash(self._tail.hash, row.seq, row.texts) != row.hash:
            raise Flaw(due, self._broken(due))
        self._tail = Tail(row.seq, row.hash)
        if row.texts[3] == ROOTED:
            self._take_root(row)
        if row.texts[3] == RESTORED:
            self._restored = row
        self._compare_anchors()

    def _broken(self, row: int) -> str:
        before = f"row {row - 1}" if row > 1 else "the root in the first line"
        if self._cut is not None and row == self._cut.seq + 1:
            before = "where the log was cut off"
        return (
            f"row {row} was edited: its hash does not follow from its text and {before} "
            f"(or that was edited, and hashed anew){self._since()}"
        )

    def _since(self) -> str:
        if self._signed == (0 if self._cut is None else self._cut.seq):
            return ""
        return f"; rows up to {self._signed} are signed as they stand"

    def _take_root(self, row: Row) -> None:
        try:
            self._root = bytes.fromhex(json.loads(row.texts[4])["root"])
            self._generation = 0
            self._rooted = row.seq
        except (ValueError, KeyError, TypeError):
            raise Flaw(row.seq, f"row {row.seq} names no root") from None

    def _compare_anchors(self) -> None:
        while self._anchors and self._anchors[-1].seq <= self._tail.seq:
            anchor = self._anchors.pop()
            if anchor.seq == self._tail.seq and anchor.hash != self._tail.hash:
                raise self._taken_off(anchor) or self._changed(anchor, "the anchor")
            self._agreed += 1

    def _taken_off(self, anchor: Head) -> Flaw | None:
        """Where a back-up was put back after the anchor was signed: what that took off."""
        row = self._restored
        if row is None or anchor.seq < row.seq or instant(anchor.at_ns) > row.texts[0]:
            return None
        rows = f"row {row.seq}" if anchor.seq == row.seq else f"rows {row.seq} to {anchor.seq}"
        return Flaw(
            row.seq,
            f"{rows} of the log as it was anchored were taken off: row {row.seq} says that a "
            f"back-up{_made(row)} was put back at {row.texts[0]}",
        )

    # ------------------------------------------------------------- heads
    def _hear(self, head: Head) -> None:
        if head.seq > self._tail.seq:
            raise self._flaw(
                f"row {self._tail.seq + 1} is missing: the signed head of row {head.seq} "
                f"stands where it should{self._since()}"
            )
        if head.seq < self._tail.seq:
            raise Flaw(
                head.seq + 1,
                f"row {head.seq + 1} stands before the signed head of row {head.seq}",
            )
        try:
            station = head.check()
        except MalformedPacket:
            raise self._flaw(f"the head of row {head.seq} has a wrong signature") from None
        self._check_station(head, station)
        if head.hash != self._tail.hash:
            raise self._changed(head, "the signed head")
        self._last, self._signed = head, head.seq
        self._heads += 1

    def _check_station(self, head: Head, station: StationCertificate) -> None:
        if station.root != self._root:
            raise self._flaw(f"the head of row {head.seq} is another station's")
        if station.generation < self._generation:
            raise self._flaw(
                f"the head of row {head.seq} is signed under an older key of the station "
                f"(generation {station.generation} after {self._generation})"
            )
        self._generation = station.generation

    def _changed(self, head: Head, what: str) -> Flaw:
        first = self._signed + 1
        which = f"row {first}" if first >= head.seq else f"a row of {first} to {head.seq}"
        return Flaw(
            min(first, head.seq),
            f"{which} was changed and all hashes made anew: {what} of row {head.seq} has another",
        )

    # ------------------------------------------------------------- the end
    def finish(self) -> Verified:
        """After the last line: what it was."""
        if self._root is None:
            raise self._flaw("the file is empty")
        if self._last is None or self._last.kind != "closing":
            raise self._flaw(
                f"the file ends behind row {self._tail.seq} without the head that closes it: "
                "rows were cut off"
            )
        if fingerprint(self._root) != self._trusted:
            raise Flaw(1, "the log is signed, but not under the root key that was given")
        if self._anchors:
            furthest = self._anchors[0]
            raise self._taken_off(furthest) or self._flaw(
                f"rows {self._tail.seq + 1} to {furthest.seq} were cut off: "
                f"row {furthest.seq} was anchored"
            )
        return Verified(
            self._tail.seq - (0 if self._cut is None else self._cut.seq),
            self._heads,
            self._root,
            self._generation,
            self._last.at_ns,
            self._agreed,
            self._cut,
            self._anchors_cut,
            self._rooted,
        )


def _made(restored: Row) -> str:
    """When that back-up was made, as the row has it."""
    try:
        return f" of {instant(json.loads(restored.texts[4])['made_at'] * NS_PER_SECOND)}"
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return ""
