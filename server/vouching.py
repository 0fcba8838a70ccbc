"""The audit log's heads: when they are signed, and that they are kept outside as well."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from server.audit.anchors import Anchor
from server.audit.head import Head, HeadSigner
from server.audit.lines import Beginning, beginning_line, head_line, row_line
from server.audit.row import Row, Tail
from server.errors import StationError
from server.keeper import Keeper
from server.store.store import Store
from transport.clock.timeline import NS_PER_SECOND

# A head is signed after so many rows, or so long after the first row without one.
HEAD_ROWS = 256
HEAD_NS = 60 * NS_PER_SECOND
# Each head speaks for all rows before it, so of those that wait the newest are enough.
_WAITING = 16
_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 60.0
_ROWS_A_PAGE = 500
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AnchorState:
    """How an anchor is: the row of the last head it took, how many wait, and what is wrong."""

    shown: str
    seq: int
    waiting: int
    fault: str


class Anchoring:
    """Brings heads to one anchor, and has patience; nothing waits for it."""

    def __init__(self, anchor: Anchor) -> None:
        self._anchor = anchor
        # Its own, for it may hang.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="anchor")
        self._waiting: deque[Head] = deque(maxlen=_WAITING)
        self._task: asyncio.Task[None] | None = None
        self._seq = 0
        self._fault = ""

    @property
    def state(self) -> AnchorState:
        """How it is now."""
        return AnchorState(self._anchor.shown, self._seq, len(self._waiting), self._fault)

    def offer(self, head: Head) -> None:
        """Bring it there, as soon as that goes."""
        self._waiting.append(head)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        pause_s = _FIRST_RETRY_S
        while self._waiting:
            head = self._waiting[0]
            try:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._thread, self._anchor.put, head)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must stop nothing else
                self._complain(error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LAST_RETRY_S)
                continue
            pause_s, self._fault, self._seq = _FIRST_RETRY_S, "", head.seq
            # It may have given way to a newer one meanwhile.
            if self._waiting and self._waiting[0] is head:
                self._waiting.popleft()

    def _complain(self, error: Exception) -> None:
        fault = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if fault != self._fault:
            self._fault = fault
            _log.error("loa: the audit log's anchor, %s: %s", self._anchor.shown, fault)


class Vouching:
    """Signs heads when there are new rows, keeps them in the log, and has them anchored."""

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        now_ns: Callable[[], int],
        signer: HeadSigner,
        anchors: Iterable[Anchor] = (),
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._now_ns = now_ns
        self.signer = signer
        self._anchors = [Anchoring(anchor) for anchor in anchors]
        self._signed = 0
        self._written = 0
        self._since_ns: int | None = None
        self._signing: asyncio.Task[None] | None = None
        self.last: Head | None = None
        # Behind which rows the exports begin that are under way.
        self._exporting: list[int] = []

    @property
    def anchors(self) -> list[AnchorState]:
        """How each anchor is."""
        return [anchoring.state for anchoring in self._anchors]

    def tick(self, written: int) -> None:
        """Sign a head if it is time; `written` counts the rows there were, as `Recorder` does."""
        now_ns, new = self._now_ns(), written - self._signed
        if new <= 0:
            self._since_ns = None
            return
        if self._since_ns is None:
            self._since_ns = now_ns
        due = new >= HEAD_ROWS or now_ns - self._since_ns >= HEAD_NS
        if due and (self._signing is None or self._signing.done()):
            self._signed, self._since_ns = written, None
            self._signing = asyncio.get_running_loop().create_task(self._sign())

    async def _sign(self) -> None:
        try:
            await self.sign()
        except StationError as error:
            _log.error("loa: the audit log's head was not kept: %s", error)

    async def sign(self) -> Head:
        """Sign the log's end as it is now, keep that, and have it anchored."""
        head = await self._keeper.do(self._keep)
        if self.last is None or head.seq != self.last.seq:
            self.last = head
            for anchoring in self._anchors:
                anchoring.offer(head)
        return head

    def _keep(self) -> Head:
        tail, _ = self._store.audit_end()
        head = self.signer.sign(tail, self._now_ns())
        if tail.seq:
            self._store.keep_head(head)
        return head

    # ------------------------------------------------------------- what is read
    async def newest(self, before: int | None, limit: int) -> tuple[Row, ...]:
        """The newest rows, or the newest before that number, newest first."""
        return await self._keeper.do(self._store.newest_audit_rows, before, limit)

    def exports_from(self, seq: int) -> bool:
        """Whether an export is under way that has rows up to this one in it."""
        return any(after < seq for after in self._exporting)

    async def export(self) -> AsyncIterator[str]:
        """The whole log as it is now, in lines without their ends."""
        await self.sign()
        root, cut = await self._keeper.do(self._store.audit_begin)
        after = 0 if cut is None else cut.seq
        self._exporting.append(after)
        try:
            yield beginning_line(Beginning(root))
            if cut is not None:
                yield head_line(cut)
            async for line in self._lines(after):
                yield line
        finally:
            self._exporting.remove(after)

    async def _lines(self, after: int) -> AsyncIterator[str]:
        tail, furthest = await self._keeper.do(self._store.audit_end)
        while after < tail.seq:
            lines, after = await self._keeper.do(self._page, after, tail)
            for line in lines:
                yield line
        if furthest > tail.seq:
            # Rows were taken away: whoever verifies shall see that there was more.
            for head in await self._keeper.do(self._store.audit_heads, tail.seq, furthest):
                yield head_line(head)
        yield head_line(self.signer.sign(tail, self._now_ns(), "closing"))

    def _page(self, after: int, tail: Tail) -> tuple[list[str], int]:
        rows = self._store.audit_rows(after, tail.seq, _ROWS_A_PAGE)
        last = rows[-1].seq if len(rows) == _ROWS_A_PAGE else tail.seq
        heads = deque(self._store.audit_heads(after, last))
        lines = []
        for row in rows:
            while heads and heads[0].seq < row.seq:
                lines.append(head_line(heads.popleft()))
            lines.append(row_line(row))
        return [*lines, *map(head_line, heads)], last
