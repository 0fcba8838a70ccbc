"""Control's way to the audit log: what is done is written with it, what is refused beside it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from server.audit.caller import Caller, caller
from server.audit.refusals import Refusal, Refusals
from server.audit.row import Entry
from server.keeper import Keeper
from server.store.store import Store
from transport.control.address import plain_address

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Recorder:
    """Writes rows of the audit log.

    Whoever changes something in the store calls `change` with what the row shall say: both are on
    the disk together, or neither is.
    """

    def __init__(self, store: Store, keeper: Keeper, now_ns: Callable[[], int]) -> None:
        """`now_ns` is nanoseconds since 1970 (UTC)."""
        self._store = store
        self._keeper = keeper
        self._now_ns = now_ns
        self._refusals = Refusals()
        # How many rows were given to the keeper since this began.
        self.written = 0

    def entry(
        self,
        what: str,
        on: Mapping[str, Any] | None = None,
        *,
        why: str = "",
        outcome: str = "done",
        by: Caller | None = None,
    ) -> Entry:
        """What happens now; done by whoever asks, unless it is said by whom."""
        who = caller() if by is None else by
        return Entry.of(self._now_ns(), who.who, who.where, what, on, why, outcome)

    # ------------------------------------------------------------- with a change
    async def change(
        self, entries: Sequence[Entry], call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """A call of the store's, with its rows; StationError as `Keeper.do`."""
        self.written += len(entries)
        store = self._store
        return await self._keeper.do(lambda: store.audited(entries, call, *args, **kwargs))

    def change_later(
        self,
        failed: Callable[[], None],
        entry: Entry,
        call: Callable[_P, None],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> None:
        """The same for what nobody waits for; `failed` is called if it fails."""
        self.written += 1
        store = self._store
        self._keeper.later_or(failed, lambda: store.audited((entry,), call, *args, **kwargs))

    # ------------------------------------------------------------- without one
    async def note(self, entry: Entry) -> None:
        """A row about what the store does not hold; on the disk when this returns."""
        self.written += 1
        await self._keeper.do(self._store.note, (entry,))

    def note_now(self, entry: Entry) -> None:
        """A row at the station's beginning, when nobody waits yet; StoreError if it cannot be."""
        self.written += 1
        self._store.note((entry,))

    def note_later(self, *entries: Entry) -> None:
        """The same for what nobody waits for."""
        if entries:
            self.written += len(entries)
            self._keeper.later(self._store.note, entries)

    # ------------------------------------------------------------- refusals
    def ticket_refused(self, where: str, why: str, times: int) -> None:
        """The producer did not let somebody speak who came from there, so many times."""
        self.refused({"asked": "speak"}, why, Caller("", where and plain_address(where)), times)

    def refused(
        self, asked: Mapping[str, Any], why: str, by: Caller | None = None, times: int = 1
    ) -> None:
        """Somebody was refused what he asked; whoever tries again soon is counted."""
        who = caller() if by is None else by
        now_ns = self._now_ns()
        entry = self._refusals.refuse(Refusal(who.who, who.where, asked, why), now_ns, times)
        if entry is not None:
            self.note_later(entry)

    def tick(self) -> None:
        """Write what has been counted; to be called every second or so."""
        self.note_later(*self._refusals.due(self._now_ns()))
