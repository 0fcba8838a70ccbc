"""When a loudspeaker asks for which packet again: the receiver's timers. Pure.

Each packet that is missing has a time at which it should have come (its frame's start and the least
delay seen) and one after which an answer is of no use (its playout). Between the two it is asked
for in rounds, each thrice because requests get lost too; the next round begins when both answers
to the last should have come. Shortly before the end, where few are left, it is asked for as often
as the station will answer. All times are media samples (48 kHz), `now_sample` the media clock's.

Of a group thousands may miss the same packet. Each of them waits for a while drawn by chance before
it asks, so that the few who ask first have the packet sent to all, and nobody else need ask.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from codec.format import SAMPLE_RATE
from transport.recovery.report import DelaySpread
from transport.seq import unwrap

__all__ = ["MAX_MISSING", "RepairSchedule"]

MAX_MISSING = 512
_MS = SAMPLE_RATE // 1_000
# What comes late or out of order is waited for so long at least; at most a frame and a half, or
# where the playout delay leaves time for two rounds nevertheless, an eighth of that.
_LEAST_WAIT = 10 * _MS
_WAIT_SHARE = 8
_SUPPOSE_WAIT = 20 * _MS
_MOST_SUPPOSED = 8
# The station answers nothing twice within 40 ms: so long a request may be repeated for nothing.
_REPEATABLE = 30 * _MS
_SUPPOSE_FOR = 600 * _MS
# A round is three requests: of two, 9 % of rounds are lost on the way up where 30 % of packets are.
# What is due within the next 5 ms goes along with what is due now.
_ASKS, _AGAIN, _TOGETHER = 3, 10 * _MS, 5 * _MS
# The station answers twice, 30 ms apart; with another request's 10 ms an answer has come, if it
# ever will, so long after the round trip.
_ANSWERED = 40 * _MS
# The last requests begin so long before it is too late. The station answers none of them sooner
# than 40 ms after the one before, so two of these are answered, though one or two of them be lost
# on the way up; and two answers are four packets.
_TAIL = 60 * _MS
_FIRST_RTT = 100 * _MS
_RTTS = 16
_RTT_PLACE = 4  # of the sorted ones: what is above it was asked for more than once
_RTT_FORGOTTEN = 30 * SAMPLE_RATE
_DELAYS = 128
# Of a group: the longest wait, four times what an answer takes that reaches all (RFC 5401 section
# 3.2, from which the law is as well), and the logarithm of how many they may be.
_SLOT = 40 * _MS
_E_FOLDS = math.log(10_000) + 1
# A repair that comes too late to be heard still tells the round trip.
_LINGER = SAMPLE_RATE
# A numbering that goes on this far from where it was is another one.
_JUMP = 3_000
_EPOCHS = 3


@dataclass(slots=True)
class _Missing:
    """One packet; `due` is None once it is too late to ask again.

    What is `supposed` may never have been sent: it is asked for once a round, and without the end.
    """

    start: int
    due: int | None
    supposed: bool
    first_asked: int | None = None
    round_at: int = 0
    asked: int = 0  # in this round


@dataclass(slots=True)
class _Numbering:
    """The newest packet of an epoch: its number, unwrapped, and its frame's start."""

    newest: int
    start: int


@dataclass(slots=True)
class _Supposing:
    """How many packets after the newest are taken for lost though nothing has shown it."""

    ahead: int = 0
    most: int = _MOST_SUPPOSED
    due: int | None = None
    until: int = 0


@dataclass(slots=True)
class _RoundTrips:
    """From the first request for a packet to its repair, the least quarter of the last few.

    A repair may answer any of several requests (Karn), so each figure is the round trip or more:
    the small ones are right. Before the first, and when the last is too old, nothing is known.
    """

    rtt: int = _FIRST_RTT
    known_at: int | None = None
    last: deque[int] = field(default_factory=lambda: deque(maxlen=_RTTS))

    def add(self, took: int, now: int) -> None:
        if not self.is_known(now):
            self.last.clear()
        self.last.append(max(took, 0))
        self.known_at = now
        ordered = sorted(self.last)
        self.rtt = ordered[min(_RTT_PLACE, len(ordered) // 4)]

    def is_known(self, now: int) -> bool:
        return self.known_at is not None and now - self.known_at < _RTT_FORGOTTEN


class RepairSchedule:
    """Which packets of one stream to ask for, and when; of 512 missing ones at most.

    `frame_samples` is what a packet holds, `delay_samples` the playout delay. `uniform`, which
    draws from [0, 1), is given where the stream is heard by a group.
    """

    def __init__(
        self,
        frame_samples: int,
        delay_samples: int,
        *,
        uniform: Callable[[], float] | None = None,
    ) -> None:
        if frame_samples <= 0 or delay_samples < 0:
            raise ValueError("a frame holds samples, and the playout delay is not negative")
        self._frame = frame_samples
        # An answer has to be there a frame before its own is sounded.
        self._useful = delay_samples - frame_samples
        self._most_wait = max(frame_samples * 3 // 2, delay_samples // _WAIT_SHARE)
        self._delays = DelaySpread(_DELAYS)
        self._numberings: dict[int, _Numbering] = {}
        self._epoch: int | None = None
        self._missing: dict[tuple[int, int], _Missing] = {}
        self._supposing = _Supposing()
        self._round_trips = _RoundTrips()
        self._next: int | None = None
        self._uniform = uniform
        # The share of the slot that is waited for, as long as anything is missing.
        self._turn = 0.0

    def __len__(self) -> int:
        return len(self._missing)

    @property
    def rtt_samples(self) -> int:
        """From a request to its answer; 100 ms until one has been answered."""
        return self._round_trips.rtt

    def next_due(self) -> int | None:
        """When `due` may have something to say; None while nothing is missing or supposed so."""
        return self._next

    # ------------------------------------------------------------------ what came

    def arrived(
        self,
        epoch: int,
        sequence: int,
        start_sample: int,
        now_sample: int,
        *,
        repaired: bool = False,
    ) -> None:
        """An authentic packet came: by itself, or as a repair.

        `sequence` is as it travels (16 bits), `start_sample` when its frame begins.
        """
        numbering = self._numberings.get(epoch)
        place = sequence if numbering is None else unwrap(sequence, numbering.newest, 16)
        step = 0
        was_missing = self._missing.pop((epoch, place), None)
        if not repaired:
            self._delays.add(now_sample - start_sample)
        elif was_missing is not None and was_missing.first_asked is not None:
            self._round_trips.add(now_sample - was_missing.first_asked, now_sample)
        if numbering is None or abs(place - numbering.newest) > _JUMP:
            if repaired:
                return
            self._begin(epoch, place, start_sample, now_sample)
        elif place > numbering.newest:
            self._learn_of_pauses(place - numbering.newest, repaired=repaired)
            self._note_gap(epoch, numbering, (place, start_sample), now_sample)
            step, numbering.newest = place - numbering.newest, place
            numbering.start = start_sample
        else:
            return
        if epoch == self._epoch:
            # After a repair those beyond it that are supposed lost may be on their way as well.
            ahead = max(self._supposing.ahead - step, 0) if repaired else 0
            self._suppose_from(epoch, place, start_sample, ahead)

    def filled(self, start_sample: int) -> None:
        """A copy has brought the frame that begins there: nobody need ask for it any more."""
        for key, missing in self._missing.items():
            if missing.start == start_sample:
                del self._missing[key]
                return

    def _begin(self, epoch: int, place: int, start: int, now: int) -> None:
        """The first packet of an epoch, or of a numbering begun anew."""
        former = None if self._epoch is None else self._numberings.get(self._epoch)
        self._numberings[epoch] = _Numbering(place, start)
        if self._epoch is None or former is None or epoch <= self._epoch:
            # We have just come, or an epoch that is over has a straggler.
            self._epoch = epoch if self._epoch is None else max(epoch, self._epoch)
            return
        # Its numbers begin at 0; what the former one ended with nobody knows but by its time.
        first = start - place * self._frame
        lost = (first - former.start) // self._frame - 1
        # Or there was a pause, of which thousands of a group would ask for what was never sent.
        if 0 < lost <= MAX_MISSING and self._uniform is None:
            ahead = (former.newest + 1 + lost, former.start + (lost + 1) * self._frame)
            self._note_gap(self._epoch, former, ahead, now)
        if place <= MAX_MISSING:
            self._note_gap(epoch, _Numbering(-1, first - self._frame), (place, start), now)
        self._epoch = epoch
        while len(self._numberings) > _EPOCHS:
            del self._numberings[min(self._numberings)]

    def _note_gap(self, epoch: int, before: _Numbering, after: tuple[int, int], now: int) -> None:
        """What lies between two packets is missing, unless it is too late for it."""
        place, start = after
        in_time = (start + self._useful - now) // self._frame
        first = max(before.newest + 1, place - min(in_time, MAX_MISSING))
        for missing in range(first, place):
            # In a pause of the speech packets are rarer: nearest to the later one is where those
            # are whose loss is heard.
            begins = start - (place - missing) * self._frame
            known = self._missing.get((epoch, missing))
            if known is None:
                self._add(epoch, missing, begins, now)
            elif known.supposed:
                known.start, known.supposed = begins, False
                self._confirm(known, now)

    def _forget_beyond(self, epoch: int, place: int) -> None:
        """What was supposed to be lost after `place` has not been sent yet: there was a pause."""
        for key in [key for key in self._missing if key[0] == epoch and key[1] > place]:
            del self._missing[key]

    def _confirm(self, missing: _Missing, now: int) -> None:
        """What was supposed to be lost is: ask as often as for any other, and now.

        A packet has just come, so the network is there again: there is no better moment.
        """
        if missing.first_asked is None or missing.due is None:
            missing.due = now if missing.due is None else missing.due
        elif now - missing.round_at < _REPEATABLE:
            missing.asked, missing.due = 1, max(now, missing.round_at + _AGAIN)
        else:
            missing.asked, missing.due = 0, now
        self._wake(missing.due)

    def _add(self, epoch: int, place: int, start: int, now: int, *, supposed: bool = False) -> None:
        due = max(now, start + self._delays.least + self._wait())
        due += self._slot(start + self._useful - due)
        self._missing[epoch, place] = _Missing(start, due, supposed)
        self._wake(due)
        if len(self._missing) > MAX_MISSING:
            del self._missing[next(iter(self._missing))]

    def _slot(self, left: int) -> int:
        """How long to let others ask first, where `left` is the time for it and all the rest."""
        if self._uniform is None:
            return 0
        if not self._missing:
            self._turn = turn_in_group(self._uniform())
        return round(self._turn * max(min(_SLOT, left // 2), 0))

    def _wait(self) -> int:
        """How long after its time a packet may still come by itself."""
        return max(_LEAST_WAIT, min(self._delays.spread, self._most_wait))

    def _wake(self, at: int) -> None:
        self._next = at if self._next is None else min(self._next, at)

    # ------------------------------------------------------------------ what is supposed

    def _suppose_from(self, epoch: int, place: int, start: int, ahead: int) -> None:
        """Nothing after this packet has come: when to take the next but `ahead` for lost."""
        supposing = self._supposing
        if supposing.ahead and not ahead:
            self._forget_beyond(epoch, place)
        supposing.ahead = ahead
        supposing.until = start + self._delays.least + _SUPPOSE_FOR
        self._suppose_next(start)

    def _learn_of_pauses(self, step: int, *, repaired: bool) -> None:
        """Whether what was supposed lost was: where pauses are frequent less is supposed."""
        supposing = self._supposing
        if step > 1 or repaired:
            supposing.most = _MOST_SUPPOSED
        elif supposing.ahead:
            supposing.most = max(supposing.most // 2, 1)

    def _suppose_next(self, start: int) -> None:
        supposing = self._supposing
        wait = max(_SUPPOSE_WAIT, self._delays.spread)
        due = start + (supposing.ahead + 1) * self._frame + self._delays.least + wait
        over = supposing.ahead >= supposing.most or due > supposing.until
        # To a group a pause would be thousands of requests for what was never sent.
        over |= self._uniform is not None
        supposing.due = None if over else due
        if supposing.due is not None:
            self._wake(due)

    def _suppose(self, now: int) -> None:
        """Take for lost what should have come by now."""
        supposing = self._supposing
        while supposing.due is not None and supposing.due <= now and self._epoch is not None:
            newest = self._numberings[self._epoch]
            supposing.ahead += 1
            ahead = supposing.ahead
            begins = newest.start + ahead * self._frame
            self._add(self._epoch, newest.newest + ahead, begins, now, supposed=True)
            self._suppose_next(newest.start)

    # ------------------------------------------------------------------ what to ask for

    def due(self, now_sample: int) -> dict[int, tuple[int, ...]]:
        """Sequence numbers to ask for now, oldest first, by epoch; they count as asked for."""
        if self._next is None or now_sample < self._next:
            return {}
        self._suppose(now_sample)
        self._next = None
        wanted: dict[int, list[int]] = {}
        for key, missing in sorted(self._missing.items()):
            last = self._last_useful(missing, now_sample)
            if now_sample > missing.start + self._useful + _LINGER:
                del self._missing[key]
                continue
            if missing.due is not None and missing.due <= now_sample + _TOGETHER:
                if now_sample <= last:
                    wanted.setdefault(key[0], []).append(key[1] & 0xFFFF)
                    self._mark(missing, now_sample, last)
                else:
                    missing.due = None
            if missing.due is not None:
                self._wake(missing.due)
        if self._supposing.due is not None:
            self._wake(self._supposing.due)
        return {epoch: tuple(sequences) for epoch, sequences in wanted.items()}

    def _last_useful(self, missing: _Missing, now: int) -> int:
        """The last time to ask for it. While no round trip is known any time is worth trying."""
        trips = self._round_trips
        return missing.start + self._useful - (trips.rtt if trips.is_known(now) else 0)

    def _mark(self, missing: _Missing, now: int, last: int) -> None:
        """It is asked for now; when to ask again."""
        if missing.first_asked is None:
            missing.first_asked = now
        if not missing.asked:
            missing.round_at = now
        missing.asked += 1
        again = now + _AGAIN
        answered = missing.round_at + self._round_trips.rtt + _ANSWERED
        if missing.supposed or self._uniform is not None:
            missing.asked = 0
            again = answered
        elif again <= last - _TAIL and missing.asked >= _ASKS:
            missing.asked = 0
            again = max(again, min(answered, last - _TAIL))
        missing.due = again if again <= last else None


def turn_in_group(drawn: float) -> float:
    """Which share of the longest wait to wait for, 0 to 1, where 0 to 1 was drawn evenly.

    Of thousands a few are early and most late: however many there are, so few ask before the
    answer comes that one more would hardly be noticed (RFC 5401 section 3.2.2).
    """
    return math.log1p(drawn * math.expm1(_E_FOLDS)) / _E_FOLDS
