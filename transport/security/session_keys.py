"""What one session may do outside its TLS: ask the time, open its path, come to the gateway.

Each session has a key of its own, derived from a secret that the station draws whenever it starts:
each of its processes can work any of them out, and none has to be told.
"""

import hmac
import re
import struct
from typing import Final

from transport.clock.exchange import PACKET_BYTES
from transport.errors import MalformedPacket
from transport.security.errors import BadKey
from transport.security.keys import transcript

SESSION_KEY_BYTES: Final = 32
_SESSION = struct.Struct("!Q")
_MAC_BYTES = 16  # RFC 2104 section 5: half of the hash, and no fewer than 80 bits
_SIGNED_BYTES = PACKET_BYTES + _SESSION.size
TIME_BYTES: Final = _SIGNED_BYTES + _MAC_BYTES
_SESSION_DIGITS = 16
_TOKEN = re.compile("[0-9a-f]{80}")
# What the key authenticates under STUN begins with a zero byte or a one, these with a letter.
_KEY_DOMAIN, _TIME_DOMAIN, _TOKEN_DOMAIN = "loa.session-key.2", "loa.time.2", "loa.gateway.2"


def session_key(secret: bytes, session: int) -> bytes:
    """The key of a session, 32 bytes; `secret` has 32 bytes or more, or BadKey."""
    if len(secret) < SESSION_KEY_BYTES:
        raise BadKey(f"the secret of sessions has {SESSION_KEY_BYTES} bytes or more")
    return hmac.digest(secret, transcript(_KEY_DOMAIN, _SESSION.pack(session)), "sha256")


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
