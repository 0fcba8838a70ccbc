"""The head of the log: how far it goes and what its hash is, signed by the root's delegate. Pure.

The root certifies the station's key, that certifies the key of the log, and that signs heads: as
with streams, whoever has the key of the log alone can sign nothing else.
"""

import struct
from dataclasses import dataclass
from typing import Final, Literal

from server.audit.row import HASH_BYTES, Tail, instant
from transport.errors import MalformedPacket
from transport.security.certificates import StationCertificate
from transport.security.errors import BadKey
from transport.security.keys import SIGNATURE_BYTES, SigningKey, VerifyKey

Kind = Literal["kept", "closing", "cut"]
"""A head kept in the log, the one that closes an export, one up to which rows were cut off."""

# generation of the station's key, serial, public
_DELEGATE = struct.Struct("!QQ32s")
DELEGATE_BYTES: Final = _DELEGATE.size + SIGNATURE_BYTES
_DELEGATE_DOMAIN, _HEAD_DOMAIN = "loa.audit-certificate.1", "loa.audit-head.1"


@dataclass(frozen=True, slots=True)
class Delegate:
    """The station's key of this generation says: `public` signs heads of the audit log.

    `serial` says which of the station's lives drew it.
    """

    generation: int
    serial: int
    public: bytes
    signature: bytes

    @classmethod
    def issue(cls, station: SigningKey, generation: int, serial: int, public: bytes) -> "Delegate":
        """The certificate of a log's key; `BadKey` if `public` is no key."""
        said = _DELEGATE.pack(generation, serial, VerifyKey(public).public)
        return cls(generation, serial, public, station.sign(_DELEGATE_DOMAIN, said))

    def serialise(self) -> bytes:
        """DELEGATE_BYTES bytes."""
        return _DELEGATE.pack(self.generation, self.serial, self.public) + self.signature

    @classmethod
    def parse(cls, data: bytes, station: StationCertificate) -> "Delegate":
        """One that this station key certified; MalformedPacket("delegate") for all else."""
        if len(data) != DELEGATE_BYTES:
            raise MalformedPacket("delegate")
        said, signature = data[: _DELEGATE.size], data[_DELEGATE.size :]
        generation, serial, public = _DELEGATE.unpack(said)
        if generation != station.generation:
            raise MalformedPacket("delegate")
        try:
            VerifyKey(station.public).verify(signature, _DELEGATE_DOMAIN, said)
            VerifyKey(public)
        except (MalformedPacket, BadKey) as error:
            raise MalformedPacket("delegate") from error
        return cls(generation, serial, public, signature)


@dataclass(frozen=True, slots=True)
class Head:
    """The log's `seq`th row has this hash, said `at_ns` (UTC) by the key that `delegate` certifies.

    The certificates are bytes as they travel. Nothing is checked here but the lengths of parts:
    that it is this station's head says `check`.
    """

    seq: int
    hash: bytes
    at_ns: int
    kind: Kind
    station: bytes
    delegate: bytes
    signature: bytes

    def __post_init__(self) -> None:
        if self.seq < 0 or self.at_ns < 0 or len(self.hash) != HASH_BYTES:
            raise ValueError("a head has a row's number, its hash of 32 bytes, and a time")

    @property
    def tail(self) -> Tail:
        """Where it says that the chain was."""
        return Tail(self.seq, self.hash)

    def check(self) -> StationCertificate:
        """Whose it is: the station certificate, whose own root signed it.

        Whether that root is one to be trusted is the caller's question. MalformedPacket if any of
        the three signatures does not hold.
        """
        station = StationCertificate.parse(self.station)
        delegate = Delegate.parse(self.delegate, station)
        said = _said(self.kind, self.tail, self.at_ns)
        VerifyKey(delegate.public).verify(self.signature, _HEAD_DOMAIN, *said)
        return station


class HeadSigner:
    """Signs heads, with a key of its own that the station's key certifies."""

    def __init__(
        self, station: SigningKey, certificate: StationCertificate, serial: int, seed: bytes
    ) -> None:
        """`seed` is 32 random bytes that are used for nothing else and kept nowhere."""
        self._key = SigningKey(seed)
        self._certificate = certificate.serialise()
        delegate = Delegate.issue(station, certificate.generation, serial, self._key.public)
        self._delegate = delegate.serialise()

    def sign(self, tail: Tail, at_ns: int, kind: Kind = "kept") -> Head:
        """The head of a log that goes so far now."""
        signature = self._key.sign(_HEAD_DOMAIN, *_said(kind, tail, at_ns))
        return Head(tail.seq, tail.hash, at_ns, kind, self._certificate, self._delegate, signature)


def _said(kind: Kind, tail: Tail, at_ns: int) -> tuple[bytes, ...]:
    return kind.encode(), str(tail.seq).encode(), instant(at_ns).encode(), tail.hash
