"""Which earlier frames a packet carries once more: chosen by bursts, not by the share lost. Pure.

Who can ask for what it misses (unicast) needs one copy, for what is lost in an outage cannot be
asked for while it lasts: the copy is as far away as the playout delay lets it be of use. Only where
much is lost, but each frame by chance, it is near, and spares the asking. A group is sent more of
them, spread over the playout delay, because of its listeners some can not ask.
"""

import math
from collections import deque
from typing import Final

from codec.format import samples_of_ms
from transport.clock.timeline import NS_PER_MS, NS_PER_SECOND
from transport.recovery.report import LossSummary

# For so long a network is taken for as bad as it was at its worst.
BETTER_AFTER_NS: Final = 60 * NS_PER_SECOND
# What a summary speaks of.
_WINDOW_NS = 30 * NS_PER_SECOND
# From a copy's packet's capture to its arrival, beside its own frame: the encoder's look-ahead,
# pacing, and a way without asking, or one over the internet.
_GROUP_SLACK_MS, _UNICAST_SLACK_MS = 10.0, 60.0
# So much jitter is in that slack already.
_USUAL_JITTER_MS = 20.0
# Frames back: three single losses in a row are rare even where every third packet is lost.
_NEAR_FRAMES = 3
# Of a group's copies; with the one before the last, more by one.
_GROUP_COPIES, _MOST_GROUP_COPIES = 3, 5
# Above this one frame in ten thousand is lost with its three copies, and asking costs as much as a
# near copy.
_HIGH_LOSS = 0.08
_CLEAN_LOSS = 0.001
# A burst that chance alone makes no oftener than so in a hundred windows is none of chance.
_BY_CHANCE = 0.01


def copies_for(
    delivery: str,
    frame_ms: float,
    playout_delay_ms: float,
    summary: LossSummary | None = None,
    *,
    multicast: bool = False,
    settled: bool = True,
) -> tuple[int, ...]:
    """How many samples before a packet's frame those began that it shall carry too, nearest first.

    For frames of `frame_ms` that go to loudspeakers on networks of this kind (a name of
    `transport.control.delivery.DELIVERIES`), to their group where `multicast`. `summary` is how
    those networks are, None before any report; unless it speaks for a good while (`settled`),
    there are never fewer copies than without one. All are multiples of the frame.
    """
    if delivery == "saver":
        return ()  # every byte is paid for: it asks for what it misses
    clean = settled and summary is not None and _is_clean(summary, frame_ms)
    if multicast:
        return _group_copies(frame_ms, playout_delay_ms, summary, clean=clean)
    return () if clean else _unicast_copy(frame_ms, playout_delay_ms, summary)


def _group_copies(
    frame_ms: float, playout_delay_ms: float, summary: LossSummary | None, *, clean: bool
) -> tuple[int, ...]:
    """As far apart as they can be, so that one burst does not take them all.

    Jitter makes the farthest come too late now and then: the one before it goes along as well.
    """
    reach = int((playout_delay_ms - frame_ms - _GROUP_SLACK_MS) // frame_ms)
    if reach < 1:
        return ()
    if clean:
        return _offsets(frame_ms, [reach])
    count = min(_GROUP_COPIES, reach)
    if summary is not None and (summary.loss > _HIGH_LOSS or is_bursty(summary, frame_ms)):
        count = min(_MOST_GROUP_COPIES, reach)
    even = {reach * (n + 1) // count for n in range(count)}
    return _offsets(frame_ms, sorted(even | {max(reach - 1, 1)}))


def _unicast_copy(
    frame_ms: float, playout_delay_ms: float, summary: LossSummary | None
) -> tuple[int, ...]:
    slack_ms = frame_ms + _UNICAST_SLACK_MS
    near = int((playout_delay_ms - frame_ms - _GROUP_SLACK_MS) // frame_ms)
    near = max(min(near, _NEAR_FRAMES), 0)
    if summary is not None:
        # A copy that comes too late is none.
        slack_ms += max(summary.jitter_ms - _USUAL_JITTER_MS, 0.0)
    back = max(int((playout_delay_ms - slack_ms) // frame_ms), near)
    if summary is not None and summary.loss > _HIGH_LOSS and not is_bursty(summary, frame_ms):
        back = near
    return _offsets(frame_ms, [back] if back else [])


def _offsets(frame_ms: float, frames: list[int]) -> tuple[int, ...]:
    frame = samples_of_ms(frame_ms)
    return tuple(back * frame for back in frames)


def _is_clean(summary: LossSummary, frame_ms: float) -> bool:
    return summary.loss < _CLEAN_LOSS and summary.longest_burst_ms <= frame_ms


def is_bursty(summary: LossSummary, frame_ms: float) -> bool:
    """Whether its longest burst is longer than if each frame had been lost by itself.

    Of n packets of which a share p is lost by chance, n (1 - p) p^L runs are L long or longer.
    """
    if not 0 < summary.loss < 1:
        return False
    longest = summary.longest_burst_ms / frame_ms
    packets = _WINDOW_NS / NS_PER_MS / frame_ms
    runs = math.log(packets * (1 - summary.loss)) + longest * math.log(summary.loss)
    return longest > 1 and runs < math.log(_BY_CHANCE)


class LossWatch:
    """The worst that was told of one stream for a minute: worse counts at once, better later."""

    def __init__(self) -> None:
        self._told: deque[tuple[int, LossSummary]] = deque()
        self._heard_ns: int | None = None
        self._since_ns = 0

    def hear(self, summary: LossSummary, now_ns: int) -> None:
        """How it is now, once in a few seconds; what is over a minute old is forgotten."""
        if self._heard_ns is None or now_ns - self._heard_ns > _WINDOW_NS:
            self._since_ns = now_ns
        self._heard_ns = now_ns
        # What is better in every respect can tell nothing any more.
        while self._told and _covers(summary, self._told[-1][1]):
            self._told.pop()
        self._told.append((now_ns, summary))
        while self._told[0][0] <= now_ns - BETTER_AFTER_NS:
            self._told.popleft()

    @property
    def worst(self) -> LossSummary | None:
        """The worst of each figure; None before anything was told."""
        if not self._told:
            return None
        told = [summary for _, summary in self._told]
        return LossSummary(
            max(summary.loss for summary in told),
            max(summary.longest_burst_ms for summary in told),
            max(summary.jitter_ms for summary in told),
        )

    @property
    def settled(self) -> bool:
        """Whether it has been told for so long, without a pause, that better may be believed."""
        return self._heard_ns is not None and self._heard_ns - self._since_ns >= BETTER_AFTER_NS


def _covers(summary: LossSummary, other: LossSummary) -> bool:
    """Whether `summary` is as bad as `other`, or worse, in every respect."""
    return (
        summary.loss >= other.loss
        and summary.longest_burst_ms >= other.longest_burst_ms
        and summary.jitter_ms >= other.jitter_ms
    )
