"""A stream with copies, requests and repairs through two seeded links; no sound, virtual time.

The loudspeaker is a `RepairSchedule`, the station a `Repairs`; between them is only what is counted
here: which frames were there when they had to be sounded, and how many frames were sent for that.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from bench.network import MS, Impairments, Link
from server.processes.ring import REPAIR, Entry
from server.usher.repairs import Repairs
from transport.clock.timeline import ns_of_samples, samples_of_ns
from transport.recovery.bundle import unbundle
from transport.recovery.nack import RepairSchedule
from transport.recovery.request import Wanted, seal_request
from transport.rtp.packet import repair_ssrc
from transport.security.session_keys import session_key

SECRET, SESSION, SSRC = bytes(range(32)), 7 << 24 | 1, 0x1234_5678
HOME = ("192.0.2.7", 5_004)
_KEY = session_key(SECRET, SESSION)
_PACKET_BYTES = 190  # a repair of a frame of 60 bytes, sealed and signed


@dataclass
class Outcome:
    """Counts of frames; `repairs` are those that were sent again, each time."""

    frames: int = 0
    raw_lost: int = 0
    residual: int = 0
    copies: int = 0
    repairs: int = 0
    requests: int = 0
    wakes: int = 0
    where: list[int] = field(default_factory=list)

    @property
    def residual_loss(self) -> float:
        """Of all frames."""
        return self.residual / self.frames

    @property
    def payload_ratio(self) -> float:
        """Frames sent, copies and repairs counted, for each frame of sound."""
        return (self.frames + self.copies + self.repairs) / self.frames


class Scene:
    """One stream over one path. `far` is how many frames back its copy is; 0 for none.

    A frame counts as there if it came `ahead_ns` before it is sounded.
    """

    def __init__(
        self,
        down: Impairments,
        up: Impairments,
        seed: int,
        *,
        delay_ms: int = 500,
        frame_ms: int = 20,
        far: int = 21,
        ahead_ns: int = 0,
    ) -> None:
        self.frame = frame_ms * 48
        self.delay = delay_ms * 48
        self.far = far
        self.ahead_ns = ahead_ns
        rng = np.random.default_rng(seed)
        self.down, self.up = Link(down, rng), Link(up, rng)
        self.schedule = RepairSchedule(self.frame, self.delay)
        self.written: list[Entry] = []
        self.repairs = Repairs(self._read, SECRET)
        self.there: dict[int, int] = {}
        self.itself: set[int] = set()
        self.outcome = Outcome()

    def _read(self) -> list[Entry]:
        entries, self.written = self.written, []
        return entries

    def run(self, seconds: float) -> Outcome:
        """So much of the stream."""
        frames = int(seconds * 48_000) // self.frame
        last_ns = ns_of_samples(frames * self.frame + 2 * self.delay)
        now_ns, frame = 0, 0
        while now_ns <= last_ns:
            if frame < frames and now_ns >= self._leaves_ns(frame):
                self._send(frame, now_ns)
                frame += 1
            self._move(now_ns)
            soonest = [] if frame == frames else [self._leaves_ns(frame)]
            due = self.schedule.next_due()
            wakes = (
                self.down.next_due_ns(),
                self.up.next_due_ns(),
                self.repairs.next_due_ns,
                None if due is None else -(-due * 62_500 // 3),
            )
            soonest += [at for at in wakes if at is not None]
            if not soonest:
                break
            now_ns = max(min(soonest), now_ns)
            self.outcome.wakes += 1
        return self._judge(frames)

    def _leaves_ns(self, frame: int) -> int:
        return ns_of_samples((frame + 1) * self.frame)

    def _send(self, frame: int, now_ns: int) -> None:
        self.outcome.copies += bool(self.far and frame >= self.far)
        self.down.send(b"\x80" + frame.to_bytes(4), now_ns)
        head = b"\x80\x62" + (frame & 0xFFFF).to_bytes(2) + frame.to_bytes(4)
        packet = head + repair_ssrc(SSRC).to_bytes(4)
        self.written.append(Entry(1, REPAIR, packet.ljust(_PACKET_BYTES, b"\0")))

    def _move(self, now_ns: int) -> None:
        for _, data in self.up.due(now_ns):
            self.repairs.receive(data, HOME, now_ns, lambda _: HOME)
        for data, _ in self.repairs.due(now_ns):
            self.outcome.repairs += len(unbundle(data))
            self.down.send(data, now_ns)
        for at_ns, data in self.down.due(now_ns):
            self._receive(data, at_ns)
        wanted = self.schedule.due(samples_of_ns(now_ns))
        if wanted:
            self.outcome.requests += 1
            asked = [Wanted(SSRC, sequences) for sequences in wanted.values()]
            self.up.send(seal_request(asked, SESSION, _KEY), now_ns)

    def _receive(self, data: bytes, now_ns: int) -> None:
        now = samples_of_ns(now_ns)
        if data[0] == 0x80:
            frame = int.from_bytes(data[1:])
            self.itself.add(frame)
            self.schedule.arrived(0, frame & 0xFFFF, frame * self.frame, now)
            self._have(frame, now_ns)
            if self.far and frame >= self.far:
                if frame - self.far not in self.there:
                    self.schedule.filled((frame - self.far) * self.frame)
                self._have(frame - self.far, now_ns)
            return
        for packet in unbundle(data):
            frame = int.from_bytes(packet[4:8])
            if frame not in self.there:
                start = frame * self.frame
                self.schedule.arrived(0, frame & 0xFFFF, start, now, repaired=True)
            self._have(frame, now_ns)

    def _have(self, frame: int, now_ns: int) -> None:
        self.there.setdefault(frame, now_ns)

    def _judge(self, frames: int) -> Outcome:
        outcome = self.outcome
        outcome.frames = frames
        outcome.raw_lost = frames - len(self.itself)
        for frame in range(frames):
            due_ns = ns_of_samples(frame * self.frame + self.delay) - self.ahead_ns
            if self.there.get(frame, due_ns + 1) > due_ns:
                outcome.residual += 1
                outcome.where.append(frame)
        return outcome


def each_way(path: Impairments, delay_ms: int = 50) -> tuple[Impairments, Impairments]:
    """A path like this both ways, of so much delay each."""
    one = replace(path, delay_ns=delay_ms * MS)
    return one, one
