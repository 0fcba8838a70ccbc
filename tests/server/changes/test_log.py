"""The ring of changes: in order, bounded, and resumed by a mark of the same life alone."""

import pytest

from server.changes.log import Changes, Kind, What


def filled(count: int, *, boot: int = 7, size: int = 8) -> Changes:
    changes = Changes(boot, size)
    for number in range(1, count + 1):
        changes.add(number, Kind.SPEAKER, What.CHANGED, f"s{number}", ("P",))
    return changes


def seqs(changes: Changes, after: int, most: int = 100) -> list[int] | None:
    found = changes.after(after, most)
    return None if found is None else [change.seq for change in found]


def test_what_follows_comes_in_order_and_no_more_than_asked_for() -> None:
    changes = filled(5)
    assert seqs(changes, 0) == [1, 2, 3, 4, 5]
    assert seqs(changes, 3) == [4, 5]
    assert seqs(changes, 1, most=2) == [2, 3]
    assert seqs(changes, 5) == []
    first = changes.after(0, 1)
    assert first is not None
    (change,) = first
    assert (change.at_ns, change.kind, change.what, change.name) == (1, "speaker", "changed", "s1")
    assert change.units == ("P",)


@pytest.mark.parametrize("count", range(9, 30))
def test_the_ring_keeps_the_newest_and_says_when_one_is_forgotten(count: int) -> None:
    changes = filled(count)
    assert seqs(changes, count - 8) == list(range(count - 7, count + 1))
    assert seqs(changes, count - 9) is None
    for most in range(9):
        assert seqs(changes, count - 8, most) == list(range(count - 7, count - 7 + most))
    assert len(changes._ring) == 8


def test_what_concerns_the_same_units_keeps_them_once() -> None:
    changes = Changes(1)
    for number in range(3):
        units = tuple(f"P/{unit}" for unit in range(9))
        changes.add(number, Kind.PROGRAMME, What.BEGUN, f"live-{number}", units)
    found = changes.after(0, 9)
    assert found is not None
    assert len({id(change.units) for change in found}) == 1


def test_who_is_ahead_of_the_log_is_of_another_one() -> None:
    assert filled(5).after(6, 10) is None


def test_a_mark_is_of_one_life() -> None:
    changes = filled(5)
    assert changes.mark(3) == "7-3"
    assert changes.place("7-3") == 3
    assert changes.place("8-3") is None
    assert changes.place("07-3") == 3
    long = "1" * 40
    for rubbish in ("", "7", "7-", "-3", "7-3 ", "7--3", "x-3", "\u0667-3", f"7-{long}", long):
        assert changes.place(rubbish) is None
