"""Which of the newest programmes named whom."""

from server.named import Named


def filled(most: int = 100) -> Named:
    named = Named(most=most)
    for number, names in ((1, "ab"), (2, "b"), (3, ""), (4, "bc")):
        named.add(number, names)
    return named


def test_those_that_named_one_of_them_are_found_newest_first() -> None:
    named = filled()
    assert named.naming("b") == [4, 2, 1]
    assert named.naming("ac") == [4, 1]
    assert named.naming("x") == named.naming("") == []
    assert named.naming("b", before=4) == [2, 1]
    assert named.naming("b", before=1) == []
    assert named.floor == 0


def test_the_oldest_are_forgotten_and_that_is_known() -> None:
    # They hold 3, 2, 1 and 3.
    named = filled(most=6)
    assert (named.naming("abc"), named.floor) == ([4, 2], 2)
    named.add(5, "a")
    assert (named.naming("abc"), named.floor) == ([5, 4], 3)


def test_one_that_is_added_late_is_no_newer_for_that() -> None:
    named = Named(most=4)
    named.add(2, "a")
    named.add(1, "a")
    named.add(3, "a")
    assert (named.naming("a"), named.floor) == ([3, 2], 2)
