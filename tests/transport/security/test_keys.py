"""Ed25519 keys: what a signature is of, which keys are none, and files that a passphrase opens."""

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import MalformedPacket
from transport.security.keys import (
    BadKey,
    SigningKey,
    VerifyKey,
    fingerprint,
    shown_fingerprint,
)

SEED = bytes(range(32))
KEY = SigningKey(SEED)
VERIFY = VerifyKey(KEY.public)
PASSPHRASE = "mật khẩu của đài".encode()
SEALED = KEY.to_sealed_pem(PASSPHRASE)  # 0.2 s, so once
DOMAIN = "loa.test.2"
PARTS = st.lists(st.binary(max_size=40), max_size=4)
DOMAINS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def openssl(*arguments: str, pem: bytes) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["openssl", *arguments], input=pem, capture_output=True, check=False)


# ------------------------------------------------------------------ signatures
def test_a_seed_makes_the_public_key_of_rfc_8032() -> None:
    # Section 7.1, test 1.
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert SigningKey(seed).public == public


@given(PARTS)
def test_what_was_signed_is_verified(parts: list[bytes]) -> None:
    signature = KEY.sign(DOMAIN, *parts)
    assert len(signature) == 64
    VERIFY.verify(signature, DOMAIN, *parts)


def test_a_signature_is_no_good_for_another_purpose_part_or_key() -> None:
    signature = KEY.sign(DOMAIN, b"one", b"two")
    for verifier, domain, parts in (
        (VERIFY, "loa.test.3", (b"one", b"two")),
        (VERIFY, DOMAIN, (b"onet", b"wo")),
        (VERIFY, DOMAIN, (b"two", b"one")),
        (VERIFY, DOMAIN, (b"one",)),
        (VerifyKey(SigningKey(bytes(32)).public), DOMAIN, (b"one", b"two")),
    ):
        with pytest.raises(MalformedPacket) as refusal:
            verifier.verify(signature, domain, *parts)
        assert refusal.value.reason == "signature"


def test_each_flipped_bit_of_a_signature_is_refused() -> None:
    signature = KEY.sign(DOMAIN, b"text")
    for bit in range(512):
        wrong = (int.from_bytes(signature) ^ 1 << bit).to_bytes(64)
        with pytest.raises(MalformedPacket):
            VERIFY.verify(wrong, DOMAIN, b"text")


def test_a_signature_has_no_second_spelling() -> None:
    """S + L would verify where S is not compared with L (RFC 8032 section 5.1.7)."""
    signature = KEY.sign(DOMAIN, b"text")
    order = (1 << 252) + 27742317777372353535851937790883648493
    twin = int.from_bytes(signature[32:], "little") + order
    with pytest.raises(MalformedPacket):
        VERIFY.verify(signature[:32] + twin.to_bytes(32, "little"), DOMAIN, b"text")


@given(st.binary(max_size=80), st.binary(min_size=32, max_size=32))
def test_any_bytes_for_a_signature_or_a_key_are_refused_as_such(data: bytes, public: bytes) -> None:
    with pytest.raises(MalformedPacket):
        VERIFY.verify(data, DOMAIN)
    try:
        key = VerifyKey(public)
    except BadKey:
        return
    with pytest.raises(MalformedPacket):
        key.verify(data.ljust(64, b"\0")[:64], DOMAIN)


# ------------------------------------------------------------------ keys that are none
def test_every_key_for_which_anybody_could_sign_is_refused() -> None:
    """With either sign, in either spelling.

    The curve is -x²+y² = 1+d·x²y²: y is 1, -1 or 0 at the points of order 1, 2 and 4, and at those
    of order 8, whose doubles have y = 0, d·y⁴+2y²-1 = 0.
    """
    prime = (1 << 255) - 19
    d = -121665 * pow(121666, -1, prime) % prime
    eighth = int.from_bytes(
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
    )
    for y in (eighth, prime - eighth):
        assert (d * y**4 + 2 * y**2 - 1) % prime == 0
    for y in (0, 1, prime - 1, prime, prime + 1, eighth, prime - eighth):
        for sign in (0, 1 << 255):
            with pytest.raises(BadKey, match="anybody could sign"):
                VerifyKey((y | sign).to_bytes(32, "little"))


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_of_another_length_is_a_bad_key(length: int) -> None:
    with pytest.raises(BadKey, match="32 bytes"):
        SigningKey(bytes(length))
    with pytest.raises(BadKey, match="32 bytes"):
        VerifyKey(bytes(length))


def test_a_key_that_is_printed_does_not_tell_its_seed() -> None:
    assert SEED.hex() not in repr(KEY)
    assert repr(KEY) == f"SigningKey({shown_fingerprint(KEY.public)})"
    assert repr(VERIFY) == f"VerifyKey({shown_fingerprint(KEY.public)})"


def test_a_fingerprint_is_shown_as_26_characters_in_groups() -> None:
    shown = shown_fingerprint(KEY.public)
    assert [len(group) for group in shown.split("-")] == [5, 5, 5, 5, 5, 1]
    assert len(fingerprint(KEY.public)) == 16


# ------------------------------------------------------------------ files
def test_a_key_survives_both_kinds_of_file() -> None:
    assert SigningKey.from_pem(KEY.to_pem()).seed == SEED
    assert SigningKey.from_pem(SEALED, PASSPHRASE).seed == SEED


@pytest.mark.parametrize(
    ("pem", "passphrase", "line"),
    [
        (SEALED, b"mat khau", "the passphrase is wrong, or the key's file is damaged"),
        (SEALED, None, "this key is sealed: its passphrase is needed"),
        (SEALED, b"", "this key is sealed: its passphrase is needed"),
        (SEALED[:150], PASSPHRASE, "the passphrase is wrong, or the key's file is damaged"),
        (KEY.to_pem(), PASSPHRASE, "this key is not sealed: leave the passphrase out"),
        (KEY.to_pem()[:60], None, "this file holds no private key in PEM (PKCS 8)"),
        (b"", None, "this file holds no private key in PEM (PKCS 8)"),
    ],
)
def test_a_key_that_cannot_be_read_is_told_in_one_line(
    pem: bytes, passphrase: bytes | None, line: str
) -> None:
    with pytest.raises(BadKey) as refusal:
        SigningKey.from_pem(pem, passphrase)
    assert str(refusal.value) == line


def test_a_key_of_another_kind_is_told_in_one_line() -> None:
    pem = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with pytest.raises(BadKey, match="not one of Ed25519"):
        SigningKey.from_pem(pem)


@given(st.binary(max_size=300))
def test_any_bytes_for_a_key_file_are_a_bad_key(data: bytes) -> None:
    with pytest.raises(BadKey):
        SigningKey.from_pem(data)


@given(st.integers(0, len(KEY.to_pem()) - 1), st.integers(0, 255))
def test_a_damaged_key_file_is_a_bad_key_or_a_key(at: int, value: int) -> None:
    pem = bytearray(KEY.to_pem())
    pem[at] = value
    with suppress(BadKey):
        assert len(SigningKey.from_pem(bytes(pem)).seed) == 32


def test_a_key_is_not_sealed_with_nothing() -> None:
    with pytest.raises(BadKey, match="not empty"):
        KEY.to_sealed_pem(b"")


@needs_openssl
def test_openssl_opens_a_sealed_key_with_its_passphrase_alone(tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_bytes(PASSPHRASE)
    opened = openssl("pkey", "-passin", f"file:{secret}", pem=SEALED)
    assert opened.stdout == KEY.to_pem()
    assert openssl("pkey", "-passin", "pass:mat khau", pem=SEALED).returncode != 0


@needs_openssl
def test_openssl_says_how_a_key_is_sealed() -> None:
    said = openssl("asn1parse", pem=SEALED).stdout
    for word in (b":PBES2", b":PBKDF2", b":hmacWithSHA256", b":aes-256-cbc", b":0927C0"):
        assert word in said  # 0x927C0 is 600,000


def test_what_seals_a_key_differs_with_key_and_passphrase() -> None:
    """Salt and vector are derived, so that they must never be the same for two of either."""
    assert KEY.to_sealed_pem(PASSPHRASE + b".") != SEALED
    salts = {
        pem.splitlines()[1][:64] for pem in (SEALED, SigningKey(bytes(32)).to_sealed_pem(b"x"))
    }
    assert len(salts) == 2
