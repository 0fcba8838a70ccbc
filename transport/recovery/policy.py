"""Which earlier frames a packet carries once more: chosen by bursts, not by the share lost. Pure.

Who can ask for what it misses (unicast) needs one copy, for what is lost in an outage cannot be
asked for while it lasts: the copy is as far away as the playout delay lets it be of use. Only where
much is lost, but each frame by chance, it is near, and spares the asking. A group is sent more of
them, spread over the playout delay, because of its listeners some can not ask. Where it loses very
much by chance, symbols of a block code go along instead: of fewer bytes more comes back.
"""

import math
from collections import deque
from functools import lru_cache
from typing import Final

from codec.format import samples_of_ms
from transport.clock.timeline import NS_PER_MS, NS_PER_SECOND
from transport.recovery.erasure import MOST_FRAMES, MOST_SYMBOLS, Code
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
# Above this what copies bring back costs a group more bytes than a code.
_CODED_LOSS = 0.15
# So many frames of a block at least, for of fewer a code makes too little; and when so few of all
# frames are lost for good, fewer are not worth more bytes.
_LEAST_BLOCK, _FEW_LOST = 6, 1e-5
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


def code_for(
    delivery: str,
    frame_ms: float,
    playout_delay_ms: float,
    summary: LossSummary | None,
    *,
    multicast: bool = False,
) -> Code | None:
    """Which code goes along instead of copies; None where copies are better, or as good.

    As `copies_for`, whose copies go along until the code's first symbols do. A block's last symbols
    are in the packet that comes twice a block after its first frame, and have to be in time for it.
    """
    if delivery == "saver" or not multicast or summary is None:
        return None
    if summary.loss <= _CODED_LOSS or is_bursty(summary, frame_ms):
        return None
    margin_ms = playout_delay_ms - frame_ms - _GROUP_SLACK_MS
    if summary.margin_ms is not None:
        margin_ms = min(margin_ms, summary.margin_ms)
    # A frame less than copies reach: jitter makes the last symbols come too late now and then.
    most_frames = min(int(margin_ms // frame_ms) // 2, MOST_FRAMES)
    copies = _group_copies(frame_ms, playout_delay_ms, summary, clean=False)
    # Upwards, so that a little more or less is no other code.
    loss = min(math.ceil(summary.loss * 100) / 100, 1.0)
    return _best_code(most_frames, loss, len(copies))


@lru_cache(maxsize=256)
def _best_code(most_frames: int, loss: float, copies: int) -> Code | None:
    """The cheapest that loses no more than so many copies; of equals the one that loses least."""
    codes = [
        Code(frames, symbols)
        for frames in range(_LEAST_BLOCK, most_frames + 1)
        for symbols in sorted({min(n * frames, MOST_SYMBOLS - frames) for n in (1, 2, 3)})
    ]
    allowed = max(loss ** (1 + copies), _FEW_LOST)
    good = [code for code in codes if residual_loss(code, loss) <= allowed < 1]
    return min(
        good,
        key=lambda code: (code.symbols / code.frames, residual_loss(code, loss)),
        default=None,
    )


@lru_cache(maxsize=1_024)
def residual_loss(code: Code, loss: float) -> float:
    """Which share of all frames is lost for good if of all packets `loss` is, each by chance.

    A block is lost as far as it did not come itself when more of its frames did not come than
    symbols did. Frames are in packets of their own, symbols in those of as many packets after them.
    """
    frames, symbols = code.frames, code.symbols
    own = [math.comb(frames, n) * loss**n * (1 - loss) ** (frames - n) for n in range(frames + 1)]
    # Of how many lost symbols how often, packet by packet.
    lost = [1.0]
    for place in range(frames):
        here = (place + 1) * symbols // frames - place * symbols // frames
        came = [chance * (1 - loss) for chance in lost] + [0.0] * here
        gone = [0.0] * here + [chance * loss for chance in lost]
        lost = [a + b for a, b in zip(came, gone, strict=True)]
    too_few = [sum(lost[symbols - n + 1 :]) for n in range(min(frames, symbols) + 1)]
    return (
        sum(n * own[n] * (too_few[n] if n <= symbols else 1.0) for n in range(frames + 1)) / frames
    )


def _group_copies(
    frame_ms: float, playout_delay_ms: float, summary: LossSummary | None, *, clean: bool
) -> tuple[int, ...]:
    """As far apart as they can be, so that one burst does not take them all.

    Jitter makes the farthest come too late now and then: the one before it goes along as well.
    """
    reach = int((playout_delay_ms - frame_ms - _GROUP_SLACK_MS) // frame_ms)
    if reach < 1:
        return ()
    if summary is not None and summary.margin_ms is not None:
        # And one beyond, for it is in time more often than not.
        reach = max(min(int(summary.margin_ms // frame_ms) + 1, reach), 1)
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
    most = max(int((playout_delay_ms - frame_ms - _GROUP_SLACK_MS) // frame_ms), 0)
    near = min(most, _NEAR_FRAMES)
    # A copy that comes too late is none.
    if summary is not None and summary.margin_ms is not None:
        back = min(int(summary.margin_ms // frame_ms), most)
    else:
        jitter_ms = 0.0 if summary is None else summary.jitter_ms
        slack_ms = frame_ms + _UNICAST_SLACK_MS + max(jitter_ms - _USUAL_JITTER_MS, 0.0)
        back = int((playout_delay_ms - slack_ms) // frame_ms)
    back = max(back, near)
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
            min((s.margin_ms for s in told if s.margin_ms is not None), default=None),
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
        and _margin_of(summary) <= _margin_of(other)
    )


def _margin_of(summary: LossSummary) -> float:
    return math.inf if summary.margin_ms is None else summary.margin_ms
