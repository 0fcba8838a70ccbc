"""What arrived, what did not and how evenly (RFC 3550 sections 6.4.1 and A.1, A.3, A.8)."""

from __future__ import annotations

from enum import Enum, auto

from transport.seq import diff, unwrap, wrap

__all__ = ["MAX_DROPOUT", "MAX_MISORDER", "WINDOW", "ReceptionStats", "Verdict"]

MAX_DROPOUT = 3000  # packets; a larger step forward is not believed at once
MAX_MISORDER = 100  # packets; nor is a larger step back
WINDOW = 64  # packets, up to the newest, in which a duplicate is told from a late arrival
_WINDOW_MASK = (1 << WINDOW) - 1


class Verdict(Enum):
    """What a packet turned out to be; only `DUPLICATE` and `DROPPED` are of no further use."""

    IN_ORDER = auto()  # the newest yet, gap or not
    REORDERED = auto()  # late, and not seen before
    DUPLICATE = auto()
    RESTARTED = auto()  # the source jumped; this and all before it are unrelated
    DROPPED = auto()  # an unbelievable jump, or too late to tell from a duplicate


class ReceptionStats:
    """Reception of one SSRC, whose value the receiver was told: its first packet counts at once.

    RFC 3550 keeps a source on probation because anybody's SSRC might turn up; here that would
    only cost the first frames of an alert. Counters cover the whole life of the object; jitter
    starts again when the source restarts, as in appendix A.1.
    """

    def __init__(self, clock_rate: int) -> None:
        if clock_rate <= 0:
            raise ValueError(f"clock rate must be positive, got {clock_rate}")
        self._clock_rate = clock_rate
        self.received = 0  # unique packets
        self.duplicates = 0
        self.reordered = 0
        self.dropped = 0
        self.restarts = 0
        self._lost_before_restart = 0
        self._started = False
        self._after_jump: int | None = None
        self._start(0)

    def _start(self, sequence: int) -> None:
        self._base = self._highest = sequence
        self._seen = 1  # bit i: the packet i before the highest has arrived
        self._unique_since_base = 1
        self._after_jump = None
        self._jitter = 0.0
        self._last_timestamp: int | None = None
        self._last_transit = 0.0

    @property
    def lost(self) -> int:
        """Packets expected and not (or not yet) arrived; falls when one arrives late."""
        return self._lost_before_restart + self._missing()

    @property
    def jitter_samples(self) -> float:
        """Smoothed interarrival jitter in timestamp units."""
        return self._jitter

    @property
    def jitter_ns(self) -> int:
        """Smoothed interarrival jitter as time."""
        return round(self._jitter * 1e9 / self._clock_rate)

    def extended_sequence(self, sequence: int) -> int:
        """Return the unwrapped form of a 16-bit sequence number, nearest to the newest packet.

        Negative for a packet from before a first one numbered 0. Starts again on a restart.
        """
        return unwrap(sequence, self._highest, 16) if self._started else sequence

    def update(self, sequence: int, timestamp: int, arrival_samples: float) -> Verdict:
        """Take note of one packet; `arrival_samples` is the local clock in timestamp units.

        The arrival must not wrap; its origin does not matter.
        """
        verdict = self._judge(sequence)
        if verdict is Verdict.DROPPED:
            self.dropped += 1
        elif verdict is Verdict.DUPLICATE:
            self.duplicates += 1
        else:
            self.received += 1
            self._update_jitter(timestamp, arrival_samples)
        return verdict

    def _missing(self) -> int:
        return self._highest - self._base + 1 - self._unique_since_base if self._started else 0

    def _judge(self, sequence: int) -> Verdict:
        if not self._started:
            self._started = True
            self._start(sequence)
            return Verdict.IN_ORDER
        step = diff(sequence, self._highest, 16)
        if not -MAX_MISORDER < step < MAX_DROPOUT:
            return self._judge_jump(sequence)
        # Stricter than appendix A.1, which lets old stragglers a minute apart make "two in a row".
        self._after_jump = None
        return self._advance(step) if step > 0 else self._judge_late(-step)

    def _advance(self, step: int) -> Verdict:
        self._highest += step
        self._seen = (self._seen << step | 1) & _WINDOW_MASK
        self._unique_since_base += 1
        return Verdict.IN_ORDER

    def _judge_late(self, age: int) -> Verdict:
        if age >= WINDOW:
            return Verdict.DROPPED
        if self._seen >> age & 1:
            return Verdict.DUPLICATE
        self._seen |= 1 << age
        self.reordered += 1
        if self._highest - age >= self._base:  # what was sent before we came is not expected
            self._unique_since_base += 1
        return Verdict.REORDERED

    def _judge_jump(self, sequence: int) -> Verdict:
        if sequence != self._after_jump:
            self._after_jump = wrap(sequence + 1, 16)
            return Verdict.DROPPED
        # Two in a row: the sender restarted without telling us (appendix A.1).
        self._lost_before_restart += self._missing()
        self.restarts += 1
        self._start(sequence)
        return Verdict.RESTARTED

    def _update_jitter(self, timestamp: int, arrival_samples: float) -> None:
        """Appendix A.8. Copies are left out: they are late by design, not by the network."""
        if self._last_timestamp is None:
            unwrapped = timestamp
            self._last_transit = arrival_samples - unwrapped
        else:
            unwrapped = unwrap(timestamp, self._last_timestamp, 32)
            transit = arrival_samples - unwrapped
            self._jitter += (abs(transit - self._last_transit) - self._jitter) / 16
            self._last_transit = transit
        self._last_timestamp = unwrapped
