"""Datagrams nobody should have sent: made by scapy, mutated, replayed, sealed by a thief."""

import os
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from scapy.layers.ntp import NTPHeader
from scapy.layers.rtp import RTP
from scapy.packet import Raw

from transport.rtp.packet import Extension, RtpPacket

_ATTACK = "LOA_ATTACK"
FULL, TENTH = 1_000_000, 100_000


def how_many() -> int:
    """A million under `make attack`, a tenth of it otherwise."""
    return FULL if os.environ.get(_ATTACK) == "full" else TENTH


def memory_bytes(process: int) -> int:
    """What a process holds in memory now."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Stolen:
    """What a stolen loudspeaker knows of a stream: how it is sealed, and nothing to sign with."""

    ssrc: int
    key: bytes
    timestamp_offset: int


class Seal:
    """SRTP with AEAD_AES_128_GCM (RFC 7714) from nothing but its text, so for any sequence number.

    The rollover counter is 0.
    """

    def __init__(self, key: bytes) -> None:
        # RFC 3711 section 4.3.1: AES in counter mode; labels 0 and 2 are RTP's key and salt.
        self._gcm = AESGCM(_derived(key, 0, 16))
        self._salt = int.from_bytes(_derived(key, 2, 12), "big")

    def seal(self, packet: RtpPacket) -> bytes:
        clear = packet.serialise()
        at = len(clear) - len(packet.payload)
        plain_iv = packet.ssrc << 48 | packet.sequence
        iv = (plain_iv ^ self._salt).to_bytes(12, "big")
        return clear[:at] + self._gcm.encrypt(iv, clear[at:], clear[:at])


def _derived(key: bytes, label: int, count: int) -> bytes:
    salt = int.from_bytes(key[16:] + b"\0\0", "big") ^ label << 48
    counter = (salt << 16).to_bytes(16, "big")
    encryptor = Cipher(algorithms.AES(key[:16]), modes.CTR(counter)).encryptor()
    return encryptor.update(bytes(count)) + encryptor.finalize()


class Attacker:
    """Makes datagrams of every kind; `media_sample` is what a frame of now would bear."""

    def __init__(self, seed: int, stolen: Stolen, captured: Sequence[bytes]) -> None:
        """`captured` are true packets of the station's, for replays and mutations."""
        self._draw = random.Random(seed)
        self._stolen = stolen
        self._captured = list(captured)
        self._true_seal = Seal(stolen.key)
        self._other_seal = Seal(self._draw.randbytes(28))
        self._kinds: tuple[Callable[[int], bytes], ...] = (
            self._noise,
            self._scapy_rtp,
            self._scapy_time,
            self._stun,
            self._report,
            self._wrong_key,
            self._thief,
            self._thief,
            *((self._replay, self._mutated, self._truncated, self._grown) if captured else ()),
        )

    def datagram(self, media_sample: int) -> bytes:
        """The next one."""
        return self._draw.choice(self._kinds)(media_sample)

    def _rtp(self, media_sample: int, payload: bytes) -> RtpPacket:
        return RtpPacket(
            96,
            self._draw.randrange(1 << 16),
            (media_sample + self._stolen.timestamp_offset) % (1 << 32),
            self._stolen.ssrc,
            payload,
            extension=self._false_signature(),
        )

    def _false_signature(self) -> Extension | None:
        if self._draw.random() < 0.2:
            return None
        return Extension(0x1000, b"\x01\x40" + self._draw.randbytes(64) + b"\0\0")

    def _payload(self) -> bytes:
        # A plausible Opus packet: one frame of 10 or 20 ms, wide band.
        return bytes([self._draw.choice((0x40, 0x48, 0x58, 0xF0))]) + self._draw.randbytes(40)

    def _noise(self, _: int) -> bytes:
        return self._draw.randbytes(self._draw.choice((0, 1, 3, 11, 12, 48, 72, 130, 1400)))

    def _scapy_rtp(self, media_sample: int) -> bytes:
        packet = RTP(
            payload_type=self._draw.randrange(128),
            marker=self._draw.randrange(2),
            sequence=self._draw.randrange(1 << 16),
            timestamp=(media_sample + self._stolen.timestamp_offset) % (1 << 32),
            sourcesync=self._stolen.ssrc,
        ) / Raw(self._payload())
        return bytes(packet)

    def _scapy_time(self, _: int) -> bytes:
        mode = self._draw.randrange(8)
        packet = bytes(NTPHeader(version=4, mode=mode, stratum=self._draw.randrange(16)))
        return packet + self._draw.randbytes(self._draw.choice((0, 4, 20, 24)))

    def _stun(self, _: int) -> bytes:
        kind = self._draw.choice((0x0001, 0x0101, 0x0111, 0x0003))
        body = self._draw.randbytes(4 * self._draw.randrange(30))
        length = self._draw.choice((len(body), self._draw.randrange(1 << 16)))
        return struct.pack("!HHI", kind, length, 0x2112A442) + self._draw.randbytes(12) + body

    def _report(self, _: int) -> bytes:
        kind = self._draw.randrange(192, 224)
        head = struct.pack("!BBHI", 0x80, kind, self._draw.randrange(20), self._stolen.ssrc)
        return head + self._draw.randbytes(self._draw.randrange(100))

    def _wrong_key(self, media_sample: int) -> bytes:
        return self._other_seal.seal(self._rtp(media_sample, self._payload()))

    def _thief(self, media_sample: int) -> bytes:
        """Sealed as it should be; signed by nobody whom the station knows."""
        return self._true_seal.seal(self._rtp(media_sample, self._payload()))

    def _replay(self, _: int) -> bytes:
        return self._draw.choice(self._captured)

    def _mutated(self, _: int) -> bytes:
        data = bytearray(self._draw.choice(self._captured))
        for _ in range(self._draw.randrange(1, 4)):
            at = self._draw.randrange(len(data))
            data[at] ^= 1 << self._draw.randrange(8)
        return bytes(data)

    def _truncated(self, _: int) -> bytes:
        data = self._draw.choice(self._captured)
        return data[: self._draw.randrange(len(data))]

    def _grown(self, _: int) -> bytes:
        return self._draw.choice(self._captured) + self._draw.randbytes(self._draw.randrange(1, 60))
