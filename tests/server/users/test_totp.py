"""One-time codes, by the RFCs' own vectors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.users.totp import code_at, shown, step_of, uri

SECRET = b"12345678901234567890"  # RFC 6238 appendix B


# RFC 4226 appendix D.
@pytest.mark.parametrize(
    ("count", "code"),
    [
        (0, "755224"),
        (1, "287082"),
        (2, "359152"),
        (3, "969429"),
        (4, "338314"),
        (9, "520489"),
    ],
)
def test_rfc_4226_vectors(count: int, code: str) -> None:
    assert code_at(SECRET, count) == code


# RFC 6238 appendix B, SHA-1.
@pytest.mark.parametrize(
    ("now_s", "code"),
    [
        (59, "94287082"),
        (1111111109, "07081804"),
        (1111111111, "14050471"),
        (1234567890, "89005924"),
        (2000000000, "69279037"),
        (20000000000, "65353130"),
    ],
)
def test_rfc_6238_vectors(now_s: int, code: str) -> None:
    assert code_at(SECRET, now_s // 30, 8) == code
    assert step_of(SECRET, code[2:], now_s, 0) == now_s // 30


def test_a_code_is_good_for_a_step_either_way_and_once() -> None:
    now_s = 1_000_000_000
    here = now_s // 30
    for step in range(here - 4, here + 5):
        found = step_of(SECRET, code_at(SECRET, step), now_s, 0)
        assert found == (step if abs(step - here) <= 1 else None)
    code = code_at(SECRET, here)
    assert step_of(SECRET, code, now_s, here) is None
    assert step_of(SECRET, code_at(SECRET, here - 1), now_s, here) is None
    assert step_of(SECRET, code_at(SECRET, here + 1), now_s, here) == here + 1


@given(st.text(max_size=16))
def test_whatever_is_typed_is_a_code_or_none(typed: str) -> None:
    right = {code_at(SECRET, step) for step in (99, 100, 101)}
    assert (step_of(SECRET, typed, 3000, 0) is not None) == (typed.replace(" ", "") in right)


def test_a_secret_is_shown_as_authenticators_read_it() -> None:
    assert shown(SECRET) == "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    assert uri(SECRET, "Tân Phú", "ana").startswith("otpauth://totp/T%C3%A2n%20Ph%C3%BA%3Aana?")
