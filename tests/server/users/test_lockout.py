"""Brute force is locked out, and the real user is not for ever; by a clock of the test's own."""

from hypothesis import given
from hypothesis import strategies as st

from server.users import lockout
from server.users.lockout import Lockout


def guesses(table: Lockout, name: str, address: str, seconds: range) -> int:
    """How many of one a second are looked at."""
    return sum(table.attempt(name, address, s) == 0 for s in seconds)


def test_of_a_day_of_guesses_from_one_address_few_are_looked_at() -> None:
    # 5, then one each time a lock that doubles to 15 minutes is over.
    assert guesses(Lockout(), "ana", "192.0.2.1", range(86_400)) < 5 + 8 + 96


def test_of_a_days_guesses_from_ten_thousand_addresses_few_are_looked_at() -> None:
    table = Lockout()
    looked_at = sum(
        table.attempt("ana", f"192.0.{s % 10_000 // 256}.{s % 256}", s) == 0 for s in range(86_400)
    )
    assert looked_at < 20 + 8 + 96


def test_many_at_once_count_before_any_is_known_to_be_wrong() -> None:
    table = Lockout()
    assert sum(table.attempt("ana", "192.0.2.1", 7) == 0 for _ in range(100)) == 5


def test_the_real_user_gets_in_from_where_he_was_before_whatever_others_do() -> None:
    table = Lockout()
    assert table.attempt("ana", "198.51.100.1", 0) == 0
    table.succeeded("ana", "198.51.100.1", 0)
    for s in range(1, 3600):
        table.attempt("ana", f"192.0.2.{s % 250}", s)
        if s % 60 == 0:
            assert table.attempt("ana", "198.51.100.1", s) == 0
            table.succeeded("ana", "198.51.100.1", s)


def test_elsewhere_he_waits_a_quarter_of_an_hour_at_most() -> None:
    table = Lockout()
    for s in range(20_000):
        table.attempt("ana", f"192.0.2.{s % 250}", s)
    wait_s = table.attempt("ana", "203.0.113.1", 20_000)
    assert 0 < wait_s <= 15 * 60
    assert table.attempt("ana", "203.0.113.1", 20_000 + wait_s) == 0


def test_one_right_password_does_not_free_an_address_to_guess_others() -> None:
    table = Lockout()
    looked_at = 0
    for s in range(3600):
        if table.attempt("mine", "192.0.2.1", s) == 0:
            table.succeeded("mine", "192.0.2.1", s)
        looked_at += table.attempt(f"user{s}", "192.0.2.1", s) == 0
    assert looked_at < 60


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=200))
def test_tables_stay_bounded_and_the_locked_stay_locked(pairs: list[tuple[int, int]]) -> None:
    table, most = Lockout(), lockout.MAX_KEPT
    lockout.MAX_KEPT = 8
    try:
        while table.attempt("ana", "192.0.2.1", 0) == 0:
            pass
        for name, address in pairs:
            table.attempt(f"n{name}", f"a{address}", 1)
        assert max(len(table._pairs), len(table._names), len(table._addresses)) <= 8
        assert table.attempt("ana", "192.0.2.1", 1) > 0
    finally:
        lockout.MAX_KEPT = most
