"""Sound that another machine sends by RTP: Opus (RFC 7587) and the old ones of RFC 3551.

FFmpeg's own RTP input was tried and is not used: it answers a port that is taken and an address
that is not ours with "invalid data", opens a second port on every interface for RTCP, leaves out
what was lost (which a clock servo cannot make up for), and any sender who comes along is mixed
in. So the packets are read here, and only their payloads are given to it.
"""

import errno
import ipaddress
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, Self, cast
from urllib.parse import parse_qsl, urlsplit

import av
import av.error
import numpy as np

from codec.errors import CorruptPacket, SourceError
from codec.format import SAMPLE_RATE, Samples
from codec.opus import MAX_PACKET_SAMPLES, Decoder, packet_samples
from codec.sources.blocks import reblock
from codec.sources.convert import Converter
from transport.clock.timeline import NS_PER_MS
from transport.errors import MalformedPacket
from transport.net.stamped import MAX_DATAGRAM, multicast_socket, route_interface, udp_socket
from transport.rtp.packet import RtpPacket, is_rtcp
from transport.seq import diff

_FORM: Final = "rtp://ADDRESS:PORT?codec=opus (or pcmu, pcma, g722, l16; l16 with rate, channels)"
# Payload types that are a codec's own (RFC 3551 section 6); 96 to 127 may be any.
_STATIC: Final = {
    "opus": frozenset[int](),
    "pcmu": frozenset({0}),
    "pcma": frozenset({8}),
    "g722": frozenset({9}),
    "l16": frozenset({10, 11}),
}
_DYNAMIC: Final = frozenset(range(96, 128))
# How many later packets may come before one is given up.
_REORDERED: Final = 3
# A sequence number further off than this is a sender who has begun anew.
_BEGUN_ANEW: Final = 1_000
# Another sender is taken when the present one has been quiet for so long, no sooner.
_SUCCESSION_NS: Final = 200 * NS_PER_MS
# What is lost is filled up to this. A longer gap has been heard as one already, when it ends.
_FILLED_S: Final = 0.12
_QUIET_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class RtpAddress:
    """Where to listen and for what; `rate` (Hz) and `channels` are those of the sound coded."""

    host: str
    port: int
    codec: str
    rate: int
    channels: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "rtp://239.1.2.3:5004?codec=l16&rate=48000&channels=2". SourceError with the form.

        Addresses are IPv4; 0.0.0.0 is every one of this machine.
        """
        try:
            parts = urlsplit(text)
            asked = dict(parse_qsl(parts.query, strict_parsing=True))
            codec = asked.pop("codec").lower()
            rate = int(asked.pop("rate", str(_default_rate(codec))))
            channels = int(asked.pop("channels", "1"))
            host, port = str(ipaddress.IPv4Address(parts.hostname or "")), parts.port or 0
            if parts.scheme != "rtp" or asked or not _is_possible(codec, rate, channels, port):
                raise ValueError
        except (ValueError, KeyError):
            raise SourceError(f"{text!r} is not {_FORM}") from None
        return cls(host, port, codec, rate, channels)

    @property
    def clock_rate(self) -> int:
        """Of the RTP timestamps. G.722's is half its rate, by mistake (RFC 3551 section 4.5.2)."""
        return self.rate // 2 if self.codec == "g722" else self.rate

    @property
    def payload_types(self) -> frozenset[int]:
        """Those it may come with."""
        return _STATIC[self.codec] | _DYNAMIC


def _default_rate(codec: str) -> int:
    return {"pcmu": 8_000, "pcma": 8_000, "g722": 16_000}.get(codec, SAMPLE_RATE)


def _is_possible(codec: str, rate: int, channels: int, port: int) -> bool:
    if codec not in _STATIC or not port:
        return False
    if codec == "l16":
        return 8_000 <= rate <= 192_000 and 1 <= channels <= 8
    return rate == _default_rate(codec) and 1 <= channels <= (2 if codec == "opus" else 1)


@dataclass(frozen=True, slots=True)
class Piece:
    """A payload in its turn. `missing` units of the RTP clock before it never came.

    `first` of a sender: what came before has nothing to do with it.
    """

    payload: bytes
    missing: int
    first: bool


class Sequencer:
    """Packets of one sender at a time, put in order. Pure: `now_ns` is any steady clock.

    `duration` says how many units of the RTP clock a payload lasts, 0 if it is corrupt.
    """

    def __init__(self, address: RtpAddress, duration: Callable[[bytes], int]) -> None:
        self.ignored = 0
        self._payload_types = address.payload_types
        self._most_missing = round(_FILLED_S * address.clock_rate)
        self._duration = duration
        self._sender: tuple[int, int] | None = None  # SSRC and payload type
        self._heard_ns = 0
        self._first = True
        self._next_sequence = 0
        self._next_timestamp = 0
        self._held: dict[int, RtpPacket] = {}

    def feed(self, packet: RtpPacket, now_ns: int) -> list[Piece]:
        """What is now in turn; late, doubled and strange packets are counted in `ignored`."""
        sender = (packet.ssrc, packet.payload_type)
        if sender != self._sender:
            present = self._sender is not None and now_ns - self._heard_ns < _SUCCESSION_NS
            if present or packet.payload_type not in self._payload_types:
                self.ignored += 1
                return []
            self._sender = sender
            self._begin(packet)
        self._heard_ns = now_ns
        ahead = diff(packet.sequence, self._next_sequence, 16)
        if abs(ahead) > _BEGUN_ANEW:
            self._begin(packet)
        elif ahead < 0 or packet.sequence in self._held:
            self.ignored += 1
            return []
        self._held[packet.sequence] = packet
        return list(self._in_turn())

    def _begin(self, packet: RtpPacket) -> None:
        self._held.clear()
        self._next_sequence, self._next_timestamp = packet.sequence, packet.timestamp
        self._first = True

    def _in_turn(self) -> Iterator[Piece]:
        while self._held:
            if self._next_sequence not in self._held and len(self._held) <= _REORDERED:
                return
            # The next, or the one after what is given up.
            packet = self._held.pop(min(self._held, key=self._distance))
            missing = diff(packet.timestamp, self._next_timestamp, 32)
            if not 0 < missing <= self._most_missing:
                missing = 0
            yield Piece(packet.payload, missing, self._first)
            self._first = False
            self._next_sequence = (packet.sequence + 1) & 0xFFFF
            self._next_timestamp = packet.timestamp + self._duration(packet.payload)

    def _distance(self, sequence: int) -> int:
        return diff(sequence, self._next_sequence, 16)


class _Payloads(Protocol):
    """One codec's payloads."""

    def duration(self, payload: bytes) -> int:
        """In units of the RTP clock; 0 for what is corrupt."""

    def decode(self, piece: Piece) -> Iterator[Samples]:
        """The sound of a piece and of what is missing before it; nothing of what is corrupt."""


class _Opus:
    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._decoder = Decoder(channels)

    def duration(self, payload: bytes) -> int:
        try:
            return packet_samples(payload)
        except CorruptPacket:
            return 0

    def decode(self, piece: Piece) -> Iterator[Samples]:
        if piece.first:
            self._decoder = Decoder(self._channels)
        try:
            missing = min(piece.missing - piece.missing % 120, MAX_PACKET_SAMPLES)
            if missing:
                yield self._decoder.recover(piece.payload, missing)
            yield self._decoder.decode(piece.payload)
        except CorruptPacket:
            return


class _Pcm:
    """Companded, ADPCM and linear: FFmpeg knows them all."""

    _NAMES: Final = {
        "pcmu": ("pcm_mulaw", 1),
        "pcma": ("pcm_alaw", 1),
        "g722": ("g722", 1),
        "l16": ("pcm_s16be", 2),
    }

    def __init__(self, address: RtpAddress, channels: int) -> None:
        self._address = address
        self._channels = channels
        self._name, octets = self._NAMES[address.codec]
        self._frame_bytes = octets * address.channels
        self._begin()

    def _begin(self) -> None:
        self._converter = Converter(self._channels)
        # What `create` gives follows from the name, which its type cannot know.
        self._decoder = cast("av.AudioCodecContext", av.CodecContext.create(self._name, "r"))
        self._decoder.sample_rate = self._address.rate
        self._decoder.layout = f"{self._address.channels}c"

    def duration(self, payload: bytes) -> int:
        return len(payload) // self._frame_bytes

    def decode(self, piece: Piece) -> Iterator[Samples]:
        if piece.first:
            self._begin()
        lost = piece.missing * SAMPLE_RATE // self._address.clock_rate
        if lost:
            yield np.zeros(lost if self._channels == 1 else (lost, 2), np.float32)
        whole = len(piece.payload) - len(piece.payload) % self._frame_bytes
        if not whole:
            return
        for frame in self._decoder.decode(av.Packet(piece.payload[:whole])):
            yield from self._converter.push(frame)


def _ignore(_: str) -> None:
    pass


class RtpSource:
    """The sound that is sent to an address, as 48 kHz blocks of any length, for ever.

    `channels` is 1 or 2: blocks are (n,) or (n, 2). `address` may be one of this machine or a
    multicast group, which is joined on `interface` (an IPv4 address; the one that leads there
    unless given). Up to 120 ms that are lost are made up for, so that the sound keeps its length.
    `on_event` gets a line when nothing comes for 5 s, when it comes again, and at the first
    packet of what was not asked for. SourceError for a port that cannot be had.
    """

    def __init__(
        self,
        address: RtpAddress,
        channels: int = 1,
        *,
        interface: str | None = None,
        on_event: Callable[[str], None] = _ignore,
    ) -> None:
        self.name = f"rtp://{address.host}:{address.port}"
        self._address = address
        self._interface = interface
        self._say = on_event
        self._payloads: _Payloads = (
            _Opus(channels) if address.codec == "opus" else _Pcm(address, channels)
        )
        self._sequencer = Sequencer(address, self._payloads.duration)
        self._udp: socket.socket | None = None

    def connect(self) -> None:
        """Take the port now, so that whoever is to listen is not called for nothing."""
        host, port = self._address.host, self._address.port
        try:
            if ipaddress.IPv4Address(host).is_multicast:
                self._udp = multicast_socket(host, port, self._interface or route_interface(host))
            else:
                self._udp = udp_socket(host, port)
        except OSError as error:
            raise SourceError(f"{self.name}: {_explain(error)}") from None

    def blocks(self, samples: int) -> Iterator[Samples]:
        """Blocks of exactly `samples`."""
        return reblock(self, samples)

    def __iter__(self) -> Iterator[Samples]:
        """Blocks as they come; waits where there are none."""
        if self._udp is None:
            self.connect()
        while self._udp is not None:
            for piece in self._pieces(self._udp):
                yield from self._payloads.decode(piece)

    def close(self) -> None:
        """Give the port back."""
        if self._udp is not None:
            self._udp.close()
            self._udp = None

    def _pieces(self, udp: socket.socket) -> Iterator[Piece]:
        """What comes until the port is closed."""
        udp.settimeout(_QUIET_S)
        lost = warned = False
        while self._udp is udp:
            try:
                packet = _received(udp)
            except TimeoutError:
                if not lost:
                    self._say(f"{self.name}: nothing comes; waiting for a sender")
                lost = True
                continue
            if packet is None:
                continue
            if not warned and packet.payload_type not in self._address.payload_types:
                codec, kind = self._address.codec, packet.payload_type
                self._say(f"{self.name}: payload type {kind} comes, which is not {codec}")
                warned = True
            pieces = self._sequencer.feed(packet, time.monotonic_ns())
            if pieces and lost:
                self._say(f"{self.name} is back")
                lost = False
            yield from pieces


def _received(udp: socket.socket) -> RtpPacket | None:
    """None for what is no RTP; TimeoutError."""
    data = udp.recv(MAX_DATAGRAM)
    if is_rtcp(data):
        return None
    try:
        return RtpPacket.parse(data)
    except MalformedPacket:
        return None


def _explain(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another program has that port; stop it or choose another port"
        case errno.EADDRNOTAVAIL:
            return "that address is not of this machine; give 0.0.0.0 to hear on all of its own"
        case errno.EACCES:
            return "that port is not for everybody; choose one above 1023"
        case _:
            return f"cannot listen there ({error.strerror}); check the address and the network"
