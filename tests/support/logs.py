"""An audit log of a station that is not there: keys from fixed seeds, rows as asked for."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from server.audit.head import Head, HeadSigner
from server.audit.lines import Beginning, beginning_line, head_line, row_line
from server.audit.row import CUT, Entry, Row, Tail, instant
from server.audit.verification import Verified, Verifier
from transport.security.certificates import StationCertificate
from transport.security.keys import SigningKey, fingerprint

AT_NS = 1_790_000_000_000_000_000


@dataclass
class Keys:
    """Those of a station, all from one byte."""

    seed: int = 1
    generation: int = 1

    def __post_init__(self) -> None:
        self.root = SigningKey(bytes([self.seed]) * 32)
        self.station = SigningKey(bytes([self.seed + 1]) * 32)
        self.certificate = StationCertificate.issue(self.root, self.generation, self.station.public)
        self.signer = HeadSigner(self.station, self.certificate, 7, bytes([self.seed + 2]) * 32)

    @property
    def trusted(self) -> bytes:
        return fingerprint(self.root.public)


def entry(number: int) -> Entry:
    """Of some variety."""
    who = ("token", "Lan", "loudspeaker chợ", "")[number % 4]
    on = {"zone": f"Thôn {number}", "definition": {"tag": "chợ"}}
    return Entry.of(AT_NS + number, who, "192.0.2.7", "zone.put", on, why="it was wanted")


@dataclass
class Log:
    """A log in the making; a head is kept after every `every` rows."""

    keys: Keys = field(default_factory=Keys)
    every: int = 5

    def __post_init__(self) -> None:
        self.tail = Tail.genesis(self.keys.root.public)
        self.rows: list[Row] = []
        self.heads: dict[int, Head] = {}
        self.beginning: Head | None = None
        self.root = self.keys.root.public

    def add(self, *entries: Entry) -> "Log":
        for one in entries:
            row = self.tail.append(one)
            self.rows.append(row)
            self.tail = Tail.of(row)
            if row.seq % self.every == 0:
                self.heads[row.seq] = self.keys.signer.sign(self.tail, AT_NS + row.seq)
        return self

    def cut(self, up_to: int) -> "Log":
        """All rows up to this one are cut off now."""
        row = next(row for row in self.rows if row.seq == up_to)
        self.beginning = self.keys.signer.sign(Tail.of(row), AT_NS, "cut")
        self.rows = [row for row in self.rows if row.seq > up_to]
        told = {"up_to": up_to, "rows": up_to, "signed": instant(AT_NS)}
        why = "older than audit_days = 3650"
        return self.add(Entry.of(AT_NS, "station", "", CUT, told, why))

    def lines(self) -> list[bytes]:
        """As they are exported."""
        made = [beginning_line(Beginning(self.root))]
        if self.beginning is not None:
            made.append(head_line(self.beginning))
        for row in self.rows:
            made.append(row_line(row))
            if row.seq in self.heads:
                made.append(head_line(self.heads[row.seq]))
        made.append(head_line(self.keys.signer.sign(self.tail, AT_NS, "closing")))
        return [line.encode() for line in made]


def log_of(rows: int, keys: Keys | None = None, every: int = 5) -> Log:
    return Log(keys or Keys(), every).add(*map(entry, itertools.islice(itertools.count(1), rows)))


def verify(
    lines: Iterable[bytes], keys: Keys | None = None, anchors: Iterable[Head] = ()
) -> Verified:
    """Whatever `Flaw` there is is raised."""
    verifier = Verifier((keys or Keys()).trusted, list(anchors))
    for line in lines:
        verifier.feed(line)
    return verifier.finish()
