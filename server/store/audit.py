"""The audit log in the store: rows go in with the change that they speak of, or not at all."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import get_ident
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Connection, delete, func, insert, select, update

from server.audit.head import Head
from server.audit.lines import LineError, head_line, parse_line
from server.audit.row import ROOTED, Entry, Row, Tail, instant
from server.store.tables import AuditHeadRow, AuditRow, MetaRow

# Whose log it is: the public key of the root that the station had at its first row, and has now.
_ROOT, _ROOT_NOW = "audit_root", "audit_root_now"
# Where it begins if rows were cut off: that head, as it is exported.
_CUT = "audit_cut"
_P = ParamSpec("_P")
_T = TypeVar("_T")


class AuditTrail(ABC):
    """What the store knows of the log; the store itself is one, so that both change together."""

    # The transaction that others of the same thread join meanwhile, and which thread that is.
    _joining: tuple[int, Connection] | None = None
    _units: dict[str, int]

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Connection]:
        """The store's own, or the one that it joins."""

    @property
    def _joined(self) -> Connection | None:
        """The transaction to join; None where there is none, or it is another thread's."""
        thread, connection = self._joining or (0, None)
        return connection if thread == get_ident() else None

    @_joined.setter
    def _joined(self, connection: Connection | None) -> None:
        self._joining = None if connection is None else (get_ident(), connection)

    @contextmanager
    def _one_transaction(self) -> Iterator[Connection]:
        """Whatever the store does in the block is committed at its end, at once, or not at all."""
        units = dict(self._units)
        with self._transaction() as connection:
            self._joined = connection
            try:
                yield connection
            finally:
                self._joined = None
                # Should it fail: what it knew by heart is as it was.
                after, self._units = self._units, units
        self._units = after

    # ------------------------------------------------------------- what is written
    def begin_audit(self, root: bytes, at_ns: int) -> None:
        """Begin the log of the station whose root key this is (32 bytes), if it has none.

        Where the log was of another root before, a row says that it is this one's from now on.
        """
        with self._transaction() as connection:
            now = self._meta(connection, _ROOT_NOW)
            if now == root.hex():
                return
            if now is None:
                rows = [{"key": key, "value": root.hex()} for key in (_ROOT, _ROOT_NOW)]
                connection.execute(insert(MetaRow), rows)
                return
            mine = MetaRow.key == _ROOT_NOW
            connection.execute(update(MetaRow).where(mine).values(value=root.hex()))
            told = {"root": root.hex()}
            self._append(connection, [Entry.of(at_ns, "station", "", ROOTED, told)])

    def audited(
        self,
        entries: Sequence[Entry],
        call: Callable[_P, _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """What a call of this store's gives; with what it changed, these entries are kept.

        Both or neither. `begin_audit` must have been called.
        """
        with self._one_transaction() as connection:
            result = call(*args, **kwargs)
            self._append(connection, entries)
        return result

    def note(self, entries: Sequence[Entry]) -> None:
        """Keep these entries, which speak of no change of this store's."""
        with self._transaction() as connection:
            self._append(connection, entries)

    @staticmethod
    def append_beside(connection: Connection, entries: Sequence[Entry]) -> bool:
        """Keep entries by a connection that is not the station's; false if no log has begun."""
        if AuditTrail._audit_root(connection) is None:
            return False
        AuditTrail._append(connection, entries)
        return True

    @staticmethod
    def _append(connection: Connection, entries: Sequence[Entry]) -> None:
        # On a server, whoever else writes a row beside the station waits here.
        connection.execute(select(MetaRow.value).where(MetaRow.key == _ROOT).with_for_update())
        tail, rows = AuditTrail._tail(connection), []
        for entry in entries:
            row = tail.append(entry)
            rows.append(_columns(row, entry))
            tail = Tail.of(row)
        if rows:
            connection.execute(insert(AuditRow), rows)

    @staticmethod
    def _tail(connection: Connection) -> Tail:
        last = select(AuditRow.seq, AuditRow.hash).order_by(AuditRow.seq.desc()).limit(1)
        found = connection.execute(last).first()
        if found is not None:
            return Tail(found.seq, bytes(found.hash))
        cut = AuditTrail._cut(connection)
        if cut is not None:
            return cut.tail
        root = AuditTrail._audit_root(connection)
        if root is None:
            raise ValueError("the log has not begun")
        return Tail.genesis(root)

    @staticmethod
    def _audit_root(connection: Connection) -> bytes | None:
        root = AuditTrail._meta(connection, _ROOT)
        return None if root is None else bytes.fromhex(root)

    @staticmethod
    def _cut(connection: Connection) -> Head | None:
        """Where rows were cut off; None also for nonsense, which whoever verifies will notice."""
        try:
            head = parse_line((AuditTrail._meta(connection, _CUT) or "").encode())
        except LineError:
            return None
        return head if isinstance(head, Head) and head.kind == "cut" else None

    @staticmethod
    def _meta(connection: Connection, key: str) -> str | None:
        return connection.scalar(select(MetaRow.value).where(MetaRow.key == key))

    def keep_head(self, head: Head) -> bool:
        """Keep a signed head; false if the log's end is another by now, or has one already."""
        with self._transaction() as connection:
            has_one = connection.scalar(select(AuditHeadRow.seq).filter_by(seq=head.seq))
            if has_one is not None or self._tail(connection) != head.tail:
                return False
            values = {
                "seq": head.seq,
                "at": head.at_ns,
                "hash": head.hash,
                "station": head.station,
                "delegate": head.delegate,
                "signature": head.signature,
            }
            connection.execute(insert(AuditHeadRow), values)
            return True

    # ------------------------------------------------------------- what is cut off
    def cut_audit(self, cut: Head, root: bytes) -> None:
        """The log begins behind this head from now on; `root` is that of its first row then.

        Rows before are there until `forget_cut_rows`.
        """
        with self._transaction() as connection:
            of_root = update(MetaRow).where(MetaRow.key == _ROOT)
            connection.execute(of_root.values(value=root.hex()))
            connection.execute(delete(MetaRow).where(MetaRow.key == _CUT))
            connection.execute(insert(MetaRow), {"key": _CUT, "value": head_line(cut)})

    def forget_cut_rows(self, limit: int) -> bool:
        """Delete rows that were cut off, so many at most; whether there were any."""
        with self._transaction() as connection:
            cut = self._cut(connection)
            firsts = (connection.scalar(select(func.min(t.seq))) for t in (AuditRow, AuditHeadRow))
            first = min((seq for seq in firsts if seq is not None), default=None)
            if cut is None or first is None or first > cut.seq:
                return False
            up_to = min(cut.seq, first + limit - 1)
            for table in (AuditRow, AuditHeadRow):
                connection.execute(delete(table).where(table.seq <= up_to))
            return True

    def audit_head_times(self, after: int, limit: int) -> tuple[tuple[int, int], ...]:
        """Of so many heads of rows behind this number, in order: their rows, and when signed."""
        statement = (
            select(AuditHeadRow.seq, AuditHeadRow.at)
            .where(AuditHeadRow.seq > after)
            .order_by(AuditHeadRow.seq)
            .limit(limit)
        )
        with self._transaction() as connection:
            return tuple((row.seq, row.at) for row in connection.execute(statement))

    # ------------------------------------------------------------- what is read
    def audit_root(self) -> bytes:
        """The public key of the root that the station had at its log's first row."""
        return self.audit_begin()[0]

    def audit_begin(self) -> tuple[bytes, Head | None]:
        """That root, and the head behind which the log begins, if rows before were cut off."""
        with self._transaction() as connection:
            root, cut = self._audit_root(connection), self._cut(connection)
        if root is None:
            raise ValueError("the log has not begun")
        return root, cut

    def audit_end(self) -> tuple[Tail, int]:
        """How far the log goes; and the highest row of which there is a head.

        If that is higher, somebody has taken rows away.
        """
        with self._transaction() as connection:
            head = connection.scalar(select(func.max(AuditHeadRow.seq)))
            return self._tail(connection), head or 0

    def audit_rows(self, after: int, up_to: int, limit: int) -> tuple[Row, ...]:
        """Rows behind this number, up to that one, in order, so many at most."""
        statement = (
            select(*AuditRow.__table__.columns)
            .where(AuditRow.seq > after, AuditRow.seq <= up_to)
            .order_by(AuditRow.seq)
            .limit(limit)
        )
        with self._transaction() as connection:
            return tuple(map(_row, connection.execute(statement)))

    def newest_audit_rows(self, before: int | None, limit: int) -> tuple[Row, ...]:
        """The newest rows, or the newest before this number, newest first."""
        statement = select(*AuditRow.__table__.columns).order_by(AuditRow.seq.desc()).limit(limit)
        if before is not None:
            statement = statement.where(AuditRow.seq < before)
        with self._transaction() as connection:
            cut = self._cut(connection)
            begun = statement.where(AuditRow.seq > (0 if cut is None else cut.seq))
            return tuple(map(_row, connection.execute(begun)))

    def audit_heads(self, after: int, up_to: int) -> tuple[Head, ...]:
        """The heads of rows behind this number, up to that one, in order."""
        statement = (
            select(*AuditHeadRow.__table__.columns)
            .where(AuditHeadRow.seq > after, AuditHeadRow.seq <= up_to)
            .order_by(AuditHeadRow.seq)
        )
        with self._transaction() as connection:
            rows = connection.execute(statement).all()
        return tuple(head for head in map(_head, rows) if head is not None)


def _columns(row: Row, entry: Entry) -> dict[str, Any]:
    return {
        "seq": row.seq,
        "at": entry.at_ns,
        "who": entry.who,
        "address": entry.where,
        "what": entry.what,
        "details": entry.on,
        "why": entry.why,
        "outcome": entry.outcome,
        "hash": row.hash,
    }


def _head(columns: Any) -> Head | None:
    """None for what somebody has made nonsense of: it vouches for nothing any more."""
    c = columns
    try:
        return Head(c.seq, c.hash, c.at, "kept", c.station, c.delegate, c.signature)
    except (TypeError, ValueError):
        return None


def _row(columns: Any) -> Row:
    """Whatever stands there, for whoever verifies it shall find what somebody has changed."""
    c = columns
    try:
        at = instant(c.at)
    except (TypeError, ValueError, OverflowError, OSError):
        at = str(c.at)
    texts = (at, *map(str, (c.who, c.address, c.what, c.details, c.why, c.outcome)))
    return Row(c.seq, texts, c.hash if isinstance(c.hash, bytes) else b"")
