"""What one session may do outside its TLS: ask the time, open its path, come to the gateway.

Each session has a key of its own, derived from a secret that the station draws whenever it starts:
each of its processes can work any of them out, and none has to be told. A key is good for as long
as the station runs, so the number of a session says whose it is (40 bits) and which of that
loudspeaker's is the newest (24 bits): one loudspeaker has one place anywhere, however many keys it
has collected.
"""

import hashlib
import hmac
import re
import struct
from typing import Final

from transport.clock.exchange import PACKET_BYTES
from transport.errors import MalformedPacket
from transport.security.errors import BadKey
from transport.transcript import transcript

SESSION_KEY_BYTES: Final = 32
_SESSION = struct.Struct("!Q")
_MAC_BYTES = 16  # RFC 2104 section 5: half of the hash, and no fewer than 80 bits
_SIGNED_BYTES = PACKET_BYTES + _SESSION.size
TIME_BYTES: Final = _SIGNED_BYTES + _MAC_BYTES
_SESSION_DIGITS = 16
_SERIAL_BITS = 24
_SERIALS = 1 << _SERIAL_BITS
_HOLDER_BYTES = _SESSION.size - _SERIAL_BITS // 8
# Sixteen serials a second: a loudspeaker seldom begins two sessions within one.
_SERIAL_NS = 1_000_000_000 // 16
_TOKEN = re.compile("[0-9a-f]{80}")
# What the key authenticates under STUN begins with a zero byte or a one, these with a letter.
_KEY_DOMAIN, _TIME_DOMAIN, _TOKEN_DOMAIN = "loa.session-key.2", "loa.time.2", "loa.gateway.2"


def session_key(secret: bytes, session: int) -> bytes:
    """The key of a session, 32 bytes; `secret` has 32 bytes or more, or BadKey."""
    if len(secret) < SESSION_KEY_BYTES:
        raise BadKey(f"the secret of sessions has {SESSION_KEY_BYTES} bytes or more")
    return hmac.digest(secret, transcript(_KEY_DOMAIN, _SESSION.pack(session)), "sha256")


def session_number(public: bytes, now_ns: int, before: int = 0) -> int:
    """The number of a new session of the endpoint with this public key, 64 bits and never 0.

    Its serial is the media clock `now_ns` in 1/16 s, modulo 2^24. `before` is the number of that
    endpoint's last session, or 0: what the clock makes no newer than that, because it is as quick
    or because the serials have come round, is the one after it.
    """
    holder = int.from_bytes(hashlib.sha256(public).digest()[:_HOLDER_BYTES])
    number = _numbered(holder, now_ns // _SERIAL_NS)
    if holder_of(before) == holder and not is_newer(number, before):
        number = _numbered(holder, before + 1)
    return number or 1


def _numbered(holder: int, serial: int) -> int:
    return holder << _SERIAL_BITS | serial % _SERIALS


def holder_of(session: int) -> int:
    """Whose a session is: the first 40 bits of SHA-256 of the endpoint's public key."""
    return session >> _SERIAL_BITS


def is_newer(session: int, other: int) -> bool:
    """Whether a session began after another of the same holder: serial numbers by RFC 1982.

    Of two that are exactly half the serials apart neither is newer (section 3.2 leaves it open).
    """
    return 0 < (session - other) % _SERIALS < _SERIALS // 2


def seal_time(packet: bytes, session: int, key: bytes) -> bytes:
    """An NTP packet of 48 bytes as a loudspeaker's session says it, request or reply: 72 bytes."""
    if len(packet) != PACKET_BYTES:
        raise ValueError(f"a time packet has {PACKET_BYTES} bytes, not {len(packet)}")
    signed = packet + _SESSION.pack(session)
    return signed + _time_mac(signed, key)


def time_session(data: bytes) -> int | None:
    """The session that a packet of 72 bytes says it is of; None for any other length."""
    if len(data) != TIME_BYTES:
        return None
    session: int = _SESSION.unpack_from(data, PACKET_BYTES)[0]
    return session


def open_time(data: bytes, session: int, key: bytes) -> bytes:
    """The NTP packet of 48 bytes inside; MalformedPacket("time_mac") if it is not of the session.

    Request and reply are told apart by the packet's own mode (RFC 5905 section 7.3).
    """
    if time_session(data) != session:
        raise MalformedPacket("time_mac")
    if not hmac.compare_digest(data[_SIGNED_BYTES:], _time_mac(data[:_SIGNED_BYTES], key)):
        raise MalformedPacket("time_mac")
    return data[:PACKET_BYTES]


def _time_mac(signed: bytes, key: bytes) -> bytes:
    return hmac.digest(key, transcript(_TIME_DOMAIN, signed), "sha256")[:_MAC_BYTES]


def gateway_token(session: int, key: bytes) -> str:
    """What a session shows to the gateway, by TLS only: 80 hexadecimal digits."""
    return _SESSION.pack(session).hex() + _token_mac(session, key).hex()


def check_gateway_token(token: str, secret: bytes) -> int:
    """The session whose token this is; MalformedPacket("token") if it is none's.

    That the session is still there is for the caller to know.
    """
    if not _TOKEN.fullmatch(token):
        raise MalformedPacket("token")
    session = int(token[:_SESSION_DIGITS], 16)
    expected = _token_mac(session, session_key(secret, session))
    if not hmac.compare_digest(bytes.fromhex(token[_SESSION_DIGITS:]), expected):
        raise MalformedPacket("token")
    return session


def _token_mac(session: int, key: bytes) -> bytes:
    return hmac.digest(key, transcript(_TOKEN_DOMAIN, _SESSION.pack(session)), "sha256")
