"""Who vouches for which key: the root for the station, the station for a stream and for its TLS."""

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from transport.control.priority import Priority
from transport.errors import MalformedPacket
from transport.security.keys import (
    PUBLIC_BYTES,
    SIGNATURE_BYTES,
    BadKey,
    SigningKey,
    VerifyKey,
)

# root, generation, public
_STATION = struct.Struct("!32sQ32s")
# generation, serial, highest priority, test, public
_STREAM = struct.Struct("!QQBB32s")
_STATION_DOMAIN, _STREAM_DOMAIN = "loa.station-certificate.2", "loa.stream-certificate.2"
_TLS_DOMAIN = "loa.tls-binding.2"
STATION_CERTIFICATE_BYTES: Final = _STATION.size + SIGNATURE_BYTES
STREAM_CERTIFICATE_BYTES: Final = _STREAM.size + SIGNATURE_BYTES


def _check_number(value: int, what: str) -> None:
    if not 0 <= value < 1 << 64:
        raise BadKey(f"a {what} has 64 bits")


def _check_key(public: bytes, signature: bytes) -> None:
    if len(public) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        raise BadKey("a certificate has a public key of 32 bytes and a signature of 64")


@dataclass(frozen=True, slots=True)
class StationCertificate:
    """The root key says: this is the station's key, the `generation`th of them.

    Keys and signature are bytes as they travel. That the signature holds says `parse`; that the
    root is one to be trusted and the generation no old one, `handshake.recognise`.
    """

    root: bytes
    generation: int
    public: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _check_number(self.generation, "generation")
        _check_key(self.public, self.signature)
        if len(self.root) != PUBLIC_BYTES:
            raise BadKey("a root key has 32 bytes")

    @classmethod
    def issue(cls, root: SigningKey, generation: int, public: bytes) -> "StationCertificate":
        """The certificate of the station key `public`; `BadKey` if that is no key."""
        _check_number(generation, "generation")
        said = _STATION.pack(root.public, generation, VerifyKey(public).public)
        return cls(root.public, generation, public, root.sign(_STATION_DOMAIN, said))

    def serialise(self) -> bytes:
        """STATION_CERTIFICATE_BYTES bytes."""
        return _STATION.pack(self.root, self.generation, self.public) + self.signature

    @classmethod
    def parse(cls, data: bytes) -> "StationCertificate":
        """A certificate whose own root signed it; MalformedPacket("certificate") for all else."""
        if len(data) != STATION_CERTIFICATE_BYTES:
            raise MalformedPacket("certificate")
        root, generation, public = _STATION.unpack_from(data)
        said, signature = data[: _STATION.size], data[_STATION.size :]
        try:
            VerifyKey(root).verify(signature, _STATION_DOMAIN, said)
            VerifyKey(public)
            return cls(root, generation, public, signature)
        except (MalformedPacket, BadKey) as error:
            raise MalformedPacket("certificate") from error


@dataclass(frozen=True, slots=True)
class StreamCertificate:
    """The station key says: whoever holds the key `public` may speak as stream `serial`.

    Up to `highest_priority` (see `Priority`), and only as a test where `test` is true.
    """

    generation: int
    serial: int
    public: bytes
    highest_priority: int
    test: bool
    signature: bytes

    def __post_init__(self) -> None:
        _check_number(self.generation, "generation")
        _check_number(self.serial, "serial number")
        _check_key(self.public, self.signature)
        Priority(self.highest_priority)

    @classmethod
    def issue(
        cls,
        station: SigningKey,
        generation: int,
        serial: int,
        public: bytes,
        highest_priority: int,
        test: bool,
    ) -> "StreamCertificate":
        """The certificate of a stream's key; `BadKey` if `public` is no key."""
        _check_number(generation, "generation")
        _check_number(serial, "serial number")
        highest = int(Priority(highest_priority))
        key = VerifyKey(public).public
        said = _STREAM.pack(generation, serial, highest, test, key)
        signature = station.sign(_STREAM_DOMAIN, said)
        return cls(generation, serial, key, highest, test, signature)

    def serialise(self) -> bytes:
        """STREAM_CERTIFICATE_BYTES bytes."""
        said = _STREAM.pack(
            self.generation, self.serial, self.highest_priority, self.test, self.public
        )
        return said + self.signature

    @classmethod
    def parse(cls, data: bytes, station: VerifyKey, generation: int) -> "StreamCertificate":
        """A certificate that the station's key of this generation signed.

        MalformedPacket("certificate") for all else.
        """
        if len(data) != STREAM_CERTIFICATE_BYTES:
            raise MalformedPacket("certificate")
        said_generation, serial, highest_priority, test, public = _STREAM.unpack_from(data)
        if said_generation != generation or test > 1:
            raise MalformedPacket("certificate")
        said, signature = data[: _STREAM.size], data[_STREAM.size :]
        try:
            station.verify(signature, _STREAM_DOMAIN, said)
            VerifyKey(public)
            return cls(generation, serial, public, highest_priority, test == 1, signature)
        except (MalformedPacket, ValueError) as error:  # BadKey, or a priority there is not
            raise MalformedPacket("certificate") from error


def tls_hash(der: bytes) -> bytes:
    """What a TLS certificate is known by: the SHA-256 of its DER, 32 bytes."""
    return hashlib.sha256(der).digest()


def bind_tls(station: SigningKey, tls_hash: bytes, nonce: bytes) -> bytes:
    """The station's signature of the TLS certificate it shows; `nonce` is `Identity.nonce`."""
    return station.sign(_TLS_DOMAIN, tls_hash, nonce)


def check_tls(station: VerifyKey, signature: bytes, tls_hash: bytes, nonce: bytes) -> None:
    """Return if the station said so, else MalformedPacket("tls_binding")."""
    try:
        station.verify(signature, _TLS_DOMAIN, tls_hash, nonce)
    except MalformedPacket as error:
        raise MalformedPacket("tls_binding") from error
