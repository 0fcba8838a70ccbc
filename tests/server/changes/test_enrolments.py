"""Codes and who waits: added, in use, gone; no secrets."""

from typing import Any

from server.changes.enrolments import EnrolmentWatch
from server.changes.log import Changes
from server.enrolment import Code, Enrolment, Waiting
from transport.security.keys import shown_fingerprint

S = 1_000_000_000
CODE = Code(b"abcd", bytes(32), "market", "P/A", 1000)
OPEN = Code(b"abce", bytes(32), "", "P/B", 1000)
WAITING = Waiting(bytes(32), OPEN, "wish", "192.0.2.1", "lan", False, 0)


class Watched:
    def __init__(self, *codes: Code) -> None:
        self.enrolment = Enrolment(codes)
        self.changes = Changes(1)
        self.watch = EnrolmentWatch(
            self.enrolment, self.changes, lambda name, unit: {str(unit), f"of {name}"}
        )
        assert self.look(0) == []

    def look(self, now_s: float) -> list[tuple[Any, ...]]:
        before = self.changes.head
        for _ in self.watch.look(round(now_s * S)):
            pass
        found = self.changes.after(before, 1000)
        assert found is not None
        return [(c.kind.value, c.name, c.what.value, c.units) for c in found]


def test_a_code_is_made_used_and_gone() -> None:
    watched = Watched()
    watched.enrolment.put([CODE])
    units = ("P/A", "of market")
    assert watched.look(1) == [("enrolment", "61626364", "added", units)]
    watched.enrolment.hold(CODE, bytes(32))
    assert watched.look(1.5) == []
    assert watched.look(2) == [("enrolment", "61626364", "changed", units)]
    watched.enrolment.spend(CODE.number)
    assert watched.look(3) == [("enrolment", "61626364", "removed", units)]
    assert watched.look(4) == []


def test_who_waits_is_told_by_its_key_and_its_wish_is_nobodys_yet() -> None:
    watched = Watched(OPEN)
    watched.enrolment.wait(WAITING)
    key = shown_fingerprint(WAITING.key)
    assert watched.look(1) == [
        ("enrolment", "61626365", "changed", ("P/B", "of ")),
        ("pending", key, "added", ("P/B", "of ")),
    ]
    watched.enrolment.leave(WAITING.key)
    assert set(watched.look(2)) == {
        ("enrolment", "61626365", "changed", ("P/B", "of ")),
        ("pending", key, "removed", ("P/B", "of ")),
    }
