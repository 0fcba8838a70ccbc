"""Who is at the other end of a control session, and what of its words are its own.

The station shows itself in the clear of its TLS session (`Identity`); the loudspeaker recognises it
and proves its own key in the frame of its first word. From then on each word of the station is
numbered and signed for this loudspeaker and this session alone: what was recorded is good for
nobody else and at no other time. What the loudspeaker says later is bare, for TLS joins it to the
proof. PROTOCOL: `signature(64) body` of the loudspeaker, `number(8) signature(64) body` of the
station, each one WebSocket frame.
"""

import hmac
from dataclasses import dataclass
from typing import Final

from transport.control.messages import Identity
from transport.control.wire import MAX_MESSAGE_BYTES
from transport.errors import MalformedPacket
from transport.security.certificates import StationCertificate, check_tls
from transport.security.keys import (
    FINGERPRINT_BYTES,
    PUBLIC_BYTES,
    SIGNATURE_BYTES,
    BadKey,
    SigningKey,
    VerifyKey,
    fingerprint,
)

_NUMBER_BYTES = 8
_SPEECH_HEAD_BYTES = _NUMBER_BYTES + SIGNATURE_BYTES
MAX_FRAME_BYTES: Final = MAX_MESSAGE_BYTES + _SPEECH_HEAD_BYTES
_PROOF_DOMAIN, _SPEECH_DOMAIN = "loa.proof.2", "loa.speech.2"


def prove(key: SigningKey, station_nonce: bytes, tls_hash: bytes, body: bytes) -> bytes:
    """The frame of a loudspeaker's first word: `body`, and the proof that `key` is its own.

    It holds in this TLS session and for this nonce only.
    """
    _check_body(body)
    return key.sign(_PROOF_DOMAIN, station_nonce, tls_hash, body) + body


def split(frame: bytes) -> tuple[bytes, bytes]:
    """The (signature, body) of a first word, both unproven; MalformedPacket("message_size")."""
    if not SIGNATURE_BYTES < len(frame) <= SIGNATURE_BYTES + MAX_MESSAGE_BYTES:
        raise MalformedPacket("message_size")
    return frame[:SIGNATURE_BYTES], frame[SIGNATURE_BYTES:]


def check_proof(
    public: bytes, signature: bytes, station_nonce: bytes, tls_hash: bytes, body: bytes
) -> None:
    """Return if the holder of `public` said `body` in this session.

    MalformedPacket("signature") otherwise, also where `public` is no key at all: it comes from the
    body itself.
    """
    try:
        key = VerifyKey(public)
    except BadKey as error:
        raise MalformedPacket("signature") from error
    key.verify(signature, _PROOF_DOMAIN, station_nonce, tls_hash, body)


def _check_body(body: bytes) -> None:
    if not 0 < len(body) <= MAX_MESSAGE_BYTES:
        raise ValueError(f"a message has 1 to {MAX_MESSAGE_BYTES} bytes, not {len(body)}")


class Speech:
    """The station's side of one session: frames what it says, in order.

    `endpoint` is the loudspeaker's public key; the nonces are those of `Hello` or `Enrol`, and of
    `Identity`.
    """

    __slots__ = ("_number", "_session", "_station")

    def __init__(
        self, station: SigningKey, endpoint: bytes, endpoint_nonce: bytes, station_nonce: bytes
    ) -> None:
        self._station = station
        self._session = (endpoint, endpoint_nonce, station_nonce)
        self._number = 0

    def say(self, body: bytes) -> bytes:
        """The next frame; it must be sent before the one after it. ValueError for its size."""
        _check_body(body)
        self._number += 1
        number = self._number.to_bytes(_NUMBER_BYTES)
        return number + self._station.sign(_SPEECH_DOMAIN, *self._session, number, body) + body


class Ear:
    """The loudspeaker's side of the same session: takes only what comes next, and was said to it.

    The arguments are those of `Speech`. After an error the session is over: what follows would be
    out of order.
    """

    __slots__ = ("_next", "_session", "_station")

    def __init__(
        self, station: VerifyKey, endpoint: bytes, endpoint_nonce: bytes, station_nonce: bytes
    ) -> None:
        self._station = station
        self._session = (endpoint, endpoint_nonce, station_nonce)
        self._next = 1

    def hear(self, frame: bytes) -> bytes:
        """The body of the next frame; MalformedPacket for any other, which changes nothing."""
        if not _SPEECH_HEAD_BYTES < len(frame) <= MAX_FRAME_BYTES:
            raise MalformedPacket("message_size")
        number, body = frame[:_NUMBER_BYTES], frame[_SPEECH_HEAD_BYTES:]
        if number != self._next.to_bytes(_NUMBER_BYTES):
            raise MalformedPacket("message_number")
        signature = frame[_NUMBER_BYTES:_SPEECH_HEAD_BYTES]
        self._station.verify(signature, _SPEECH_DOMAIN, *self._session, number, body)
        self._next += 1
        return body


@dataclass(frozen=True, slots=True)
class TrustedStation:
    """What a loudspeaker keeps of its station: the root's public key, the highest generation."""

    root: bytes
    generation: int

    def __post_init__(self) -> None:
        if len(self.root) != PUBLIC_BYTES or not 0 <= self.generation < 1 << 64:
            raise BadKey("a station is known by a root key of 32 bytes and a generation")


def recognise(
    identity: Identity, tls_hash: bytes, trusted: bytes, least_generation: int
) -> StationCertificate:
    """The certificate of the station that showed `identity`, if it is the one to be trusted.

    `tls_hash` is of the TLS certificate that this session really has; `trusted` the root's public
    key (32 bytes), or its fingerprint (16) as a code tells it; BadKey for any other length.
    MalformedPacket "certificate", "root", "generation" or "tls_binding" says what is wrong.
    """
    if len(trusted) not in (PUBLIC_BYTES, FINGERPRINT_BYTES):
        raise BadKey("a root is known by its key of 32 bytes or its fingerprint of 16")
    certificate = StationCertificate.parse(identity.certificate)
    root = certificate.root if len(trusted) == PUBLIC_BYTES else fingerprint(certificate.root)
    if not hmac.compare_digest(root, trusted):
        raise MalformedPacket("root")
    if certificate.generation < least_generation:
        raise MalformedPacket("generation")
    check_tls(VerifyKey(certificate.public), identity.binding, tls_hash, identity.nonce)
    return certificate
