"""Users, their rights, tokens and sessions on the disk."""

from collections.abc import Callable

import pytest

from server.rights.table import Grant, Role
from server.store import Store
from server.users.records import LoginSession, Token, User

ROOT, A = "Tân Phú", "Tân Phú/A"
OPERATOR = Grant(Role.OPERATOR, A)
VIEWER = Grant(Role.VIEWER, ROOT)


def user(name: str, *grants: Grant, password: str = "$argon2id$") -> User:
    return User(name, password, frozenset(grants))


def session(number: int, name: str) -> LoginSession:
    return LoginSession(f"{number:08x}", bytes([number]) * 32, name, 300, 3600)


def token(number: int, owner: str, *grants: Grant) -> Token:
    key = bytes([number + 100]) * 32
    return Token(
        f"{number:08x}", key, owner, "l", frozenset(grants), urgent=True, expires_s=1 << 40
    )


@pytest.fixture
def people(store: Store) -> Store:
    store.load()
    store.add_unit(A)
    store.users.save(user("ana", OPERATOR, VIEWER))
    store.users.save(user("bob", VIEWER))
    store.users.add_token(token(1, "ana", OPERATOR))
    for number, name in ((1, "ana"), (2, "ana"), (3, "bob")):
        store.users.begin_session(session(number, name), 7, [], 5)
    return store


def numbers(store: Store) -> set[str]:
    return {kept.number[-1] for kept, _ in store.users.load().sessions}


def test_what_was_kept_is_there_again(people: Store, reopen: Callable[..., Store]) -> None:
    store = reopen()
    store.load()
    kept = store.users.load()
    assert {u.name: u.grants for u in kept.users} == {"ana": {OPERATOR, VIEWER}, "bob": {VIEWER}}
    assert {u.totp_step for u in kept.users} == {5}
    assert kept.tokens == (token(1, "ana", OPERATOR),)
    found = sorted(kept.sessions, key=lambda pair: pair[0].number)
    assert found == [(session(1, "ana"), 7), (session(2, "ana"), 7), (session(3, "bob"), 7)]


def test_a_user_changed_is_the_same_user(people: Store) -> None:
    changed = User("ana", "other", frozenset({VIEWER}), True, True, b"secret", 9)
    people.users.save(changed)
    kept = people.users.load()
    assert changed in kept.users
    assert len(kept.users) == 2
    assert numbers(people) == {"1", "2", "3"}


def test_sessions_end_with_a_password_but_for_the_one_that_changed_it(people: Store) -> None:
    people.users.save(user("ana"), end_sessions=True, but="00000002")
    assert numbers(people) == {"2", "3"}
    people.users.save(user("ana"), end_sessions=True)
    assert numbers(people) == {"3"}
    people.users.end_sessions([bytes([3]) * 32, bytes(32)])
    assert numbers(people) == set()


def test_who_is_removed_leaves_nothing(people: Store) -> None:
    people.users.remove("ana")
    kept = people.users.load()
    assert ([u.name for u in kept.users], kept.tokens, numbers(people)) == (["bob"], (), {"3"})


def test_rights_go_with_their_unit_and_do_not_come_back(people: Store) -> None:
    people.remove_unit(A)
    people.add_unit(A)
    kept = people.users.load()
    assert {u.grants for u in kept.users} == {frozenset({VIEWER})}
    assert [t.grants for t in kept.tokens] == [frozenset()]


def test_a_right_at_no_unit_changes_nothing(people: Store) -> None:
    before = people.users.load()
    with pytest.raises(ValueError, match="no unit"):
        people.users.save(user("ana", Grant(Role.VIEWER, "Tân Phú/B")))
    with pytest.raises(ValueError, match="no unit"):
        people.users.add_token(token(2, "ana", Grant(Role.VIEWER, "Tân Phú/B")))
    assert people.users.load() == before


def test_nothing_is_of_nobody_and_no_number_is_two_tokens(people: Store) -> None:
    with pytest.raises(ValueError, match=r"(?i)constraint"):
        people.users.begin_session(session(9, "nobody"), 7, [], 0)
    with pytest.raises(ValueError, match=r"(?i)constraint"):
        people.users.add_token(token(1, "bob"))
    assert numbers(people) == {"1", "2", "3"}


def test_a_token_removed_is_gone_and_uses_are_kept(people: Store) -> None:
    people.users.remove_token("00000001")
    assert people.users.load().tokens == ()
    people.users.sessions_used({bytes([1]) * 32: 99, bytes(32): 1})
    people.users.sessions_used({})
    used = {kept.number: at for kept, at in people.users.load().sessions}
    assert used == {"00000001": 99, "00000002": 7, "00000003": 7}


def test_a_new_session_ends_those_that_are_over_in_one_go(people: Store) -> None:
    people.users.begin_session(session(4, "ana"), 8, [bytes([1]) * 32, bytes([2]) * 32], 6)
    assert numbers(people) == {"3", "4"}
