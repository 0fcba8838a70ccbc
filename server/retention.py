"""How long is kept what the store only ever adds to: rows of the audit log, past programmes.

Both go in small pieces, so that whoever else wants the store waits for one of them at most.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from server.audit.caller import STATION
from server.audit.row import CUT, Tail, genesis_hash, instant, row_hash
from server.errors import StationError
from server.keeper import Keeper
from server.recording import Recorder
from server.store.store import Store
from server.vouching import Vouching
from transport.clock.timeline import NS_PER_SECOND
from transport.errors import MalformedPacket

DAY_NS = 24 * 3600 * NS_PER_SECOND
_FIRST_LOOK_NS, _LOOK_NS = 60 * NS_PER_SECOND, 3600 * NS_PER_SECOND
# What is read or deleted at once, and how long others have the store to themselves then.
_ROWS_AT_ONCE, _HEADS_AT_ONCE = 100, 500
_PAUSE_S = 0.05
_log = logging.getLogger(__name__)


class NotWholeError(StationError):
    """Rows that shall be cut off were changed by somebody: they stay, for they are the evidence."""


class Retention:
    """Cuts the front off the audit log, up to a signed head, and forgets past programmes."""

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        recorder: Recorder,
        vouching: Vouching,
        now_ns: Callable[[], int],
        *,
        audit_days: int,
        programmes_days: int,
    ) -> None:
        """For so many days; 0 is for ever. `now_ns` is nanoseconds since 1970 (UTC)."""
        self._store = store
        self._keeper = keeper
        self._recorder = recorder
        self._vouching = vouching
        self._now_ns = now_ns
        self._audit_days = audit_days
        self._programmes_days = programmes_days
        self._due_ns = now_ns() + _FIRST_LOOK_NS
        self._looking: asyncio.Task[None] | None = None
        self._fault = ""

    def tick(self) -> None:
        """To be called every second or so; looks once an hour."""
        now_ns = self._now_ns()
        if now_ns >= self._due_ns and (self._looking is None or self._looking.done()):
            self._due_ns = now_ns + _LOOK_NS
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        # Each by itself: a log that is not cut shall not keep programmes for ever.
        for keep in (self.cut_audit, self.forget_programmes):
            await self._complaining(keep)

    async def _complaining(self, keep: Callable[[], Awaitable[None]]) -> None:
        try:
            await keep()
        except StationError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                _log.error("loa: what is old stays: %s", error)

    # ------------------------------------------------------------- the audit log
    async def cut_audit(self) -> None:
        """Cut off what is older than it shall be kept, once that is a day's worth.

        NotWholeError, and all of it stays, if the rows are not what was signed.
        """
        if not self._audit_days:
            return
        begin = await self._begin()
        up_to = await self._last_expired(begin.seq, self._now_ns() - self._audit_days * DAY_NS)
        if up_to:
            await self._check(begin, up_to)
            await self._keeper.do(self._cut, begin.seq, up_to)
        # An export that is under way has the rows in it; one that begins now has not.
        if not self._vouching.exports_from((await self._begin()).seq):
            await self._in_pieces(partial(self._store.forget_cut_rows, _ROWS_AT_ONCE))

    async def _in_pieces(self, forget: Callable[[], bool]) -> None:
        more = True
        while more:
            more = await self._keeper.do(forget)
            await asyncio.sleep(_PAUSE_S)

    async def _begin(self) -> Tail:
        root, cut = await self._keeper.do(self._store.audit_begin)
        return Tail(0, genesis_hash(root)) if cut is None else cut.tail

    async def _last_expired(self, after: int, limit_ns: int) -> int:
        """The last row of a signed head before that moment; 0 if not even a day has expired.

        A head is signed after the rows up to it were written.
        """
        now_ns, last, first_ns = self._now_ns(), 0, limit_ns
        while heads := await self._keeper.do(self._store.audit_head_times, after, _HEADS_AT_ONCE):
            for seq, at_ns in heads:
                if limit_ns <= at_ns <= now_ns:
                    return last if first_ns < limit_ns - DAY_NS else 0
                # One of the future was signed by a clock that was wrong.
                if at_ns < limit_ns:
                    last, first_ns = seq, min(first_ns, at_ns)
            after = heads[-1][0]
            await asyncio.sleep(_PAUSE_S)
        return last if first_ns < limit_ns - DAY_NS else 0

    async def _check(self, begin: Tail, up_to: int) -> None:
        """Whatever somebody has changed shall not vanish by being cut off."""
        tail = begin
        while tail.seq < up_to:
            tail = await self._keeper.do(self._checked, tail, up_to)
            await asyncio.sleep(_PAUSE_S)

    def _checked(self, tail: Tail, up_to: int) -> Tail:
        rows = self._store.audit_rows(tail.seq, up_to, _ROWS_AT_ONCE)
        for row in rows:
            due = tail.seq + 1
            if row.seq != due or row.hash != row_hash(tail.hash, row.seq, row.texts):
                break
            tail = Tail.of(row)
        if not rows or tail.seq != rows[-1].seq:
            raise _changed(tail.seq + 1)
        return tail

    def _cut(self, begin: int, up_to: int) -> None:
        """In one transaction with the row that says so."""
        (row,) = self._store.audit_rows(up_to - 1, up_to, 1)
        try:
            (head,) = self._store.audit_heads(up_to - 1, up_to)
            root = head.check().root
        except (MalformedPacket, ValueError):
            raise _changed(up_to) from None
        if row.hash != head.hash:
            raise _changed(up_to)
        cut = self._vouching.signer.sign(head.tail, self._now_ns(), "cut")
        told = {"up_to": up_to, "rows": up_to - begin, "signed": instant(head.at_ns)}
        why = f"older than audit_days = {self._audit_days}"
        entry = self._recorder.entry(CUT, told, why=why, by=STATION)
        self._store.audited([entry], self._store.cut_audit, cut, root)
        self._recorder.written += 1

    # ------------------------------------------------------------- programmes
    async def forget_programmes(self) -> None:
        """Those that ended longer ago than they shall be known."""
        if not self._programmes_days:
            return
        before_s = (self._now_ns() - self._programmes_days * DAY_NS) // NS_PER_SECOND
        await self._in_pieces(partial(self._store.forget_programmes, before_s, _ROWS_AT_ONCE))


def _changed(row: int) -> NotWholeError:
    return NotWholeError(
        f"the audit log is not cut off, for row {row} was changed: export it, and see what "
        "`loa audit verify` says"
    )
