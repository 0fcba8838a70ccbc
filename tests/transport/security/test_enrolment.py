"""One-time codes: what people do to them on the way, and what their secret proves."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.control.address import StationAddress
from transport.errors import MalformedPacket
from transport.security.enrolment import (
    EnrolmentCode,
    check_enrolment_mac,
    enrolment_mac,
    key_of,
    number_of,
)
from transport.security.keys import SigningKey, fingerprint, shown_fingerprint

ADDRESS = StationAddress("station.example", 7460)
ROOT = SigningKey(bytes(range(32)))
CODE = EnrolmentCode(ADDRESS, fingerprint(ROOT.public), bytes(range(200, 210)))
HEAD, LETTERS = CODE.text.rsplit("/", 1)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
SAID = (b"n" * 32, b"h" * 32, ROOT.public)


def flips(data: bytes) -> Iterator[bytes]:
    number = int.from_bytes(data)
    return ((number ^ 1 << bit).to_bytes(len(data)) for bit in range(8 * len(data)))


# ------------------------------------------------------------------ codes as text
@given(
    st.sampled_from(["10.0.0.1", "station.example", "đài-xã"]),
    st.integers(1, 65535),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=10, max_size=10),
)
def test_a_code_survives_being_written_down(
    host: str, port: int, root_fingerprint: bytes, secret: bytes
) -> None:
    code = EnrolmentCode(StationAddress(host, port), root_fingerprint, secret)
    assert EnrolmentCode.parse(code.text) == code


def test_a_code_is_an_address_and_nine_groups_of_five() -> None:
    assert HEAD == "loa:station.example:7460"
    assert [len(group) for group in LETTERS.split("-")] == [5] * 9
    assert set(LETTERS) <= {*ALPHABET, "-"}


def test_a_code_begins_with_the_fingerprint_that_people_compare() -> None:
    assert LETTERS.startswith(shown_fingerprint(ROOT.public)[:29])


@pytest.mark.parametrize(
    "typed",
    [
        CODE.text.lower(),
        f"LOA:station.example:7460/{LETTERS}",
        f"  {CODE.text}\r\n",
        f"loa: station.example : 7460 / {LETTERS.replace('-', ' ')}",
        f"{HEAD}/{LETTERS.replace('-', '')}",
        CODE.text.replace("-", "\u2013"),
        f"{HEAD}/{'-'.join(LETTERS.replace('-', '').lower())}-",
        f"{HEAD}/{LETTERS[:20]}\n{LETTERS[20:]}",
        f"{HEAD}/{LETTERS.replace('O', '0').replace('I', '1').replace('B', '8')}",
    ],
)
def test_a_code_is_known_however_it_was_typed(typed: str) -> None:
    assert EnrolmentCode.parse(typed) == CODE


def test_a_code_without_a_port_means_the_usual_one() -> None:
    assert EnrolmentCode.parse(f"loa:station.example/{LETTERS}") == CODE


def test_each_single_wrong_letter_is_found() -> None:
    letters = LETTERS.replace("-", "")
    for at, right in enumerate(letters):
        for wrong in ALPHABET.replace(right, ""):
            with pytest.raises(ValueError, match="a letter of this code is wrong"):
                EnrolmentCode.parse(f"{HEAD}/{letters[:at]}{wrong}{letters[at + 1 :]}")


def test_each_two_letters_that_changed_places_are_found() -> None:
    letters = LETTERS.replace("-", "")
    for at, (one, two) in enumerate(pairwise(letters)):
        if one != two:
            with pytest.raises(ValueError, match="a letter of this code is wrong"):
                EnrolmentCode.parse(f"{HEAD}/{letters[:at]}{two}{one}{letters[at + 2 :]}")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("", "begins with loa:HOST:PORT/"),
        ("station.example", "begins with loa:HOST:PORT/"),
        (f"https://{HEAD[4:]}/{LETTERS}", "begins with loa:HOST:PORT/"),
        (f"{HEAD}", "begins with loa:HOST:PORT/"),
        (f"loa:/{LETTERS}", "no station's address"),
        (f"loa:station.example:70000/{LETTERS}", "no station's address"),
        (f"{HEAD}/", "45 letters and digits after the slash, not 0"),
        (f"{HEAD}/{LETTERS[:-1]}", "45 letters and digits after the slash, not 44"),
        (f"{HEAD}/{LETTERS}A", "45 letters and digits after the slash, not 46"),
        (f"{HEAD}/{LETTERS[:-1]}9", "only letters and the digits 2 to 7"),
        (f"{HEAD}/{LETTERS[:-1]}Ạ", "only letters and the digits 2 to 7"),
        (f"{HEAD}/{LETTERS[:-1]}ß", "only letters and the digits 2 to 7"),
        (f"{HEAD}/{LETTERS[:-1]}=", "only letters and the digits 2 to 7"),
        (CODE.text + " " * 600, "too long for a code"),
    ],
)
def test_what_is_no_code_is_told_in_one_line_without_the_secret(typed: str, line: str) -> None:
    with pytest.raises(ValueError, match=line) as refusal:
        EnrolmentCode.parse(typed)
    assert "\n" not in str(refusal.value)
    assert LETTERS[30:] not in str(refusal.value)


@given(st.text(max_size=100), st.text(max_size=60))
def test_any_text_is_a_code_or_a_value_error(text: str, letters: str) -> None:
    for typed in (text, f"loa:h:1/{letters}", f"loa:{text}/{LETTERS}"):
        with suppress(ValueError):
            assert EnrolmentCode.parse(typed).secret == CODE.secret


@given(st.text(ALPHABET + "0189abcz-= ", min_size=45, max_size=45))
def test_45_letters_at_random_are_a_code_or_a_value_error(letters: str) -> None:
    with suppress(ValueError):
        assert len(EnrolmentCode.parse(f"loa:h:1/{letters}").secret) == 10


def test_a_code_that_is_printed_does_not_tell_its_secret() -> None:
    assert repr(CODE.secret) not in repr(CODE)
    assert "secret" not in repr(CODE)


@pytest.mark.parametrize(("print_", "secret"), [(15, 10), (17, 10), (16, 9), (16, 11), (16, 0)])
def test_a_code_is_not_made_of_other_lengths(print_: int, secret: int) -> None:
    with pytest.raises(ValueError, match="fingerprint of 16 bytes and a secret of 10"):
        EnrolmentCode(ADDRESS, bytes(print_), bytes(secret))


# ------------------------------------------------------------------ what the secret proves
def test_number_and_key_are_of_the_secret_and_say_nothing_of_each_other() -> None:
    assert (CODE.number, CODE.key) == (number_of(CODE.secret), key_of(CODE.secret))
    assert (len(CODE.number), len(CODE.key)) == (4, 32)
    assert CODE.number not in CODE.key
    assert CODE.secret not in CODE.key


def test_the_proof_of_a_code_holds_for_this_session_and_this_key_only() -> None:
    mac = enrolment_mac(CODE.key, *SAID)
    check_enrolment_mac(CODE.key, mac, *SAID)
    nonce, tls, public = SAID
    for key, said in (
        (key_of(bytes(10)), SAID),
        (CODE.key, (bytes(32), tls, public)),
        (CODE.key, (nonce, bytes(32), public)),
        (CODE.key, (nonce, tls, bytes(32))),
        (CODE.key, (tls, nonce, public)),
        (CODE.key, (nonce + tls[:1], tls[1:], public)),
    ):
        with pytest.raises(MalformedPacket) as refusal:
            check_enrolment_mac(key, mac, *said)
        assert refusal.value.reason == "code"


def test_each_flipped_bit_of_a_proof_is_refused() -> None:
    for wrong in flips(enrolment_mac(CODE.key, *SAID)):
        with pytest.raises(MalformedPacket):
            check_enrolment_mac(CODE.key, wrong, *SAID)


@given(st.binary(max_size=40))
def test_any_bytes_for_a_proof_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedPacket):
        check_enrolment_mac(CODE.key, data, *SAID)


@pytest.mark.parametrize("length", range(32))
def test_the_beginning_of_a_proof_is_no_proof(length: int) -> None:
    with pytest.raises(MalformedPacket):
        check_enrolment_mac(CODE.key, enrolment_mac(CODE.key, *SAID)[:length], *SAID)
