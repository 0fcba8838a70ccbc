"""Passwords as they are kept."""

import unicodedata

import pytest

from server.users.errors import UserError
from server.users.passwords import Cost, Passwords, check_password, drawn_password

CHEAP = Passwords(Cost(1, 8, 1))


def test_a_password_is_right_in_any_spelling_and_no_other_is() -> None:
    kept = CHEAP.hashed("mật khẩu rất dài")
    assert kept.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert CHEAP.is_right(kept, "mật khẩu rất dài")
    assert CHEAP.is_right(kept, unicodedata.normalize("NFD", "mật khẩu rất dài"))
    for wrong in ("", "mat khau rat dai", "mật khẩu rất dài ", "x" * 10_000, "\ud800"):
        assert not CHEAP.is_right(kept, wrong)
    assert CHEAP.hashed("mật khẩu rất dài") != kept


def test_nobodys_password_is_never_right_and_costs_the_same_work() -> None:
    # That it takes as long follows of the parameters: they are all that the work depends on.
    passwords = Passwords()
    assert passwords._nobody.split("$")[:4] == ["", "argon2id", "v=19", "m=65536,t=3,p=1"]
    assert not CHEAP.is_right(None, "")
    assert not CHEAP.is_right(None, "anything at all")
    assert not CHEAP.is_right("no hash at all", "anything")


@pytest.mark.parametrize("password", ["", "short", "aaaaaaaaaaaa", "x" * 257, "anaanaanaana"])
def test_what_would_be_guessed_is_refused(password: str) -> None:
    with pytest.raises(UserError):
        check_password(password, "ana")


def test_S3_no_two_drawn_passwords_are_alike() -> None:  # noqa: N802
    drawn = {drawn_password() for _ in range(1000)}
    assert len(drawn) == 1000
    assert all(check_password(password, "ana") for password in drawn)
    assert all(len(password.replace("-", "")) == 20 for password in drawn)
