"""Whom a text stands for, by a clock of the test's own."""

from dataclasses import replace

import pytest

from server.errors import NoSuchError
from server.rights.table import Grant, Role
from server.users.book import ABSOLUTE_S, FRESH_S, IDLE_S, MAX_SESSIONS_EACH, UserBook
from server.users.errors import UserError
from server.users.records import LoginSession, Token, User, hash_of

GRANT = Grant(Role.OPERATOR, "R")
ANA = User("ana", "", frozenset({GRANT}))


def session(text: str, name: str = "ana", at: int = 0) -> LoginSession:
    return LoginSession(text, hash_of(text), name, at + FRESH_S, at + ABSOLUTE_S)


@pytest.fixture
def book() -> UserBook:
    token = Token("7", hash_of("t"), "ana", "l", frozenset({GRANT}), urgent=True, expires_s=100_000)
    return UserBook([ANA], [token], [(session("s"), 0)])


def test_a_session_is_its_user_while_it_is_used(book: UserBook) -> None:
    for now_s in (0, IDLE_S - 1, 2 * IDLE_S - 2):
        identity = book.identify("s", now_s)
        assert identity is not None
        assert (identity.name, identity.kind, identity.grants) == ("ana", "user", ANA.grants)
        assert identity.fresh == (now_s < FRESH_S)
    assert book.identify("s", 3 * IDLE_S - 2) is None
    assert book.identify("S", 0) is None


def test_a_session_ends_at_last_however_it_is_used(book: UserBook) -> None:
    for now_s in range(0, ABSOLUTE_S, IDLE_S // 2):
        assert book.identify("s", now_s) is not None
    assert book.identify("s", ABSOLUTE_S) is None


def test_a_token_is_good_until_it_expires_and_never_fresh(book: UserBook) -> None:
    identity = book.identify("t", 99_999)
    assert identity is not None
    assert (identity.kind, identity.session, identity.fresh, identity.urgent) == (
        "token", "7", False, True,
    )  # fmt: skip
    assert identity.who == "ana (token 7)"
    assert book.identify("t", 100_000) is None


@pytest.mark.parametrize("shown", ["s", "t"])
def test_of_whoever_is_shut_out_or_gone_nothing_opens(book: UserBook, shown: str) -> None:
    book.put(replace(ANA, disabled=True))
    assert book.identify(shown, 1) is None
    assert book.standing("ana", None) == book.standing("ana", "7") == frozenset()
    book.put(ANA)
    assert book.identify(shown, 1) is not None
    assert book.standing("ana", None) == book.standing("ana", "7") == {GRANT}
    book.remove("ana")
    assert book.identify(shown, 1) is None
    assert book.standing("ana", "7") == frozenset()
    with pytest.raises(NoSuchError):
        book.user("ana")


def test_of_many_sessions_of_one_the_longest_unused_make_room(book: UserBook) -> None:
    for n in range(MAX_SESSIONS_EACH):
        book.put_session(session(f"{n}"), n + 1)
    over = {s.number for s in book.superfluous("ana", 100)}
    assert over == {"s", "0"}
    assert {s.number for s in book.superfluous("bob", IDLE_S + 3)} == {"s", "0", "1", "2"}


def test_no_two_users_have_names_that_look_alike(book: UserBook) -> None:
    with pytest.raises(UserError, match="already"):
        book.check_new("ANA")
    with pytest.raises(UserError, match="at most"):
        book.put(replace(ANA, grants=frozenset(Grant(Role.VIEWER, f"R/{n}") for n in range(101))))


def test_uses_are_told_once_each(book: UserBook) -> None:
    assert book.uses_since(1) == {}
    book.identify("s", 5)
    assert book.uses_since(1) == {hash_of("s"): 5}
