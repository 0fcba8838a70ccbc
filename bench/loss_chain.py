"""Our own way through the bench of loss: the real objects, from encoder to sound, on virtual time.

A sealed stream leaves its sender with copies as the policy says, crosses the link, and is played.
What is missing is asked for over the link back, answered by the station's own code, and comes as a
bundle. The loudspeaker knows the media clock and has a perfect crystal, so that every sample heard
can be laid beside the one that was said.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from typing_extensions import override

from bench.loss_scene import IP_AND_UDP_BYTES, MS, Outcome, Scene, ns_of
from bench.loss_schemes import times
from bench.loss_sound import Speech
from codec.format import Samples, samples_of_ms
from endpoints.player import Player
from server.encoding import room_for_copies
from server.processes.ring import REPAIR, SLOTS, Entry
from server.usher.repairs import Repairs
from transport.clock.estimator import ClockEstimate
from transport.control.messages import EpochSpec, Listen, SealSpec, StreamSpec
from transport.control.priority import Priority
from transport.jitter.buffer import EncodedFrame, JitterBuffer
from transport.recovery.along import Along, Provision
from transport.recovery.bundle import unbundle
from transport.recovery.erasure import Symbols
from transport.recovery.policy import LossWatch, code_for, copies_for
from transport.recovery.request import seal_request
from transport.security.certificates import StreamCertificate
from transport.security.keys import SigningKey, VerifyKey
from transport.security.sealing import SealedSender
from transport.security.session_keys import session_key
from transport.session.receiver import PLAUSIBLE_SAMPLES
from transport.session.sender import OPUS_PAYLOAD_TYPE

NAME = "loa"
# What the station's media clock shows when true time is 0.
_EPOCH_NS = 1_790_000_000 * 1_000_000_000
_EPOCH = _EPOCH_NS // 1_000_000 * 48
_NEVER = 1 << 62
# How often the loudspeaker tells how its network is, and the station chooses copies by it.
_TELLS_NS = 2_000_000_000
_SESSION, _ADDRESS = 0x10A, ("192.0.2.1", 40_000)
# The output pulls a frame at a time, so many samples before it sounds: more than the player's
# resampler looks ahead, and a whole number of nanoseconds.
_AHEAD = 21
_TICKS = 100


class _Buffer(JitterBuffer):
    """A jitter buffer that remembers which frames it gave out."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.given: set[int] = set()

    @override
    def take(self, position: int) -> EncodedFrame | None:
        frame = super().take(position)
        if frame is not None:
            self.given.add(frame.start_sample)
        return frame


class _Ear(Player):
    """A loudspeaker's player with a buffer that remembers."""

    def listen(self, spec: StreamSpec) -> _Buffer:
        """Hear this stream alone; what remembers its frames."""
        self.declare(Listen(1, (spec,)))
        (voice,) = self._voices.values()
        # As many as `StreamReceiver` has room for.
        buffer = _Buffer(PLAUSIBLE_SAMPLES // samples_of_ms(spec.frame_ms))
        voice.receiver.buffer = buffer
        return buffer


class _Station:
    """What the station does with one stream: seals it, keeps its repairs, answers for them."""

    def __init__(self, scene: Scene, speech: Speech) -> None:
        draw = random.Random(scene.seed).randbytes
        self._station, self._key = SigningKey(draw(32)), SigningKey(draw(32))
        self._secret = draw(32)
        self._sender = SealedSender(self._key, 1, 0, scene.frame_ms, "bench", lambda: 0.5, draw)
        self.provision = Provision(speech.frame)
        self._speech, self._scene = speech, scene
        self._written: deque[Entry] = deque(maxlen=SLOTS)
        self.repairs = Repairs(self._read, self._secret)
        self.opus_bytes = 0
        self._repair_lengths: dict[bytes, int] = {}

    def _read(self) -> Iterator[Entry]:
        while self._written:
            yield self._written.popleft()

    @property
    def trusted(self) -> tuple[VerifyKey, int]:
        """Whom the loudspeaker believes."""
        return VerifyKey(self._station.public), 1

    @property
    def key(self) -> bytes:
        """Of the loudspeaker's session."""
        return session_key(self._secret, _SESSION)

    @property
    def epochs(self) -> tuple[tuple[int, int, bytes], ...]:
        """Those of the sender."""
        return self._sender.epochs

    def spec(self) -> StreamSpec:
        """As the loudspeaker is told of the stream now."""
        certificate = StreamCertificate.issue(
            self._station, 1, 1, self._key.public, Priority.LIVE, test=False
        )
        return StreamSpec(
            "bench",
            1,
            self._sender.ssrc,
            OPUS_PAYLOAD_TYPE,
            0,
            self._scene.frame_ms,
            inband_fec=False,
            playout_delay_ms=self._scene.playout_delay_ms,
            priority=Priority.LIVE,
            seal=SealSpec(
                certificate.serialise(), tuple(EpochSpec(*epoch) for epoch in self.epochs)
            ),
        )

    def packet(self, index: int) -> bytes:
        """Frame `index` as it is sent to everybody; its repair is kept."""
        payload, media = self._speech.payloads[index], _EPOCH + self._speech.start(index)
        along = self.provision.along(media, payload, room_for_copies(len(payload)))
        data = self._sender.packet(payload, media, along)
        self.opus_bytes += len(payload) + _bytes_of(along)
        repair = self._sender.repair()
        self._written.append(Entry(1, REPAIR, repair))
        self._repair_lengths[repair[2:12]] = len(payload)
        return data

    def answers(self, now_ns: int) -> list[bytes]:
        """What it sends to the loudspeaker by itself now."""
        sent = [data for data, _ in self.repairs.due(now_ns)]
        for data in sent:
            self.opus_bytes += sum(self._repair_lengths[repair[2:12]] for repair in unbundle(data))
        return sent


def _bytes_of(along: Along) -> int:
    if isinstance(along, Symbols):
        return len(along.data) * along.length
    return sum(len(copy.payload) for copy in along)


class _Adviser:
    """What the station sends along, by what this loudspeaker tells of its network."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._watch = LossWatch()
        self._tells_ns = _TELLS_NS

    def advise(self, provision: Provision, ear: Player, now_ns: int) -> None:
        """As for a network of which nothing is known, until it has told."""
        scene = self._scene
        if now_ns >= self._tells_ns:
            self._tells_ns += _TELLS_NS
            self._watch.hear(ear.losses(now_ns), now_ns)
        network = scene.delivery, scene.frame_ms, scene.playout_delay_ms, self._watch.worst
        provision.adapt(
            copies_for(*network, multicast=scene.multicast, settled=self._watch.settled),
            code_for(*network, multicast=scene.multicast),
        )


class Chain:
    """One run of our own scheme. `tick` is called with the share of it that is done."""

    def __init__(
        self,
        scene: Scene,
        speech: Speech,
        clips: Sequence[range],
        tick: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._scene, self._speech, self._clips, self._tick = scene, speech, clips, tick
        self._at = times(scene, speech)
        self._down, self._up = scene.links()
        self._delay = round(scene.playout_delay_ms * 48)
        self._station = _Station(scene, speech)
        self._adviser = _Adviser(scene)
        estimate = ClockEstimate(0, 0.0, _EPOCH_NS, 0.0, 0.0)
        self._ear = _Ear(lambda: estimate)
        self._ear.trust(*self._station.trusted)
        self._buffer = self._ear.listen(self._station.spec())
        self._told = self._station.epochs
        self._sent = 0
        # The sample from true time 0 on that sounds next.
        self._pulled = (speech.start(0) + self._delay - _AHEAD) % speech.frame
        self._buffer_ns = round(scene.buffer_ms * MS)
        self._lost = np.zeros(len(speech.payloads), np.bool_)
        self._wire_bytes = self._up_bytes = 0
        self._asks_ns = _NEVER
        self._heard = [np.zeros(len(clip), np.float32) for clip in clips]

    def run(self) -> Outcome:
        """From the first frame to the last that has to sound."""
        end = len(self._speech.payloads) * self._speech.frame + self._delay
        done = 0
        while self._pulled < end:
            now_ns = self._next_ns()
            self._send(now_ns)
            self._hear(now_ns)
            self._answer(now_ns)
            self._ask(now_ns)
            self._pull(now_ns)
            if self._pulled * _TICKS // end > done:
                done = self._pulled * _TICKS // end
                self._tick(done / _TICKS)
        starts = [_EPOCH + self._speech.start(n) for n in range(len(self._speech.payloads))]
        heard = np.array([start in self._buffer.given for start in starts])
        opus = self._station.opus_bytes
        return Outcome(NAME, self._lost, heard, opus, self._wire_bytes, self._up_bytes, self._heard)

    def _next_ns(self) -> int:
        """When something happens next."""
        ready = self._at.ready
        moments = (
            ready[self._sent] if self._sent < len(ready) else None,
            self._pulls_ns(),
            self._down.next_due_ns(),
            self._up.next_due_ns(),
            self._station.repairs.next_due_ns,
            self._asks_ns,
        )
        return min(moment for moment in moments if moment is not None)

    def _pulls_ns(self) -> int:
        return max(0, ns_of(self._pulled) - self._buffer_ns)

    # ------------------------------------------------------------- the station
    def _send(self, now_ns: int) -> None:
        ready = self._at.ready
        while self._sent < len(ready) and ready[self._sent] <= now_ns:
            before = self._down.lost + self._down.dropped
            self._adviser.advise(self._station.provision, self._ear, now_ns)
            self._post(self._station.packet(self._sent), now_ns)
            self._lost[self._sent] = self._down.lost + self._down.dropped > before
            self._sent += 1
            if self._station.epochs != self._told:
                self._told = self._station.epochs
                self._ear.declare(Listen(1, (self._station.spec(),)))

    def _post(self, data: bytes, now_ns: int) -> None:
        self._wire_bytes += len(data) + IP_AND_UDP_BYTES
        self._down.send(data, now_ns)

    def _answer(self, now_ns: int) -> None:
        repairs = self._station.repairs
        for _, data in self._up.due(now_ns):
            repairs.receive(data, _ADDRESS, now_ns, {_SESSION: _ADDRESS}.get)
        if repairs.next_due_ns is not None and repairs.next_due_ns <= now_ns:
            for data in self._station.answers(now_ns):
                self._post(data, now_ns)

    # ------------------------------------------------------------- the loudspeaker
    def _hear(self, now_ns: int) -> None:
        for _, data in self._down.due(now_ns):
            self._ear.receive(data, now_ns)
            if not self._scene.multicast:
                self._asks_ns = now_ns

    def _ask(self, now_ns: int) -> None:
        if now_ns < self._asks_ns:
            return
        wanted = self._ear.requests(now_ns)
        if wanted:
            data = seal_request(wanted, _SESSION, self._station.key)
            self._wire_bytes += len(data) + IP_AND_UDP_BYTES
            self._up_bytes += len(data) + IP_AND_UDP_BYTES
            self._up.send(data, now_ns)
        due_ns = self._ear.next_request_ns()
        self._asks_ns = _NEVER if due_ns is None else max(due_ns, now_ns + MS // 2)

    def _pull(self, now_ns: int) -> None:
        while self._pulls_ns() <= now_ns:
            block = self._ear.pull(self._speech.frame, ns_of(self._pulled))
            self._keep(block, self._pulled - self._delay)
            self._pulled += self._speech.frame

    def _keep(self, block: Samples, at: int) -> None:
        """Where a block that begins `at` this sample of the sound belongs to a clip."""
        for clip, heard in zip(self._clips, self._heard, strict=True):
            begin, end = max(at, clip.start), min(at + len(block), clip.stop)
            if begin < end:
                heard[begin - clip.start : end - clip.start] = block[begin - at : end - at]
