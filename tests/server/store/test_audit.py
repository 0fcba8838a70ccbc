"""The log in the store: a row is there with its change, or neither is."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from server.audit.row import ROOTED, Entry, Row, Tail, genesis_hash, row_hash
from server.directory import Endpoint
from server.keeper import Keeper
from server.recording import Recorder
from server.store import Store
from tests.support.logs import Keys, entry

Reopen = Callable[..., Store]
KEYS = Keys()
ROOT = KEYS.root.public
UNIT = "Tân Phú/Thôn 3"


@pytest.fixture
def log(store: Store) -> Store:
    """A store whose log has begun."""
    store.begin_audit(ROOT, 1)
    return store


def rows(store: Store) -> tuple[Row, ...]:
    return store.audit_rows(0, 1 << 52, 1 << 30)


def is_chain(store: Store) -> bool:
    """Whether every row's hash follows from the one before."""
    previous = genesis_hash(store.audit_root())
    for number, row in enumerate(rows(store), 1):
        if row.seq != number or row.hash != row_hash(previous, row.seq, row.texts):
            return False
        previous = row.hash
    return True


def test_a_change_and_its_row_are_there_after_a_restart(log: Store, reopen: Reopen) -> None:
    log.audited([entry(1)], log.add_unit, UNIT)
    again = reopen()
    assert UNIT in again.load().units
    assert [row.texts for row in rows(again)] == [entry(1).texts()]
    assert is_chain(again)


def test_a_change_that_fails_leaves_no_row(log: Store) -> None:
    with pytest.raises(ValueError, match="no unit"):
        log.audited([entry(1)], log.add_unit, "Nowhere/x")
    log.audited([entry(2)], log.add_unit, UNIT)
    log.save_endpoints([Endpoint("a", UNIT)], 1)
    with pytest.raises(ValueError, match=r"(?i)foreign"):
        log.audited([entry(3)], log.remove_unit, UNIT)
    assert [row.texts for row in rows(log)] == [entry(2).texts()]
    log.save_endpoints([Endpoint("b", UNIT)], 1)  # it knows its units still


def test_a_row_that_fails_leaves_no_change(
    log: Store, monkeypatch: pytest.MonkeyPatch, reopen: Reopen
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_append", fail)
        with pytest.raises(RuntimeError):
            log.audited([entry(1)], log.add_unit, UNIT)
    with pytest.raises(ValueError, match="no unit"):
        log.save_endpoints([Endpoint("a", UNIT)], 1)
    log.audited([entry(2)], log.add_unit, UNIT)
    again = reopen()
    assert len(rows(again)) == 1
    assert is_chain(again)


def test_before_the_log_has_begun_nothing_audited_can_be_done(store: Store) -> None:
    with pytest.raises(ValueError, match="has not begun"):
        store.audited([entry(1)], store.add_unit, UNIT)
    assert UNIT not in store.load().units


def test_the_log_begins_once_and_tells_of_another_root(log: Store, reopen: Reopen) -> None:
    log.note([entry(1)])
    again = reopen()
    again.begin_audit(ROOT, 2)
    assert len(rows(again)) == 1
    other = Keys(50).root.public
    again.begin_audit(other, 3)
    again.begin_audit(other, 4)
    told = Entry.of(3, "station", "", ROOTED, {"root": other.hex()})
    assert [row.texts for row in rows(again)] == [entry(1).texts(), told.texts()]
    assert again.audit_root() == ROOT
    assert is_chain(again)


def test_rows_come_in_pages_from_both_ends(log: Store) -> None:
    log.note([entry(n) for n in range(1, 11)])
    assert [row.seq for row in log.audit_rows(3, 8, 4)] == [4, 5, 6, 7]
    assert [row.seq for row in log.audit_rows(3, 5, 4)] == [4, 5]
    assert [row.seq for row in log.newest_audit_rows(None, 3)] == [10, 9, 8]
    assert [row.seq for row in log.newest_audit_rows(3, 3)] == [2, 1]


def test_a_head_is_kept_if_it_is_that_of_the_log_as_it_is(log: Store) -> None:
    log.note([entry(1), entry(2)])
    tail, _ = log.audit_end()
    head = KEYS.signer.sign(tail, 5)
    assert log.keep_head(head)
    assert not log.keep_head(head)
    log.note([entry(3)])
    assert not log.keep_head(KEYS.signer.sign(Tail(2, tail.hash), 6))
    assert not log.keep_head(KEYS.signer.sign(Tail(3, bytes(32)), 6))
    assert log.audit_heads(0, 9) == (head,)
    assert log.audit_end()[1] == 2


def test_two_that_have_the_same_file_open_make_one_chain(path: Path) -> None:
    # Nobody should; the lock on the folder keeps others out.
    first = Store.create(path, "Tân Phú")
    first.begin_audit(ROOT, 1)
    second = Store.open(path)

    def change(store: Store) -> None:
        for number in range(30):
            store.note([entry(number), entry(number + 1)])

    with ThreadPoolExecutor(2) as both:
        list(both.map(change, (first, second)))
    assert len(rows(first)) == 120
    assert is_chain(first)
    first.close()
    second.close()


def test_changes_asked_for_at_once_make_one_chain(store: Store) -> None:
    async def scenario() -> None:
        store.begin_audit(ROOT, 1)
        recorder = Recorder(store, Keeper(), lambda: 7)

        async def change(number: int) -> None:
            unit = f"{UNIT} {number}"
            await recorder.change(
                [recorder.entry("unit.add", {"unit": unit})], store.add_unit, unit
            )
            recorder.note_later(recorder.entry("x"))

        await asyncio.gather(*map(change, range(40)))
        await recorder.note(recorder.entry("last"))

    asyncio.run(scenario())
    assert len(rows(store)) == 81
    assert is_chain(store)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET at = -5 WHERE seq = 2",
        "UPDATE audit SET at = 9223372036854775807 WHERE seq = 2",
        "UPDATE audit SET who = 'a\nb' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 2",
    ],
)
def test_rows_that_somebody_has_changed_are_shown_as_they_are(log: Store, change: str) -> None:
    log.note([entry(1), entry(2), entry(3)])
    with log._transaction() as connection:
        connection.execute(text(change))
    found: Any = rows(log)
    assert len(found) in {2, 3}
    assert not is_chain(log)
    log.note([entry(4)])  # and the log goes on
