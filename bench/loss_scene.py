"""What all schemes in the bench of loss meet alike: a path, its weather, and a playout delay."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.loss_sound import Fates
from bench.network import Impairments, Link, Profile, profile
from bench.trace import load_trace
from codec.format import SAMPLE_RATE, Samples
from transport.control.delivery import DELIVERIES, Delivery

MS = 1_000_000
IP_AND_UDP_BYTES = 20 + 8
# A mobile network's round trip, where a profile names none (numbers.md, P6).
UNICAST_RTT_MS = 100.0


@dataclass(frozen=True, slots=True)
class Scene:
    """One loudspeaker at the end of a path.

    Packets of `frame_ms` are heard `playout_delay_ms` after their sound was captured. `rtt_ms` is
    there and back of the path's fixed delay; None leaves it to the profile. Nobody asks for
    anything again in `multicast`. A `trace` takes the place of what the profile says, both ways
    but not in step; the profile then only names the run. A frame must be there `buffer_ms` before
    it sounds: what the output keeps ready for its device, which is a part of the playout delay.
    """

    profile: str
    delivery: str
    playout_delay_ms: float
    multicast: bool
    rtt_ms: float | None
    seed: int
    trace: Path | None = None
    buffer_ms: float = 0.0

    @property
    def kind(self) -> Delivery:
        """The delivery by its name."""
        return DELIVERIES[self.delivery]

    @property
    def frame_ms(self) -> float:
        """The length of a packet."""
        return self.kind.frame_ms

    def links(self) -> tuple[Link, Link]:
        """A fresh path, (station to loudspeaker, back), with this seed's weather."""
        path = profile(self.profile) if self.trace is None else Profile(self._replayed())
        if self.rtt_ms is not None:
            path = path.with_rtt(self.rtt_ms)
        return path.links(np.random.default_rng(self.seed))

    def _replayed(self) -> Impairments:
        return Impairments(trace=None if self.trace is None else load_trace(self.trace))


def scene_of(
    name: str,
    delivery: str,
    *,
    seed: int,
    playout_delay_ms: float | None = None,
    rtt_ms: float | None = None,
    multicast: bool = False,
    trace: Path | None = None,
    buffer_ms: float = 0.0,
) -> Scene:
    """A scene where what is left out is as usual; ValueError for what no network is.

    By unicast a profile without a delay of its own gets a round trip of 100 ms.
    """
    kind = DELIVERIES[delivery]
    if multicast and not kind.may_multicast:
        raise ValueError(f"delivery {delivery} goes by unicast alone: leave --multicast out")
    own_delay = trace is not None or profile(name).path.delay_ns > 0
    delay_ms = kind.playout_delay_ms if playout_delay_ms is None else playout_delay_ms
    if not delay_ms > kind.frame_ms:
        raise ValueError(f"a playout delay is longer than a frame of {kind.frame_ms:g} ms")
    if not 0 <= buffer_ms < delay_ms:
        raise ValueError(f"--buffer-ms {buffer_ms:g}: use 0 to less than the playout delay")
    if rtt_ms is not None and not 0 <= rtt_ms <= 10_000:
        raise ValueError(f"--rtt-ms {rtt_ms:g}: use 0 to 10000")
    if rtt_ms is None and not kind.may_multicast and not own_delay:
        rtt_ms = UNICAST_RTT_MS
    return Scene(name, delivery, delay_ms, multicast, rtt_ms, seed, trace, buffer_ms)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of a run's frames under one scheme.

    `lost[i]` says whether the link lost the packet that frame i was sent in first, `heard[i]`
    whether the frame was there when it had to sound. `opus_bytes` counts all copies and repairs,
    `wire_bytes` all that was sent either way with IP and UDP headers; `up_bytes` of them went from
    the loudspeaker to the station. `clips` are the stretches to be judged, as they were heard.
    """

    scheme: str
    lost: Fates
    heard: Fates
    opus_bytes: int
    wire_bytes: int
    up_bytes: int
    clips: list[Samples]


def ns_of(samples: int) -> int:
    """Samples as nanoseconds of true time, rounded down."""
    return samples * 1_000_000_000 // SAMPLE_RATE
