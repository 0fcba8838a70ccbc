"""Codes and who comes with them: pure state, with times and randomness as arguments."""

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from server.enrolment import (
    MAX_CODES,
    MAX_WAITING,
    Code,
    Enrolment,
    EnrolmentError,
    Issued,
    TooManyStrangersError,
    Waiting,
)
from server.errors import NoSuchError
from transport.control.messages import VERSION, Enrol
from transport.security.enrolment import enrolment_mac, key_of, number_of
from transport.security.keys import SigningKey, shown_fingerprint

S = 1_000_000_000
NONCE, TLS_HASH = b"n" * 32, b"t" * 32
EXPIRES_S = 3600


def draw(seed: int = 1) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def issue(enrolment: Enrolment, *names: str, unit: str | None = None) -> list[Issued]:
    """New codes, which may be used."""
    issued = enrolment.draw(names, unit, EXPIRES_S, draw(len(enrolment.codes) + 1))
    enrolment.put([code for code, _ in issued], enrolment.superseded(names))
    return issued


def enrol(secret: bytes, key: bytes = b"k" * 32, name: str = "a") -> Enrol:
    """What a loudspeaker says that knows this secret."""
    mac = enrolment_mac(key_of(secret), NONCE, TLS_HASH, key)
    return Enrol(VERSION, name, key, bytes(32), number_of(secret), mac)


def waiting(code: Code, key: bytes, wish: str = "a") -> Waiting:
    return Waiting(key, code, wish, "192.0.2.1", "lan", multicast=False, since_ns=0)


# ------------------------------------------------------------------ codes
def test_a_code_is_kept_without_its_secret() -> None:
    enrolment = Enrolment()
    (issued,) = issue(enrolment, "market", unit="Tân Phú")
    code = Code(number_of(issued.secret), key_of(issued.secret), "market", "Tân Phú", EXPIRES_S)
    assert enrolment.codes == (code,) == (issued.code,)
    assert issued.secret not in (code.number, code.key)


def test_codes_for_whoever_comes_may_be_many() -> None:
    enrolment = Enrolment()
    issue(enrolment, "", "", "")
    assert [code.name for code in enrolment.codes] == ["", "", ""]


def test_a_newer_code_for_a_name_takes_the_place_of_the_older() -> None:
    enrolment = Enrolment()
    (older,) = issue(enrolment, "market")
    (newer,) = issue(enrolment, "market")
    assert enrolment.codes == (newer.code,)
    with pytest.raises(EnrolmentError, match="was used, or is too old"):
        enrolment.check(enrol(older.secret), NONCE, TLS_HASH, 0)


def test_a_name_is_taken_in_its_one_spelling() -> None:
    (issued,) = issue(Enrolment(), "cho\u031b\u0323")
    assert issued.code.name == "chợ"


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("all",), "'all' is no loudspeaker's name"),
        (("a", "?"), "is no loudspeaker's name"),
        (("a", "b", "a"), "'a' is there twice"),
    ],
)
def test_what_is_no_name_makes_no_code(names: tuple[str, ...], why: str) -> None:
    enrolment = Enrolment()
    with pytest.raises(EnrolmentError, match=why) as error:
        enrolment.draw(names, None, EXPIRES_S, draw())
    assert len(str(error.value).splitlines()) == 1
    assert enrolment.codes == ()


def test_codes_are_bounded() -> None:
    enrolment = Enrolment()
    issue(enrolment, *(f"n{number}" for number in range(MAX_CODES)))
    issue(enrolment, "n0")  # it takes the place of another
    with pytest.raises(EnrolmentError, match=f"{MAX_CODES} codes may be outstanding"):
        enrolment.draw(["one more"], None, EXPIRES_S, draw())


def test_two_codes_never_have_one_number() -> None:
    # The second secret that is drawn is the first again.
    secrets = iter([b"a" * 10, b"a" * 10, b"b" * 10, b"b" * 10, b"c" * 10])
    enrolment = Enrolment()
    issued = enrolment.draw(["x", "y"], None, EXPIRES_S, lambda _: next(secrets))
    enrolment.put(code for code, _ in issued)
    (third,) = enrolment.draw(["z"], None, EXPIRES_S, lambda _: next(secrets))
    assert [secret for _, secret in (*issued, third)] == [b"a" * 10, b"b" * 10, b"c" * 10]


def test_an_unknown_number_is_no_code() -> None:
    with pytest.raises(NoSuchError, match="loa enrol list"):
        Enrolment().code(bytes(4))


# ------------------------------------------------------------------ who comes with one
def test_who_knows_the_secret_has_the_code() -> None:
    enrolment = Enrolment()
    (issued,) = issue(enrolment, "market")
    assert enrolment.check(enrol(issued.secret), NONCE, TLS_HASH, 0) == issued.code


def test_a_code_is_good_until_it_is_too_old() -> None:
    enrolment = Enrolment()
    (issued,) = issue(enrolment, "market")
    enrolment.check(enrol(issued.secret), NONCE, TLS_HASH, EXPIRES_S * S - 1)
    with pytest.raises(EnrolmentError, match="too old") as error:
        enrolment.check(enrol(issued.secret), NONCE, TLS_HASH, EXPIRES_S * S)
    assert error.value.final
    assert enrolment.expired(EXPIRES_S - 1) == []
    assert enrolment.expired(EXPIRES_S) == [issued.code]


WRONG = {
    "another secret": enrol(b"x" * 10),
    "of another session": replace(
        enrol(b"s" * 10), mac=enrolment_mac(key_of(b"s" * 10), b"m" * 32, TLS_HASH, b"k" * 32)
    ),
    "of another TLS": replace(
        enrol(b"s" * 10), mac=enrolment_mac(key_of(b"s" * 10), NONCE, b"u" * 32, b"k" * 32)
    ),
    "of another key": replace(enrol(b"s" * 10), key=b"l" * 32),
    "only the number": replace(enrol(b"s" * 10), mac=bytes(32)),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_proof_that_is_not_this_one_is_none(wrong: Enrol) -> None:
    enrolment = Enrolment()
    enrolment.put([Code(number_of(b"s" * 10), key_of(b"s" * 10), "a", None, EXPIRES_S)])
    with pytest.raises(EnrolmentError, match="get another with `loa enrol`"):
        enrolment.check(wrong, NONCE, TLS_HASH, 0)
    assert len(enrolment.codes) == 1


def test_guesses_are_bounded_and_who_knows_a_code_is_never_held_up() -> None:
    enrolment = Enrolment()
    issued = issue(enrolment, *(f"n{number}" for number in range(1000)))
    for _ in range(50):
        with pytest.raises(EnrolmentError):
            enrolment.check(enrol(b"x" * 10), NONCE, TLS_HASH, 0)
    with pytest.raises(TooManyStrangersError):
        enrolment.check(enrol(b"x" * 10), NONCE, TLS_HASH, 0)
    for code, secret in issued:
        assert enrolment.check(enrol(secret), NONCE, TLS_HASH, 0) == code
    with pytest.raises(EnrolmentError):  # a tenth of a second is worth one guess
        enrolment.check(enrol(b"x" * 10), NONCE, TLS_HASH, S // 10)


# ------------------------------------------------------------------ one at a time
def test_a_code_in_use_is_for_nobody_else() -> None:
    enrolment = Enrolment()
    (issued,) = issue(enrolment, "market")
    enrolment.hold(issued.code, b"1" * 32)
    enrolment.hold(issued.code, b"1" * 32)  # the same one, again
    with pytest.raises(EnrolmentError, match="another loudspeaker") as error:
        enrolment.hold(issued.code, b"2" * 32)
    assert not error.value.final
    assert enrolment.expired(EXPIRES_S) == []
    enrolment.release(issued.code)
    enrolment.hold(issued.code, b"2" * 32)


def test_a_code_that_was_used_is_gone() -> None:
    enrolment = Enrolment()
    (issued,) = issue(enrolment, "market")
    enrolment.hold(issued.code, b"1" * 32)
    enrolment.spend(issued.code.number)
    enrolment.spend(issued.code.number)
    assert not enrolment.has(issued.code)
    with pytest.raises(EnrolmentError, match="was used") as error:
        enrolment.hold(issued.code, b"1" * 32)
    assert error.value.final


# ------------------------------------------------------------------ who waits
def test_who_waits_is_found_by_the_fingerprint_however_it_is_typed() -> None:
    enrolment = Enrolment()
    (issued,) = issue(enrolment, "")
    key = SigningKey(b"1" * 32).public
    enrolment.wait(waiting(issued.code, key))
    shown = shown_fingerprint(key)
    for typed in (shown, shown.lower(), shown.replace("-", " "), shown.replace("-", "")):
        assert enrolment.waiting_as(typed).key == key
    for typed in ("", shown[:-1], f"{shown}A", shown_fingerprint(b"2" * 32)):
        with pytest.raises(NoSuchError, match="loa enrol list"):
            enrolment.waiting_as(typed)


def test_who_goes_may_come_back_with_its_code_or_another_instead_of_it() -> None:
    enrolment = Enrolment()
    (issued,) = issue(enrolment, "")
    enrolment.wait(waiting(issued.code, b"1" * 32))
    with pytest.raises(EnrolmentError, match="another loudspeaker"):
        enrolment.wait(waiting(issued.code, b"2" * 32))
    enrolment.leave(b"1" * 32)
    enrolment.leave(b"1" * 32)
    enrolment.wait(waiting(issued.code, b"2" * 32))
    assert [w.key for w in enrolment.waiting] == [b"2" * 32]


def test_who_waits_with_another_code_gives_the_first_back() -> None:
    enrolment = Enrolment()
    one, two = issue(enrolment, "", "")
    enrolment.wait(waiting(one.code, b"1" * 32))
    enrolment.wait(waiting(two.code, b"1" * 32))
    enrolment.hold(one.code, b"2" * 32)
    assert len(enrolment.waiting) == 1


def test_what_is_decided_is_over_and_the_code_with_it() -> None:
    enrolment = Enrolment()
    (issued,) = issue(enrolment, "")
    who = waiting(issued.code, b"1" * 32)
    enrolment.wait(who)
    enrolment.decide(who)
    assert (enrolment.waiting, enrolment.codes) == ((), ())
    assert not enrolment.is_waiting(who.key)
    enrolment.leave(who.key)  # its session is over


def test_who_waits_is_bounded() -> None:
    enrolment = Enrolment()
    issued = issue(enrolment, *itertools.repeat("", MAX_WAITING + 1))
    for number, (code, _) in enumerate(issued[:-1]):
        enrolment.wait(waiting(code, number.to_bytes(32)))
    with pytest.raises(EnrolmentError, match=f"{MAX_WAITING} loudspeakers wait") as error:
        enrolment.wait(waiting(issued[-1].code, b"x" * 32))
    assert not error.value.final
    enrolment.wait(waiting(issued[0].code, (0).to_bytes(32)))  # one of them, again


@pytest.mark.parametrize(("number", "key"), [(b"123", b"k" * 32), (b"1234", b"k" * 31)])
def test_a_code_that_cannot_be_is_a_mistake(number: bytes, key: bytes) -> None:
    with pytest.raises(ValueError, match="4 bytes and a hash of 32"):
        Code(number, key, "a", None, 1)
