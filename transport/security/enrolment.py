"""A one-time code: how a loudspeaker that knows nothing finds its station, and is let in.

It carries where the station is, by which fingerprint its root is known, and a secret of 80 bits.
So the loudspeaker knows the station before it says anything, and the station knows that whoever
comes was given the code.
"""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final

from transport.control.address import StationAddress
from transport.errors import MalformedPacket
from transport.security.keys import FINGERPRINT_BYTES, grouped
from transport.transcript import transcript

SECRET_BYTES: Final = 10
_CHECK_BYTES = 2
_NUMBER_BYTES = 4
_CHARACTERS = -(-(FINGERPRINT_BYTES + SECRET_BYTES + _CHECK_BYTES) * 8 // 5)  # of five bits
_MAX_TEXT = 512
_SCHEME = "loa:"
# Hyphens as keyboards and word processors make them.
_HYPHENS = re.compile("[-\u00ad\u2010-\u2015\u2212]")
_BASE32 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
# Base32 has none of these digits because they look like these letters.
_LOOKALIKES = str.maketrans("018", "OIB")
_NUMBER_DOMAIN, _KEY_DOMAIN, _MAC_DOMAIN = "loa.code-number.2", "loa.code-key.2", "loa.enrolment.2"


def number_of(secret: bytes) -> bytes:
    """By which 4 bytes a code is found among the station's codes; it tells little of the secret."""
    return hashlib.sha256(transcript(_NUMBER_DOMAIN, secret)).digest()[:_NUMBER_BYTES]


def key_of(secret: bytes) -> bytes:
    """All that the station keeps of a code's secret: the 32 bytes that check its proof."""
    return hashlib.sha256(transcript(_KEY_DOMAIN, secret)).digest()


@dataclass(frozen=True, slots=True)
class EnrolmentCode:
    """`secret` is 10 random bytes, used for one loudspeaker; it stays out of logs."""

    server: StationAddress
    root_fingerprint: bytes
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.root_fingerprint) != FINGERPRINT_BYTES or len(self.secret) != SECRET_BYTES:
            raise ValueError("a code has a fingerprint of 16 bytes and a secret of 10")

    @property
    def text(self) -> str:
        """`loa:HOST:PORT/ABCDE-...`: base32 (RFC 4648 section 6) in nine groups of five."""
        return f"{_SCHEME}{self.server.text}/{grouped(self._characters)}"

    @property
    def number(self) -> bytes:
        """See `number_of`."""
        return number_of(self.secret)

    @property
    def key(self) -> bytes:
        """See `key_of`."""
        return key_of(self.secret)

    @property
    def _characters(self) -> str:
        data = self.root_fingerprint + self.secret
        return base64.b32encode(data + _checksum(data)).decode("ascii").rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "EnrolmentCode":
        """As a person typed it: any case, spaces and hyphens anywhere in the last part.

        ValueError says in one line what is wrong, and never quotes the secret.
        """
        if len(text) > _MAX_TEXT:
            raise ValueError("this is too long for a code: use loa:HOST:PORT/LETTERS")
        packed = "".join(text.split())
        address, slash, letters = packed[len(_SCHEME) :].partition("/")
        if not packed.lower().startswith(_SCHEME) or not slash:
            raise ValueError("this is no code: it begins with loa:HOST:PORT/")
        server = StationAddress.parse(address)
        data = _decoded(_HYPHENS.sub("", letters))
        return cls(server, data[:FINGERPRINT_BYTES], data[FINGERPRINT_BYTES:])


def _decoded(letters: str) -> bytes:
    """Fingerprint and secret from the code's letters, once the checksum holds."""
    if len(letters) != _CHARACTERS:
        raise ValueError(
            f"a code has {_CHARACTERS} letters and digits after the slash, not {len(letters)}"
        )
    plain = letters.upper().translate(_LOOKALIKES)
    # Outside ASCII, upper case may be another number of letters.
    if not letters.isascii() or not _BASE32.issuperset(plain):
        raise ValueError("a code has only letters and the digits 2 to 7")
    data = base64.b32decode(plain + "=" * (-_CHARACTERS % 8))
    body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    # The last letter has a bit to spare, which a decoder ignores.
    spelt = base64.b32encode(data).decode("ascii").rstrip("=") == plain
    if not spelt or check != _checksum(body):
        raise ValueError("a letter of this code is wrong: compare it with what the station showed")
    return body


def _checksum(data: bytes) -> bytes:
    # A CRC of 16 bits (polynomial 0x1021) finds every error that spans 16 bits or fewer: each
    # wrong letter and each two that changed places. It defends against fingers, not foes.
    return binascii.crc_hqx(data, 0xFFFF).to_bytes(_CHECK_BYTES)


def enrolment_mac(
    key: bytes, station_nonce: bytes, tls_hash: bytes, endpoint_public: bytes
) -> bytes:
    """The proof that the code's secret is known, 32 bytes: for this session and this key only."""
    said = transcript(_MAC_DOMAIN, station_nonce, tls_hash, endpoint_public)
    return hmac.digest(key, said, "sha256")


def check_enrolment_mac(
    key: bytes, mac: bytes, station_nonce: bytes, tls_hash: bytes, endpoint_public: bytes
) -> None:
    """Return if `mac` is that proof, else MalformedPacket("code")."""
    expected = enrolment_mac(key, station_nonce, tls_hash, endpoint_public)
    if not hmac.compare_digest(mac, expected):
        raise MalformedPacket("code")
