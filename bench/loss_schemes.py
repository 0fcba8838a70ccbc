"""What others do against loss, on the same links as ours: frame by frame, decoded by libopus.

All of it is what the schemes could do at best. A frame is in time if it is there at the very
sample it has to sound at. An erasure code recovers whatever is missing in a block as soon as as
many of its packets have come as the block has frames (XOR of four does that for one, and
Reed-Solomon is MDS), and its repair packets are spread over as much time as the playout delay of
the block's first frame leaves. Peers' packets are counted in clear, without seal or signature.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.loss_scene import IP_AND_UDP_BYTES, MS, Outcome, Scene, ns_of
from bench.loss_sound import Fates, Speech, decoded
from bench.network import Link

_NEVER: Final = 1 << 62
_RTP_BYTES = 12
# RFC 2198 section 3: four bytes before each copy, one before the frame itself.
_RED_BYTES = 4
# The head of a repair packet: RFC 8627 (XOR), RFC 6865 with its length field (Reed-Solomon).
_CODE_BYTES = 12
# RFC 4585 section 6.2.1: a generic NACK for one packet; RFC 4588 section 4: the sequence number.
_NACK_BYTES, _AGAIN_BYTES = 16, 2
_REORDER_NS, _PATIENCE_NS = 10 * MS, 10 * MS


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet of a scheme: when it leaves, in ns, and how many bytes its UDP payload has."""

    at_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class Times:
    """When each frame of a run is ready to be sent, and when it has to be there, in ns."""

    ready: tuple[int, ...]
    sounds: tuple[int, ...]


def times(scene: Scene, speech: Speech) -> Times:
    """The same for all schemes, ours included."""
    delay = round((scene.playout_delay_ms - scene.buffer_ms) * 48)
    indexes = range(len(speech.payloads))
    return Times(
        tuple(ns_of((index + 1) * speech.frame) for index in indexes),
        tuple(ns_of(max(0, speech.start(index) + delay)) for index in indexes),
    )


def carry(link: Link, packets: Sequence[Sent]) -> list[int]:
    """When each of the packets, which leave in order, arrives first; `_NEVER` for what is lost."""
    arrivals = [_NEVER] * len(packets)

    def take(now_ns: int) -> None:
        for at_ns, data in link.due(now_ns):
            index = int.from_bytes(data[:4], "big")
            arrivals[index] = min(arrivals[index], at_ns)

    for index, packet in enumerate(packets):
        link.send(index.to_bytes(4, "big") + bytes(packet.size - 4), packet.at_ns)
        take(packet.at_ns)
    take(_NEVER)
    return arrivals


@dataclass(frozen=True, slots=True)
class Scheme:
    """A peer's scheme: its name, what it does, and whether its encoder adds in-band FEC.

    `asks` marks what cannot be done by multicast.
    """

    name: str
    run: Callable[[str, Scene, Speech, Sequence[range]], Outcome]
    inband_fec: bool = False
    asks: bool = False


def _fates(arrivals: Sequence[int], sounds: Sequence[int]) -> tuple[Fates, Fates]:
    """(lost, in time) of main packets."""
    at, due = np.array(arrivals), np.array(sounds)
    return at == _NEVER, at <= due


def _outcome(
    name: str,
    speech: Speech,
    clips: Sequence[range],
    fates: tuple[Fates, Fates],
    sizes: Sequence[int],
    opus_bytes: int,
    up_bytes: int = 0,
) -> Outcome:
    lost, heard = fates
    down = sum(sizes) + len(sizes) * IP_AND_UDP_BYTES
    sound = [decoded(speech, heard, clip) for clip in clips]
    return Outcome(name, lost, heard, opus_bytes, down + up_bytes, up_bytes, sound)


def _plain(speech: Speech, at: Times) -> list[Sent]:
    return [
        Sent(ready, _RTP_BYTES + len(payload))
        for ready, payload in zip(at.ready, speech.payloads, strict=True)
    ]


def conceal(name: str, scene: Scene, speech: Speech, clips: Sequence[range]) -> Outcome:
    """Opus alone invents what is missing."""
    at = times(scene, speech)
    packets = _plain(speech, at)
    fates = _fates(carry(scene.links()[0], packets), at.sounds)
    opus = sum(map(len, speech.payloads))
    return _outcome(name, speech, clips, fates, [packet.size for packet in packets], opus)


def inband(name: str, scene: Scene, speech: Speech, clips: Sequence[range]) -> Outcome:
    """Opus restores a frame, more coarsely, from what the next packet says of it.

    It counts as heard then, whatever it sounds like. Many packets say nothing: the encoder has its
    own mind about when that is worth its bits.
    """
    at = times(scene, speech)
    packets = _plain(speech, at)
    arrivals = carry(scene.links()[0], packets)
    lost, came = _fates(arrivals, at.sounds)
    tells = [*map(has_inband_fec, speech.payloads[1:]), False]
    restored = tells & (np.array([*arrivals[1:], _NEVER]) <= np.array(at.sounds))
    sound = [decoded(speech, came, clip, restored=restored) for clip in clips]
    opus = sum(map(len, speech.payloads))
    wire = sum(packet.size + IP_AND_UDP_BYTES for packet in packets)
    return Outcome(name, lost, came | restored, opus, wire, 0, sound)


def has_inband_fec(packet: bytes) -> bool:
    """Whether a mono packet of libopus tells of the one before (RFC 6716 sections 3.2, 4.2.4)."""
    config, code = packet[0] >> 3, packet[0] & 3
    at = 1
    if code == 2:
        at += _length_bytes(packet, at)
    elif code == 3:
        count = packet[1] & 63
        at = 2
        while packet[1] & 64 and packet[at] == 255:  # padding of 254 bytes and more
            at += 1
        at += packet[1] >> 6 & 1
        for _ in range(count - 1 if packet[1] & 128 else 0):
            at += _length_bytes(packet, at)
    # From 16 on there is no SILK in it; of the other configurations two bits tell the length, and
    # hybrid ones are of 20 ms at most.
    if config >= 16 or at >= len(packet):
        return False
    silk_frames = 1 if config >= 12 else (1, 1, 2, 3)[config % 4]
    return bool(packet[at] >> 7 - silk_frames & 1)


def _length_bytes(packet: bytes, at: int) -> int:
    return 2 if packet[at] >= 252 else 1


def redundant(
    copies: int,
) -> Callable[[str, Scene, Speech, Sequence[range]], Outcome]:
    """RFC 2198 with copies of the last one or two frames, as browsers send it."""

    def run(name: str, scene: Scene, speech: Speech, clips: Sequence[range]) -> Outcome:
        at = times(scene, speech)
        lengths = [len(payload) for payload in speech.payloads]
        packets = []
        for index, ready in enumerate(at.ready):
            carried = lengths[max(0, index - copies) : index + 1]
            size = _RTP_BYTES + sum(carried) + _RED_BYTES * (len(carried) - 1) + 1
            packets.append(Sent(ready, size))
        arrivals = carry(scene.links()[0], packets)
        lost, heard = _fates(arrivals, at.sounds)
        for back in range(1, copies + 1):
            later = [*arrivals[back:], *[_NEVER] * back]
            heard |= np.array(later) <= np.array(at.sounds)
        opus = sum(sum(lengths[max(0, i - copies) : i + 1]) for i in range(len(lengths)))
        sizes = [packet.size for packet in packets]
        return _outcome(name, speech, clips, (lost, heard), sizes, opus)

    return run


def block_code(
    frames: int, repairs: int
) -> Callable[[str, Scene, Speech, Sequence[range]], Outcome]:
    """An erasure code over blocks of so many frames, with so many repair packets each."""

    def run(name: str, scene: Scene, speech: Speech, clips: Sequence[range]) -> Outcome:
        at = times(scene, speech)
        plain = _plain(speech, at)
        frame_ns = round(scene.frame_ms * MS)
        room_ns = round(scene.playout_delay_ms * MS) - (frames + 1) * frame_ns
        gap_ns = max(0, min(frame_ns, room_ns // repairs))
        sent: list[tuple[Sent, int]] = [(packet, n // frames) for n, packet in enumerate(plain)]
        opus = sum(map(len, speech.payloads))
        for block, first in enumerate(range(0, len(plain) - frames + 1, frames)):
            longest = max(map(len, speech.payloads[first : first + frames]))
            ends_ns = at.ready[first + frames - 1]
            for number in range(repairs):
                leaves_ns = ends_ns + number * gap_ns
                sent.append((Sent(leaves_ns, _RTP_BYTES + _CODE_BYTES + longest), block))
            opus += repairs * longest
        # The frames' own packets come first in `sent`, and stay first at equal times.
        order = sorted(range(len(sent)), key=lambda n: sent[n][0].at_ns)
        came = carry(scene.links()[0], [sent[n][0] for n in order])
        arrivals = dict(zip(order, came, strict=True))
        main = [arrivals[n] for n in range(len(plain))]
        lost, heard = _fates(main, at.sounds)
        complete = _complete_at(frames, [sent[n][1] for n in range(len(sent))], arrivals)
        recovered_ns = np.array([complete.get(n // frames, _NEVER) for n in range(len(plain))])
        heard |= recovered_ns <= np.array(at.sounds)
        sizes = [packet.size for packet, _ in sent]
        return _outcome(name, speech, clips, (lost, heard), sizes, opus)

    return run


def _complete_at(frames: int, blocks: Sequence[int], arrivals: dict[int, int]) -> dict[int, int]:
    """When as many packets of each block had come as it has frames."""
    by_block: dict[int, list[int]] = {}
    for index, block in enumerate(blocks):
        by_block.setdefault(block, []).append(arrivals[index])
    # A last block that was never filled has no repair packets, and is never complete but by itself.
    return {
        block: sorted(came)[frames - 1] for block, came in by_block.items() if len(came) >= frames
    }


class _Asking:
    """Repeat-request alone: a gap is asked for 10 ms after it shows, and again a round trip later.

    The round trip is measured as it goes; what could not come in time is not asked for.
    """

    def __init__(self, scene: Scene, speech: Speech) -> None:
        self.at = times(scene, speech)
        self.arrivals = [_NEVER] * len(speech.payloads)
        self.lost = np.zeros(len(speech.payloads), np.bool_)
        self.requests = 0
        self.again: list[int] = []
        self._sizes = [_RTP_BYTES + len(payload) for payload in speech.payloads]
        self._down, self._up = scene.links()
        self._asks: list[tuple[int, int, int]] = []
        self._asked_ns: dict[int, int | None] = {}
        self._rtt_ns = 100 * MS
        self._highest = -1

    def run(self) -> None:
        """Until nothing is under way any more."""
        sent = 0
        while True:
            main_ns = self.at.ready[sent] if sent < len(self._sizes) else _NEVER
            ask_ns = self._asks[0][0] if self._asks else _NEVER
            up_ns, down_ns = (_due_ns(link) for link in (self._up, self._down))
            now_ns = min(main_ns, ask_ns, up_ns, down_ns)
            if now_ns == _NEVER:
                return
            if now_ns == main_ns:
                self._send(sent, now_ns)
                sent += 1
            for at_ns, data in self._down.due(now_ns):
                self._arrive(int.from_bytes(data[:4], "big"), at_ns)
            for _, data in self._up.due(now_ns):
                index = int.from_bytes(data[:4], "big")
                self.again.append(self._sizes[index] + _AGAIN_BYTES)
                self._down.send(index.to_bytes(4, "big") + bytes(self.again[-1] - 4), now_ns)
            while self._asks and self._asks[0][0] <= now_ns:
                self._ask(heapq.heappop(self._asks), now_ns)

    def _send(self, index: int, now_ns: int) -> None:
        before = self._down.lost + self._down.dropped
        self._down.send(index.to_bytes(4, "big") + bytes(self._sizes[index] - 4), now_ns)
        self.lost[index] = self._down.lost + self._down.dropped > before

    def _arrive(self, index: int, at_ns: int) -> None:
        asked_ns = self._asked_ns.pop(index, None)
        if asked_ns is not None and self.arrivals[index] == _NEVER:
            self._rtt_ns += (at_ns - asked_ns - self._rtt_ns) // 8
        self.arrivals[index] = min(self.arrivals[index], at_ns)
        for missing in range(self._highest + 1, index):
            heapq.heappush(self._asks, (at_ns + _REORDER_NS, missing, 0))
        self._highest = max(self._highest, index)

    def _ask(self, ask: tuple[int, int, int], now_ns: int) -> None:
        _, index, tries = ask
        in_time = now_ns + self._rtt_ns <= self.at.sounds[index]
        if self.arrivals[index] != _NEVER or not in_time:
            return
        # Of what was asked for twice nobody knows which question was answered (Karn).
        self._asked_ns[index] = now_ns if tries == 0 else None
        self._up.send(index.to_bytes(4, "big") + bytes(_NACK_BYTES - 4), now_ns)
        self.requests += 1
        heapq.heappush(self._asks, (now_ns + self._rtt_ns + _PATIENCE_NS, index, tries + 1))


def _due_ns(link: Link) -> int:
    due_ns = link.next_due_ns()
    return _NEVER if due_ns is None else due_ns


def ask_again(name: str, scene: Scene, speech: Speech, clips: Sequence[range]) -> Outcome:
    """RFC 4585 and RFC 4588, and nothing else."""
    asking = _Asking(scene, speech)
    asking.run()
    heard = np.array(asking.arrivals) <= np.array(asking.at.sounds)
    sizes = [_RTP_BYTES + len(payload) for payload in speech.payloads] + asking.again
    opus = sum(sizes) - _RTP_BYTES * len(sizes) - _AGAIN_BYTES * len(asking.again)
    up_bytes = asking.requests * (_NACK_BYTES + IP_AND_UDP_BYTES)
    return _outcome(name, speech, clips, (asking.lost, heard), sizes, opus, up_bytes)


SCHEMES: Final = (
    Scheme("plc", conceal),
    Scheme("inband-fec", inband, inband_fec=True),
    Scheme("red-1", redundant(1)),
    Scheme("red-2", redundant(2)),
    Scheme("xor-4+1", block_code(4, 1)),
    Scheme("rs-18+10", block_code(18, 10)),
    Scheme("repeat-request", ask_again, asks=True),
)
