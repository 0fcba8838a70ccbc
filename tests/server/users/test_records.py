"""Names, and what is kept of what a person shows."""

import hashlib
import math
import secrets
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.rights.table import Grant, Role
from server.users.errors import UserError
from server.users.records import (
    Token,
    User,
    check_user_name,
    hash_of,
    holds,
    session_text,
    token_text,
)


def test_S4_sessions_are_128_bits_and_nothing_else() -> None:  # noqa: N802
    """Removed to see it fail: `SESSION_BYTES`, which was made 8."""
    with pytest.raises(ValueError, match="16 random bytes"):
        session_text(bytes(8))
    text = session_text(bytes(range(16)))
    assert text == "loa-session-000102030405060708090a0b0c0d0e0f"
    # Not derived: it is the random bytes themselves, and all 16 of them matter.
    assert len({session_text(bytes([0] * n + [1] + [0] * (15 - n))) for n in range(16)}) == 16


def test_S4_the_bits_of_many_are_evenly_distributed() -> None:  # noqa: N802
    """Each of 128 bits is set in half of 4,000 sessions, to six standard deviations."""
    count = 4_000
    drawn = [int(session_text(secrets.token_bytes(16))[-32:], 16) for _ in range(count)]
    assert len(set(drawn)) == count
    allowed = 6 * math.sqrt(count) / 2
    for bit in range(128):
        ones = sum(number >> bit & 1 for number in drawn)
        assert abs(ones - count / 2) < allowed, bit


def test_only_hashes_are_kept_and_no_secret_is_shown() -> None:
    text = token_text(bytes(32))
    assert hash_of(text) == hashlib.sha256(text.encode()).digest()
    token = Token("0" * 8, hash_of(text), "ana", "l", frozenset(), urgent=False, expires_s=1)
    user = User("ana", "$argon2id$secret", totp=b"hidden secret")
    for shown in (repr(token), repr(user)):
        assert text not in shown
        assert "secret" not in shown
        assert repr(hash_of(text)) not in shown


@pytest.mark.parametrize("name", ["", " ", "a b", "token", "Station", "x" * 65, "a/b", "-a", "a\n"])
def test_what_is_no_name_is_one_line(name: str) -> None:
    with pytest.raises(UserError) as caught:
        check_user_name(name)
    assert len(str(caught.value).splitlines()) == 1


@given(st.text(max_size=70))
def test_a_name_is_one_spelling_of_itself_or_none(name: str) -> None:
    try:
        checked = check_user_name(name)
    except UserError:
        return
    assert check_user_name(checked) == checked
    assert Counter(checked)["/"] == 0


def test_a_token_never_has_more_than_its_owner_has_now() -> None:
    wide, narrow = Grant(Role.OPERATOR, "R"), Grant(Role.OPERATOR, "R/A")
    other = Grant(Role.VIEWER, "R/A")
    token = Token("0" * 8, b"", "ana", "l", frozenset({narrow, other}), urgent=False, expires_s=1)
    assert token.grants_of(User("ana", "", frozenset({wide}))) == {narrow}
    assert token.grants_of(User("ana", "")) == frozenset()
    assert not holds([narrow], wide)
