"""A private key under a passphrase: PBES2 in PKCS 8 (RFC 8018 section 6.2), as openssl writes it.

The library's own writer takes no number of rounds, and its 2,048 are few for a passphrase of a
person. Reading needs nothing of ours: every reader of PKCS 8 takes the rounds from the file.
"""

import base64
import hashlib
import hmac
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from transport.security.errors import BadKey

ROUNDS: Final = 600_000
_SALT_BYTES, _IV_BYTES, _KEY_BYTES = 16, 16, 32
_LINE = 64  # RFC 7468 section 2
_INTEGER, _OCTETS, _NULL, _OID, _SEQUENCE = 0x02, 0x04, 0x05, 0x06, 0x30
# Object identifiers as DER writes them (RFC 8018 appendix C).
_PBES2 = bytes.fromhex("2a864886f70d01050d")
_PBKDF2 = bytes.fromhex("2a864886f70d01050c")
_HMAC_SHA256 = bytes.fromhex("2a864886f70d0209")
_AES256_CBC = bytes.fromhex("60864801650304012a")


def seal_pkcs8(plain: bytes, passphrase: bytes) -> bytes:
    """The PEM of a PKCS 8 key, given as DER, under this passphrase; BadKey if that is empty.

    Salt and initialisation vector are derived from the key and the passphrase together (as
    RFC 6979 does for nonces): to whoever does not know the key they are as good as drawn, and the
    same key under the same passphrase is the same file.
    """
    if not passphrase:
        raise BadKey("a key is sealed with a passphrase that is not empty")
    drawn = hmac.digest(plain, b"loa.sealed-pem.2\0" + passphrase, "sha256")
    salt, vector = drawn[:_SALT_BYTES], drawn[_SALT_BYTES : _SALT_BYTES + _IV_BYTES]
    key = hashlib.pbkdf2_hmac("sha256", passphrase, salt, ROUNDS, _KEY_BYTES)
    padder = PKCS7(AES256.block_size).padder()
    encryptor = Cipher(AES256(key), CBC(vector)).encryptor()
    padded = padder.update(plain) + padder.finalize()
    return _pem(_der(_SEQUENCE, _algorithm(salt, vector), _der(_OCTETS, encryptor.update(padded))))


def _algorithm(salt: bytes, vector: bytes) -> bytes:
    pseudorandom = _der(_SEQUENCE, _der(_OID, _HMAC_SHA256), _der(_NULL))
    # A byte more than the number needs, at the most, keeps it positive (X.690 section 8.3).
    rounds = _der(_INTEGER, ROUNDS.to_bytes(ROUNDS.bit_length() // 8 + 1))
    derivation = _der(
        _SEQUENCE,
        _der(_OID, _PBKDF2),
        _der(_SEQUENCE, _der(_OCTETS, salt), rounds, pseudorandom),
    )
    scheme = _der(_SEQUENCE, _der(_OID, _AES256_CBC), _der(_OCTETS, vector))
    return _der(_SEQUENCE, _der(_OID, _PBES2), _der(_SEQUENCE, derivation, scheme))


def _der(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def _pem(der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    begin, end = b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"-----END ENCRYPTED PRIVATE KEY-----"
    return b"\n".join((begin, *lines, end, b""))
