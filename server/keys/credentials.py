"""What the station shows itself with, and how it knows who answers. Pure."""

from dataclasses import dataclass
from typing import Final

from transport.control.messages import (
    TO_SPEAKER,
    TO_STATION,
    VERSION,
    Done,
    Enrol,
    Hello,
    Identity,
    Ready,
    Telemetry,
)
from transport.errors import MalformedPacket
from transport.security.certificates import bind_tls
from transport.security.handshake import Speech, check_proof, split
from transport.security.keys import SigningKey

Said = Hello | Enrol | Telemetry | Ready | Done
_FIRST_WORDS: Final = (Hello, Enrol)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The station's key, its certificate as it travels, and the SHA-256 of its TLS certificate."""

    key: SigningKey
    certificate: bytes
    tls_hash: bytes


@dataclass(frozen=True, slots=True)
class FirstWord:
    """What somebody says first; nothing of it is proven."""

    word: Hello | Enrol
    signature: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Greeting:
    """The beginning of one session; `nonce` was drawn for it, so no answer fits another."""

    credentials: Credentials
    nonce: bytes

    def identity(self) -> bytes:
        """What the station says first; it costs a signature."""
        binding = bind_tls(self.credentials.key, self.credentials.tls_hash, self.nonce)
        word = Identity(VERSION, self.credentials.certificate, binding, self.nonce)
        return TO_SPEAKER.encode(word)

    @staticmethod
    def hear(frame: bytes) -> FirstWord:
        """What the answer claims; MalformedPacket if it is none."""
        signature, body = split(frame)
        word: Said = TO_STATION.decode(body)
        if not isinstance(word, _FIRST_WORDS):
            raise MalformedPacket("message_type")
        return FirstWord(word, signature, body)

    def proven(self, said: FirstWord) -> Speech:
        """How to speak to whoever said it; MalformedPacket("signature") if the key is not its own.

        It costs as much as three signatures.
        """
        public, tls_hash = said.word.key, self.credentials.tls_hash
        check_proof(public, said.signature, self.nonce, tls_hash, said.body)
        return Speech(self.credentials.key, public, said.word.nonce, self.nonce)
