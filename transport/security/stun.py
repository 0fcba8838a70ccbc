"""The little of STUN (RFC 8489) with which a loudspeaker opens the path to its media port.

Binding requests with USERNAME (the session's number, 16 hexadecimal digits), and after a challenge
the NONCE of it; success with XOR-MAPPED-ADDRESS; error 438 with a NONCE. MESSAGE-INTEGRITY-
SHA256 under the session's key is the last attribute of each, error answers included. There is no
REALM and no FINGERPRINT: both ends are ours, and nothing else comes to that socket.
"""

import hmac
import ipaddress
import struct
from dataclasses import dataclass, field
from typing import Final

from transport.errors import MalformedPacket

_HEAD = struct.Struct("!HHI12s")  # type, length of what follows, cookie, transaction (section 5)
_ATTRIBUTE = struct.Struct("!HH")  # type, length without padding (section 14)
_ADDRESS = struct.Struct("!xBH")  # family, port; the address follows (section 14.1)
MAGIC_COOKIE: Final = 0x2112_A442
TRANSACTION_BYTES: Final = 12
MAX_NONCE_BYTES: Final = 127  # "fewer than 128 characters" (section 14.10)
MAX_STUN_BYTES: Final = 548  # what surely passes whole (section 6.1)
_REQUEST, _SUCCESS, _ERROR = 0x0001, 0x0101, 0x0111
_USERNAME, _ERROR_CODE, _NONCE = 0x0006, 0x0009, 0x0015
_INTEGRITY, _XOR_MAPPED = 0x001C, 0x0020
_KNOWN = frozenset((_USERNAME, _ERROR_CODE, _NONCE, _INTEGRITY, _XOR_MAPPED))
_OPTIONAL = 0x8000  # from here on attributes may be skipped (section 14)
_MAC_BYTES = 32
_IPV4, _IPV6 = 0x01, 0x02
_ADDRESS_BYTES = {_IPV4: 4, _IPV6: 16}
# Class 4, number 38 and an empty reason (section 14.8): with a nonce of 8 bytes the challenge is no
# longer than the request, whose address may be forged.
_STALE_NONCE = b"\0\0\4\x26"
_STALE_CODE = _STALE_NONCE[2:4]
_SESSION_DIGITS = 16
_DIGITS = frozenset(b"0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Request:
    """A Binding request that nobody has checked yet: `check_request` does, with the session's key.

    `covered` is what its integrity covers, `integrity` the code itself.
    """

    transaction: bytes
    session: int
    nonce: bytes | None
    covered: bytes = field(repr=False)
    integrity: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mapped:
    """The path is open: the station sees us at this address."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Challenge:
    """The station does not know this address: say the request again, with this nonce."""

    nonce: bytes


@dataclass(frozen=True, slots=True)
class _Parsed:
    kind: int
    transaction: bytes
    attributes: dict[int, bytes]
    covered: bytes
    integrity: bytes


def is_stun(data: bytes) -> bool:
    """Whether a datagram says it is STUN: its first two bits are 0 and it has the cookie.

    RTP and RTCP begin with the bits 10 (RFC 7983 section 7).
    """
    return len(data) >= _HEAD.size and data[0] < 0x40 and data[4:8] == MAGIC_COOKIE.to_bytes(4)


def request(transaction: bytes, session: int, key: bytes, nonce: bytes | None) -> bytes:
    """A Binding request; `transaction` is 12 random bytes, `nonce` that of a challenge or None."""
    attributes = _attribute(_USERNAME, session.to_bytes(8).hex().encode("ascii"))
    if nonce is not None:
        attributes += _nonce(nonce)
    return _message(_REQUEST, transaction, attributes, key)


def success(transaction: bytes, address: str, port: int, key: bytes) -> bytes:
    """The answer to the request of that transaction, which came from this IP address."""
    ip = ipaddress.ip_address(address)
    family = _IPV4 if ip.version == 4 else _IPV6
    mapped = _ADDRESS.pack(family, port ^ MAGIC_COOKIE >> 16) + _masked(ip.packed, transaction)
    return _message(_SUCCESS, transaction, _attribute(_XOR_MAPPED, mapped), key)


def stale(transaction: bytes, nonce: bytes, key: bytes) -> bytes:
    """The challenge: error 438 with the nonce to use."""
    attributes = _attribute(_ERROR_CODE, _STALE_NONCE) + _nonce(nonce)
    return _message(_ERROR, transaction, attributes, key)


def parse_request(data: bytes) -> Request:
    """A request, unchecked; MalformedPacket for what is none."""
    parsed = _parse(data)
    if parsed.kind != _REQUEST:
        raise MalformedPacket("stun_type")
    name = parsed.attributes.get(_USERNAME, b"")
    if len(name) != _SESSION_DIGITS or not _DIGITS.issuperset(name):
        raise MalformedPacket("stun_username")
    session = int(name, 16)
    nonce = parsed.attributes.get(_NONCE)
    return Request(parsed.transaction, session, nonce, parsed.covered, parsed.integrity)


def check_request(request: Request, key: bytes) -> None:
    """Return if whoever holds the session's key made it, else MalformedPacket."""
    _check_integrity(request.covered, request.integrity, key)


def parse_response(data: bytes, transaction: bytes, key: bytes) -> Mapped | Challenge:
    """What the station answered to the request of this transaction; MalformedPacket for all else.

    The caller forgets the transaction then: an answer counts once.
    """
    parsed = _parse(data)
    if parsed.transaction != transaction:
        raise MalformedPacket("stun_transaction")
    _check_integrity(parsed.covered, parsed.integrity, key)
    if parsed.kind == _SUCCESS:
        return _mapped(parsed.attributes.get(_XOR_MAPPED, b""), transaction)
    if parsed.kind != _ERROR:
        raise MalformedPacket("stun_type")
    nonce = parsed.attributes.get(_NONCE)
    if parsed.attributes.get(_ERROR_CODE, b"")[2:4] != _STALE_CODE or nonce is None:
        raise MalformedPacket("stun_error")
    return Challenge(nonce)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(kind, len(value)) + value + bytes(-len(value) % 4)


def _nonce(nonce: bytes) -> bytes:
    if not 0 < len(nonce) <= MAX_NONCE_BYTES:
        raise ValueError(f"a nonce has 1 to {MAX_NONCE_BYTES} bytes, not {len(nonce)}")
    return _attribute(_NONCE, nonce)


def _message(kind: int, transaction: bytes, attributes: bytes, key: bytes) -> bytes:
    if len(transaction) != TRANSACTION_BYTES:
        raise ValueError(f"a transaction has {TRANSACTION_BYTES} bytes, not {len(transaction)}")
    # The length that is authenticated counts the integrity attribute too (section 14.6).
    length = len(attributes) + _ATTRIBUTE.size + _MAC_BYTES
    covered = _HEAD.pack(kind, length, MAGIC_COOKIE, transaction) + attributes
    return covered + _attribute(_INTEGRITY, hmac.digest(key, covered, "sha256"))


def _parse(data: bytes) -> _Parsed:
    if not is_stun(data):
        raise MalformedPacket("stun_head")
    kind, length, _, transaction = _HEAD.unpack_from(data)
    if len(data) > MAX_STUN_BYTES or length != len(data) - _HEAD.size or length % 4:
        raise MalformedPacket("stun_length")
    attributes: dict[int, bytes] = {}
    at = _HEAD.size
    while at < len(data):
        if _INTEGRITY in attributes:  # what follows it would be nobody's word
            raise MalformedPacket("stun_attribute")
        number, value = _attribute_at(data, at)
        if number in attributes or (number < _OPTIONAL and number not in _KNOWN):
            raise MalformedPacket("stun_attribute")
        attributes[number] = value
        at += _ATTRIBUTE.size + len(value) + -len(value) % 4
    integrity = attributes.get(_INTEGRITY, b"")
    if len(integrity) != _MAC_BYTES:
        raise MalformedPacket("stun_integrity")
    covered = data[: -(_ATTRIBUTE.size + _MAC_BYTES)]
    return _Parsed(kind, transaction, attributes, covered, integrity)


def _attribute_at(data: bytes, at: int) -> tuple[int, bytes]:
    # The rest is a multiple of 4, so its head is there.
    number, length = _ATTRIBUTE.unpack_from(data, at)
    at += _ATTRIBUTE.size
    if length > len(data) - at:
        raise MalformedPacket("stun_length")
    if number == _NONCE and not 0 < length <= MAX_NONCE_BYTES:
        raise MalformedPacket("stun_nonce")
    return number, data[at : at + length]


def _check_integrity(covered: bytes, integrity: bytes, key: bytes) -> None:
    if not hmac.compare_digest(integrity, hmac.digest(key, covered, "sha256")):
        raise MalformedPacket("stun_integrity")


def _masked(address: bytes, transaction: bytes) -> bytes:
    """An address masked, or unmasked: one of IPv6 by the transaction too (section 14.2)."""
    mask = (MAGIC_COOKIE.to_bytes(4) + transaction)[: len(address)]
    return bytes(a ^ b for a, b in zip(address, mask, strict=True))


def _mapped(value: bytes, transaction: bytes) -> Mapped:
    if len(value) < _ADDRESS.size:
        raise MalformedPacket("stun_address")
    family, port = _ADDRESS.unpack_from(value)
    address = value[_ADDRESS.size :]
    if _ADDRESS_BYTES.get(family) != len(address):
        raise MalformedPacket("stun_address")
    ip = ipaddress.ip_address(_masked(address, transaction))
    return Mapped(str(ip), port ^ MAGIC_COOKIE >> 16)
