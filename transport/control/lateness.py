"""What a loudspeaker tells of when a group's packets came."""

from dataclasses import dataclass

from codec.format import SAMPLE_RATE

# So many packets of a window are told of.
MAX_FASTEST = 8
# No frame is further from now than this: see `receiver.PLAUSIBLE_SAMPLES`.
MAX_LATE_US = 12e6
_MOST_WINDOW_S = 128


@dataclass(frozen=True, slots=True)
class Lateness:
    """When the fastest packets of a multicast stream came, by a loudspeaker's media clock.

    Of the frames that begin within `length_s` seconds of media time from `begin_s` on, a multiple
    of that, those few whose packets came soonest after their media time: where each begins, in
    samples after `begin_s`, and how much later its packet came. `stream` is what the stream is
    known by. To two neighbours the same packet comes at the same moment, so what they say of it
    differs by what they are out of step.
    """

    stream: int
    begin_s: int
    length_s: int
    places: tuple[int, ...]
    late_us: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.stream < 1 << 32:
            raise ValueError("what a stream is known by has 32 bits")
        if not 0 < self.length_s <= _MOST_WINDOW_S:
            raise ValueError(f"a window is 1 to {_MOST_WINDOW_S} s long")
        if not 0 <= self.begin_s < 1 << 40 or self.begin_s % self.length_s:
            raise ValueError("a window begins at a multiple of its length")
        if not 1 <= len(self.places) <= MAX_FASTEST or len(self.late_us) != len(self.places):
            raise ValueError(f"1 to {MAX_FASTEST} packets have a place and a lateness each")
        if len(set(self.places)) < len(self.places):
            raise ValueError("two packets are of one place")
        if not all(0 <= place < self.length_s * SAMPLE_RATE for place in self.places):
            raise ValueError("a packet is not of this window")
        if not all(abs(late_us) <= MAX_LATE_US for late_us in self.late_us):  # nor is one NaN
            raise ValueError(f"no packet is more than {MAX_LATE_US / 1e6:g} s late, or early")
