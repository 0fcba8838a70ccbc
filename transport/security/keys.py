"""Ed25519 keys (RFC 8032), and the one way in which anything is signed.

A signature is made over a transcript: what it is for, and each part with its length. So a signature
made for one purpose is none for another, and bytes cannot be moved from one part to the next.
"""

import base64
import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from typing_extensions import override

from transport.errors import MalformedPacket
from transport.security.errors import BadKey
from transport.security.sealed_pem import seal_pkcs8
from transport.transcript import transcript

__all__ = ["BadKey", "SigningKey", "VerifyKey", "fingerprint", "shown_fingerprint"]

SEED_BYTES: Final = 32
PUBLIC_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
FINGERPRINT_BYTES: Final = 16
_GROUP = 5
_SIGN_BIT = 0x80
# The y coordinates of the eight points of small order, and the two of them that can be written a
# second way. Anybody can make "signatures" of such a key, and a key of zeros is one of them.
_SMALL_ORDER = frozenset(
    bytes.fromhex(y)
    for y in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


class SigningKey:
    """The private half of an Ed25519 key, from its seed of 32 bytes; `BadKey` for any other."""

    __slots__ = ("_key", "_public", "_seed")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise BadKey(f"a key's seed has {SEED_BYTES} bytes, not {len(seed)}")
        self._seed = bytes(seed)
        self._key = Ed25519PrivateKey.from_private_bytes(self._seed)
        self._public = self._key.public_key().public_bytes_raw()

    @override
    def __repr__(self) -> str:
        return f"SigningKey({shown_fingerprint(self._public)})"  # never the seed: it may be logged

    @property
    def seed(self) -> bytes:
        """The 32 bytes that are the whole secret."""
        return self._seed

    @property
    def public(self) -> bytes:
        """The public half, 32 bytes."""
        return self._public

    def sign(self, domain: str, *parts: bytes) -> bytes:
        """The signature of these parts for this purpose, 64 bytes."""
        return self._key.sign(transcript(domain, *parts))

    def to_pem(self) -> bytes:
        """As a file may keep it: PKCS 8 in PEM (RFC 8410), readable by whoever has the file."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def to_sealed_pem(self, passphrase: bytes) -> bytes:
        """As PEM that only the passphrase opens, with us or with openssl; takes about 0.2 s."""
        plain = self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return seal_pkcs8(plain, passphrase)

    @classmethod
    def from_pem(cls, pem: bytes, passphrase: bytes | None = None) -> "SigningKey":
        """From either kind of PEM; `BadKey` says in one line why that is not possible."""
        sealed = b"ENCRYPTED" in pem
        if sealed and not passphrase:
            raise BadKey("this key is sealed: its passphrase is needed")
        if passphrase and not sealed:
            raise BadKey("this key is not sealed: leave the passphrase out")
        try:
            key = load_pem_private_key(pem, passphrase if sealed else None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            if sealed:
                raise BadKey("the passphrase is wrong, or the key's file is damaged") from error
            raise BadKey("this file holds no private key in PEM (PKCS 8)") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise BadKey("this file holds a private key, but not one of Ed25519")
        return cls(key.private_bytes_raw())


class VerifyKey:
    """The public half of an Ed25519 key, 32 bytes; `BadKey` for any other length.

    `BadKey` as well for the few values for which anybody could sign. Keep the object where many
    signatures are verified.
    """

    __slots__ = ("_key", "_public")

    def __init__(self, public: bytes) -> None:
        if len(public) != PUBLIC_BYTES:
            raise BadKey(f"a public key has {PUBLIC_BYTES} bytes, not {len(public)}")
        self._public = bytes(public)
        if self._public[:-1] + bytes((self._public[-1] & ~_SIGN_BIT,)) in _SMALL_ORDER:
            raise BadKey("this public key is one for which anybody could sign")
        self._key = Ed25519PublicKey.from_public_bytes(self._public)

    @override
    def __repr__(self) -> str:
        return f"VerifyKey({shown_fingerprint(self._public)})"

    @property
    def public(self) -> bytes:
        """The key itself, 32 bytes."""
        return self._public

    def verify(self, signature: bytes, domain: str, *parts: bytes) -> None:
        """Return if the key's holder signed these parts for this purpose, else MalformedPacket."""
        if len(signature) != SIGNATURE_BYTES:
            raise MalformedPacket("signature")
        try:
            self._key.verify(signature, transcript(domain, *parts))
        except InvalidSignature as error:
            raise MalformedPacket("signature") from error


def fingerprint(public: bytes) -> bytes:
    """What a code can carry of a public key: the first 16 bytes of its SHA-256."""
    return hashlib.sha256(public).digest()[:FINGERPRINT_BYTES]


def shown_fingerprint(public: bytes) -> str:
    """A fingerprint for people: 26 characters of base32 (RFC 4648 section 6) in groups of five."""
    return grouped(base64.b32encode(fingerprint(public)).decode("ascii").rstrip("="))


def grouped(characters: str) -> str:
    """These characters in groups of five, with hyphens between."""
    return "-".join(characters[at : at + _GROUP] for at in range(0, len(characters), _GROUP))
