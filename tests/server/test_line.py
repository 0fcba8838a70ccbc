"""Whose turn it is at the door."""

import pytest

from server.line import Line


def line_of(*guests: tuple[str, str, bool]) -> Line[str]:
    line: Line[str] = Line()
    for guest, address, urgent in guests:
        line.put(guest, address, urgent=urgent)
    return line


def order(line: Line[str]) -> list[str]:
    return [line.pop() for _ in range(len(line))]


def test_of_one_address_who_came_first_is_first() -> None:
    assert order(line_of(*((f"{n}", "here", False) for n in range(4)))) == ["0", "1", "2", "3"]


def test_no_address_waits_for_all_of_another() -> None:
    fleet = [(f"f{n}", "fleet", False) for n in range(1000)]
    line = line_of(*fleet, ("a", "alone", False), ("b", "other", False))
    assert order(line)[:5] == ["f0", "a", "b", "f1", "f2"]


def test_who_has_come_back_waits_behind_the_other_addresses() -> None:
    line = line_of(("a1", "a", False), ("b1", "b", False), ("b2", "b", False))
    assert line.pop() == "a1"
    line.put("a2", "a", urgent=False)
    assert order(line) == ["b1", "a2", "b2"]


def test_the_urgent_have_every_second_turn_and_no_more() -> None:
    fleet = [(f"f{n}", f"{n}", False) for n in range(3)]
    people = [(f"p{n}", "office", True) for n in range(4)]
    assert order(line_of(*fleet, *people)) == ["p0", "f0", "p1", "f1", "p2", "f2", "p3"]


def test_after_one_that_is_not_whoever_is_urgent_is_the_next() -> None:
    line = line_of(*((f"f{n}", f"{n}", False) for n in range(20)))
    for passed in range(4):
        for _ in range(passed + 1):
            line.pop()
        line.put("person", "office", urgent=True)
        assert line.pop() == "person"


def test_nobody_is_nobody() -> None:
    line = line_of(("a", "a", True))
    assert line.pop() == "a"
    assert len(line) == 0
    with pytest.raises(IndexError):
        line.pop()
