"""The whole way of a voice on virtual time: encoder, sender, link, player, sound card.

True time is what the test counts in; the station's media clock shows `media_ns` of it, and every
loudspeaker has an `OwnClock` and a `Crystal` that are wrong in their own way.
"""

import hashlib
import itertools
import math
import wave
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.network import SECOND, Impairments, Link
from codec.dsp.fade import Fader
from codec.dsp.resample import interpolate
from codec.format import SAMPLE_RATE, Samples, samples_of_ms
from codec.opus import Decoder, Encoder, EncoderSettings
from endpoints.outputs.wav import WavSink
from endpoints.player import Player
from endpoints.simulate import Crystal, Simulation
from server.processes.ring import REPAIR, Entry
from server.usher.repairs import Repairs
from tests.support.clock import MEDIA_EPOCH_NS, OwnClock
from transport.clock.estimator import ClockEstimate, ClockEstimator
from transport.clock.exchange import Exchange
from transport.control.messages import EpochSpec, Listen, SealSpec, StreamSpec
from transport.control.priority import Priority
from transport.recovery.along import Provision
from transport.recovery.erasure import Code
from transport.recovery.request import seal_request
from transport.rtp.packet import RtpPacket
from transport.security.certificates import StreamCertificate
from transport.security.keys import SigningKey, VerifyKey
from transport.security.sealing import EPOCH_PACKETS, SealedSender
from transport.security.session_keys import session_key
from transport.session.sender import StreamSender

MEDIA_EPOCH = MEDIA_EPOCH_NS * 48 // 1_000_000  # in samples
BLOCK = 240  # 5 ms: every block of a perfect card begins on a whole sample
_TOLD_NS = 50_000_000
# Where repairs are asked for, and by whom.
_SECRET, _SESSION, _HOME = bytes(range(32)), 7 << 24 | 1, ("192.0.2.7", 5_004)
_VOICE = Path(__file__).parents[2] / "bench" / "audio" / "voice.wav"


def human_voice() -> Samples:
    """Seven seconds of a person reading, at 48 kHz."""
    with wave.open(str(_VOICE), "rb") as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    voice = np.concatenate((np.zeros(32), pcm / 32_768, np.zeros(32))).astype(np.float32)
    return interpolate(voice, np.arange(32, 32 + len(pcm), 1 / 3))


STATION, GENERATION = SigningKey(b"station" + bytes(25)), 3
TRUSTED = VerifyKey(STATION.public), GENERATION


class Drawn:
    """Random bytes that are the same every time, and never the same twice."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._number = itertools.count()

    def __call__(self, count: int) -> bytes:
        said = f"{self._seed} {next(self._number)}".encode()
        return hashlib.shake_128(said).digest(count)


def certificate(
    public: bytes,
    serial: int,
    highest: int = Priority.LIVE,
    *,
    test: bool = False,
    station: SigningKey = STATION,
    generation: int = GENERATION,
) -> bytes:
    """A stream's certificate, from the station that the loudspeakers here trust."""
    made = StreamCertificate.issue(station, generation, serial, public, highest, test)
    return made.serialise()


def seal_of(sender: SealedSender, certified: bytes) -> SealSpec:
    """What a loudspeaker is told of a sealed stream now."""
    return SealSpec(certified, tuple(EpochSpec(*epoch) for epoch in sender.epochs))


@dataclass(frozen=True, slots=True)
class Packet:
    """A datagram and when it leaves the station."""

    true_ns: int
    data: bytes


class Programme:
    """Sound that begins at media sample `start` after the epoch; its packets and its reference.

    In clear, or sealed with an epoch of `epoch_packets`; `rekeys` are the numbers of the frames
    before which the station has a new key drawn. `told` is what loudspeakers are told, and when.
    Each frame has copies of those that began `copies` samples before, or symbols of the `code`, and
    a packet in `repairs`.
    """

    def __init__(
        self,
        sound: Samples,
        start: int = 0,
        *,
        ssrc: int = 0x0A0B0C0D,
        order: int = 1,
        priority: int = Priority.LIVE,
        frame_ms: float = 20.0,
        delay_ms: float = 200.0,
        offset: int = 12_345,
        first_sequence: int = 65_500,
        dtx: bool = False,
        fec: bool = False,
        goodbye: bool = True,
        sealed: bool = False,
        epoch_packets: int = EPOCH_PACKETS,
        rekeys: Sequence[int] = (),
        copies: Sequence[int] = (),
        code: Code | None = None,
    ) -> None:
        settings = EncoderSettings(
            frame_ms=frame_ms, dtx=dtx, inband_fec=fec, expected_loss_percent=20 if fec else 0
        )
        encoder = Encoder(settings)
        self.key = SigningKey(hashlib.sha256(f"stream {order}".encode()).digest())
        self.serial = order
        self.delay = round(delay_ms * 48)
        self.frame = samples_of_ms(frame_ms)
        self.start = MEDIA_EPOCH + start - encoder.lookahead
        if sealed:
            draw = Drawn(f"programme {ssrc} {order}")
            self.sender: StreamSender | SealedSender = SealedSender(
                self.key, order, offset, frame_ms, "station", lambda: 0.5, draw, epoch_packets
            )
        else:
            self.sender = StreamSender(
                ssrc, first_sequence, offset, frame_ms, "station", lambda: 0.5
            )
        self.spec = StreamSpec(
            "p",
            order,
            self.sender.ssrc,
            96,
            offset,
            frame_ms,
            inband_fec=fec,
            playout_delay_ms=delay_ms,
            priority=priority,
            seal=self._seal(priority),
        )
        self.told: list[tuple[int, StreamSpec]] = [(0, self.spec)]
        self.payloads: list[bytes] = []
        self.packets: list[Packet] = []
        self.repairs: list[Packet] = []
        self._provision = Provision(self.frame)
        self._provision.adapt(tuple(copies), code)
        for index, frame in enumerate(self._frames(sound, encoder.lookahead)):
            captured = start + (index + 1) * self.frame
            if index in rekeys and isinstance(self.sender, SealedSender):
                self.sender.rekey(MEDIA_EPOCH_NS + _true_ns(captured))
            self._send(encoder.encode(frame), self.start + index * self.frame, _true_ns(captured))
        if goodbye:
            end = start + (len(self.payloads) + 1) * self.frame
            self.packets.append(Packet(_true_ns(end), self.sender.bye()))

    def _seal(self, priority: int) -> SealSpec | None:
        if not isinstance(self.sender, SealedSender):
            return None
        return seal_of(self.sender, certificate(self.key.public, self.serial, priority))

    def _send(self, payload: bytes, media_sample: int, true_ns: int) -> None:
        self.payloads.append(payload)
        if payload:
            along = self._provision.along(media_sample, payload, 1_000)
            data = self.sender.packet(payload, media_sample, along)
            self.packets.append(Packet(true_ns, data))
            self.repairs.append(Packet(true_ns, self.sender.repair()))
        spec = replace(self.spec, seal=self._seal(self.spec.priority))
        if spec != self.told[-1][1]:
            self.told.append((true_ns, spec))

    def _frames(self, sound: Samples, tail: int) -> Iterator[Samples]:
        whole = -(-(len(sound) + tail) // self.frame) * self.frame
        padded = np.pad(sound, (0, whole - len(sound)))
        yield from padded.reshape(-1, self.frame)

    def reference(self) -> Samples:
        """What a decoder makes of all packets, faded in; the first sample is `start`."""
        decoder = Decoder()
        sound = np.concatenate([decoder.decode(payload) for payload in self.payloads if payload])
        fader = Fader()
        fader.turn(1.0, 0)
        return sound * fader.gains(0, np.arange(len(sound), dtype=np.float64))

    def heard(self, true_ns: int, count: int) -> Samples:
        """What a perfect loudspeaker plays from a true time on (a whole sample); needs no DTX."""
        reference = self.reference()
        at = _sample(true_ns) - self.delay - self.start
        padded = np.pad(reference, (max(-at, 0), max(at + count - len(reference), 0)))
        return padded[max(at, 0) :][:count]

    def sounds_from_ns(self) -> int:
        """The true time at which its first sample is heard."""
        return _true_ns(self.start - MEDIA_EPOCH + self.delay)


def _true_ns(samples: int) -> int:
    return samples * SECOND // SAMPLE_RATE


def _sample(true_ns: int) -> int:
    return MEDIA_EPOCH + true_ns * SAMPLE_RATE // SECOND


def perfect_estimate(own: OwnClock) -> ClockEstimate:
    """What an oracle knows of the media clock; only for clocks that do not wander."""
    at_ns = own.of_true(0)
    skew = 1 / (1 + own.skew_ppm * 1e-6) - 1
    return ClockEstimate(at_ns, 0.0, MEDIA_EPOCH_NS - at_ns, skew, 0.0)


class Loudspeaker:
    """A player, its clock, its sound card, and the network that leads to it."""

    def __init__(
        self,
        programmes: Sequence[Programme],
        path: Impairments | None = None,
        *,
        seed: int = 1,
        own: OwnClock | None = None,
        world: Simulation | None = None,
        learns: Iterator[tuple[int, Exchange]] | None = None,
        later: bool = False,
        asks: Impairments | None = None,
    ) -> None:
        """It knows the media clock perfectly, unless it `learns` it from exchanges.

        With `later`, packets are not on their way yet; see `queue`. What it is told of new epochs
        comes over a control session, `_TOLD_NS` after it is said. What it misses it asks for by
        the way `asks`, if there is one, and is answered by the way that all packets take.
        """
        self.own = own or OwnClock()
        self.crystal = Crystal(world or Simulation())
        self.estimate = perfect_estimate(self.own) if learns is None else None
        self.player = Player(lambda: self.estimate)
        self.player.trust(*TRUSTED)
        self._told = {programme.spec.ssrc: programme.spec for programme in programmes}
        changes = [change for programme in programmes for change in programme.told[1:]]
        self._changes = deque(sorted(changes, key=lambda change: change[0]))
        self._declare()
        packets = [] if later else [p for programme in programmes for p in programme.packets]
        self._packets = deque(sorted(packets, key=lambda packet: packet.true_ns))
        self.link = Link(path or Impairments(), np.random.default_rng(seed))
        repairs = [repair for programme in programmes for repair in programme.repairs]
        self._repairs = deque(sorted(repairs, key=lambda packet: packet.true_ns))
        self._up = None if asks is None else Link(asks, np.random.default_rng((seed, 1)))
        self._now_ns = 0
        self.station = Repairs(self._written, _SECRET)
        self._estimator = ClockEstimator()
        self._exchanges = deque(learns or ())
        self._played = 0

    def play(self, until_ns: int, change: Callable[[bytes], bytes] = lambda data: data) -> Samples:
        """Pull blocks up to a true time; `change` may spoil a datagram. What was heard."""
        blocks = [np.zeros(0, np.float32)]
        while (sounds_ns := self._sounds_ns()) < until_ns:
            pulled_ns = max(sounds_ns - 10_000_000, 0)
            self._deliver(pulled_ns, change)
            blocks.append(self.player.pull(BLOCK, self.own.of_true(sounds_ns)))
            self._played += BLOCK
        return np.concatenate(blocks)

    def queue(self, programmes: Sequence[Programme], second: int) -> None:
        """Have the first second of these said (again), in the second that begins then."""
        for index in range(1_000 // 20):
            for programme in programmes:
                plain = RtpPacket.parse(programme.packets[index].data)
                again = replace(
                    plain,
                    sequence=(plain.sequence + 50 * second) % 65_536,
                    timestamp=(plain.timestamp + second * SAMPLE_RATE) % 2**32,
                )
                true_ns = programme.packets[index].true_ns + second * SECOND
                self._packets.append(Packet(true_ns, again.serialise()))

    def record(self, path: Path, until_ns: int) -> None:
        """The same, as a microphone before it hears it."""
        sink = WavSink(path, self.crystal)
        sink.start(0)
        while (sounds_ns := self._sounds_ns()) < until_ns:
            sink.write(self.play(sounds_ns + 1))
        sink.close()

    def _sounds_ns(self) -> int:
        return round(self.crystal.seconds_at(self._played) * SECOND)

    def _declare(self) -> None:
        self.player.declare(Listen(1, tuple(self._told.values())))

    def _deliver(self, now_ns: int, change: Callable[[bytes], bytes]) -> None:
        while self._exchanges and self._exchanges[0][0] <= now_ns:
            if self._estimator.add(self._exchanges.popleft()[1]):
                self.player.clock_changed()
            self.estimate = self._estimator.estimate
        while self._packets and self._packets[0].true_ns <= now_ns:
            packet = self._packets.popleft()
            self.link.send(packet.data, packet.true_ns)
        for arrived_ns, data in self.link.due(now_ns):
            self._hear_of_changes(arrived_ns)
            self.player.receive(change(data), self.own.of_true(arrived_ns))

        if self._up is not None:
            self._ask(self._up, now_ns)

    def _ask(self, up: Link, now_ns: int) -> None:
        """Only at the end of a block: requests and answers wait 5 ms at most."""
        self._now_ns = now_ns
        wanted = self.player.requests(self.own.of_true(now_ns))
        if wanted:
            up.send(seal_request(wanted, _SESSION, session_key(_SECRET, _SESSION)), now_ns)
        for _, data in up.due(now_ns):
            self.station.receive(data, _HOME, now_ns, lambda _: _HOME)
        for data, _ in self.station.due(now_ns):
            self.link.send(data, now_ns)

    def _written(self) -> Iterator[Entry]:
        """What the station's ring has had of repairs since it was last read."""
        while self._repairs and self._repairs[0].true_ns <= self._now_ns:
            yield Entry(1, REPAIR, self._repairs.popleft().data)

    def _hear_of_changes(self, now_ns: int) -> None:
        while self._changes and self._changes[0][0] + _TOLD_NS <= now_ns:
            _, spec = self._changes.popleft()
            self._told[spec.ssrc] = spec
            self._declare()


def snr_db(heard: Samples, expected: Samples) -> float:
    """How far what is heard is above its difference from what should be."""
    difference = float(np.mean(np.square(heard - expected, dtype=np.float64)))
    power = float(np.mean(np.square(expected, dtype=np.float64)))
    return 10 * math.log10(power / max(difference, 1e-20))
