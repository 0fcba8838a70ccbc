"""What is older than it shall be kept goes, from the front alone, and the log stays whole."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, update

from server.audit.head import Head
from server.audit.lines import parse_line
from server.audit.row import CUT, Entry, Row, Tail, genesis_hash, row_hash
from server.audit.verification import Flaw, Verified
from server.keeper import Keeper
from server.recording import Recorder
from server.retention import DAY_NS, NotWholeError, Retention
from server.store import Store
from server.store.engine import Place
from server.store.tables import AuditRow
from server.vouching import Vouching
from tests.support.logs import AT_NS, Keys, verify
from tests.support.postgresql import Server

Run = Callable[[Coroutine[Any, Any, None]], None]
KEYS = Keys()
DAYS, PROGRAMMES_DAYS = 30, 10
HOUR_NS = DAY_NS // 24


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A file and a server's database, one after the other."""
    if request.param == "sqlite":
        return tmp_path / "loa.sqlite3"
    server: Server = request.getfixturevalue("postgresql")
    return server.new_database()


@dataclass
class Office:
    """A station's log and its time, without a clock: a row and a head every six hours."""

    place: Place
    audit_days: int = DAYS
    now_ns: int = AT_NS

    def __post_init__(self) -> None:
        self.store = Store.create(self.place, "Station")
        self.begin()

    def begin(self) -> None:
        self.store.begin_audit(KEYS.root.public, 1)
        keeper = Keeper()
        self.recorder = Recorder(self.store, keeper, lambda: self.now_ns)
        self.vouching = Vouching(self.store, keeper, lambda: self.now_ns, KEYS.signer)
        self.retention = Retention(
            self.store,
            keeper,
            self.recorder,
            self.vouching,
            lambda: self.now_ns,
            audit_days=self.audit_days,
            programmes_days=PROGRAMMES_DAYS,
        )

    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.place)
        self.begin()

    async def live(self, days: int, rows: int = 1) -> None:
        for _ in range(4 * days):
            self.now_ns += 6 * HOUR_NS
            at_ns = self.now_ns - 1
            self.store.note([Entry.of(at_ns, "Lan", "", "x", {"n": n}) for n in range(rows)])
            await self.vouching.sign()

    async def look(self) -> None:
        """An hour passes, and whatever is due then is done."""
        self.now_ns += HOUR_NS
        self.retention.tick()
        looking = self.retention._looking
        assert looking is not None
        await looking

    async def verified(self, **how: Any) -> Verified:
        return verify([line.encode() async for line in self.vouching.export()], **how)

    def rows(self) -> tuple[Row, ...]:
        """Whatever rows there are, also such as are cut off."""
        return self.store.audit_rows(0, 1 << 52, 1 << 30)

    def rows_behind(self, seq: int) -> tuple[Row, ...]:
        return tuple(row for row in self.rows() if row.seq > seq)

    def change(self, statement: str) -> None:
        with self.store._transaction() as connection:
            connection.execute(text(statement))


@pytest.fixture
def office(place: Place) -> Iterator[Office]:
    office = Office(place)
    yield office
    office.store.close()


# ------------------------------------------------------------------ the audit log
def test_rows_are_cut_off_once_their_time_is_over(office: Office, run: Run) -> None:
    async def scenario() -> None:
        await office.live(DAYS)
        await office.look()
        assert (await office.verified()).cut is None
        await office.live(3)
        heads = office.store.audit_heads(0, 1 << 52)
        await office.look()
        cut = (await office.verified(anchors=heads)).cut
        assert cut is not None
        # Of 6 hours a row: those of three days and an hour are over.
        assert cut.seq == 12
        assert [row.seq for row in office.rows()] == list(range(13, 4 * (DAYS + 3) + 2))
        assert office.store.audit_heads(0, 1 << 52)[0].seq == 13
        (last,) = office.store.newest_audit_rows(None, 1)
        assert last.texts[1:5] == (
            "station",
            "",
            CUT,
            '{"rows":12,"signed":"2026-09-24T14:13:20.000000000Z","up_to":12}',
        )
        found = await office.verified(anchors=heads)
        assert (found.anchors_cut, found.anchors) == (12, len(heads) - 12)

    run(scenario())


def test_it_is_cut_about_once_a_day_and_goes_on_after_a_restart(office: Office, run: Run) -> None:
    async def scenario() -> None:
        await office.live(DAYS + 2)
        cuts = []
        for _ in range(5):
            for _ in range(4):
                await office.live(1)
                await office.look()
            office.reopen()
            cut = (await office.verified()).cut
            assert cut is not None
            cuts.append(cut.seq)
        assert cuts == sorted(set(cuts))
        told = [row for row in office.rows() if row.texts[3] == CUT]
        assert 10 <= len(told) <= 20
        # Nothing that is not older than it may be was cut off.
        limit_ns = office.now_ns - DAYS * DAY_NS
        assert cuts[-1] <= sum(1 for at in range(4 * 200) if AT_NS + at * 6 * HOUR_NS < limit_ns)

    run(scenario())


def test_zero_days_is_for_ever(place: Place, run: Run) -> None:
    office = Office(place, audit_days=0)

    async def scenario() -> None:
        await office.live(3 * DAYS)
        await office.look()
        assert (await office.verified()).rows == 12 * DAYS

    run(scenario())
    office.store.close()


def test_pages_and_numbers_go_on_behind_the_cut(office: Office, run: Run) -> None:
    async def scenario() -> None:
        await office.live(DAYS + 5, rows=3)
        await office.retention.cut_audit()
        root, cut = office.store.audit_begin()
        assert root == KEYS.root.public
        assert cut is not None
        rows = await office.vouching.newest(cut.seq + 3, 50)
        assert [row.seq for row in rows] == [cut.seq + 2, cut.seq + 1]
        assert await office.vouching.newest(cut.seq + 1, 50) == ()
        office.change("DELETE FROM audit")
        office.store.note([Entry.of(1, "x", "", "y")])
        assert [row.seq for row in office.rows()] == [cut.seq + 1]

    run(scenario())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET who = 'nobody' WHERE seq = 5",
        "DELETE FROM audit WHERE seq = 1",
        "DELETE FROM audit WHERE seq = 7",
        "UPDATE audit_heads SET signature = hash WHERE seq = 19",
        "UPDATE audit_heads SET hash = (SELECT hash FROM audit WHERE seq = 1) WHERE seq = 19",
    ],
)
def test_what_somebody_has_changed_is_not_cut_away(office: Office, run: Run, change: str) -> None:
    async def scenario() -> None:
        await office.live(DAYS + 5)
        if "heads" in change:
            found = await office.retention._last_expired(0, office.now_ns - DAYS * DAY_NS)
            office.change(change.replace("19", str(found)))
        else:
            office.change(change)
        before = office.rows()
        with pytest.raises(NotWholeError):
            await office.retention.cut_audit()
        assert office.rows() == before
        with pytest.raises(Flaw):
            await office.verified()

    run(scenario())


def test_rows_whose_hashes_were_all_made_anew_are_not_cut_away(office: Office, run: Run) -> None:
    async def scenario() -> None:
        await office.live(DAYS + 5)
        office.change("UPDATE audit SET who = 'nobody' WHERE seq = 5")
        tail = Tail(0, genesis_hash(office.store.audit_root()))
        for row in office.rows():
            tail = Tail(row.seq, row_hash(tail.hash, row.seq, row.texts))
            of_row = update(AuditRow).where(AuditRow.seq == row.seq)
            with office.store._transaction() as connection:
                connection.execute(of_row.values(hash=tail.hash))
        before = office.rows()
        with pytest.raises(NotWholeError):
            await office.retention.cut_audit()
        assert office.rows() == before

    run(scenario())


def test_a_head_that_is_nonsense_vouches_for_nothing_and_breaks_nothing(
    office: Office, run: Run
) -> None:
    async def scenario() -> None:
        await office.live(DAYS + 5)
        office.change("UPDATE audit_heads SET hash = station")
        with pytest.raises(NotWholeError):
            await office.retention.cut_audit()
        assert (await office.verified()).heads == 1  # which closes it

    run(scenario())


def test_a_log_that_is_not_cut_says_so_once_and_programmes_are_forgotten(
    office: Office, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        programme(office.store, 1, 5)
        programme(office.store, 2, 5)
        await office.live(DAYS + 5)
        office.change("UPDATE audit SET who = 'nobody' WHERE seq = 5")
        for _ in range(3):
            await office.look()
        assert [record.number for record in office.store.programmes(9)] == [2]

    with caplog.at_level(logging.ERROR):
        run(scenario())
    (record,) = caplog.records
    assert "row 5 was changed" in record.getMessage()


@pytest.mark.parametrize("forged", ["UPDATE audit SET at = 5", "UPDATE audit_heads SET at = 5"])
def test_who_makes_rows_look_old_has_nothing_cut_off(office: Office, run: Run, forged: str) -> None:
    async def scenario() -> None:
        await office.live(5)
        office.change(forged)
        before = office.rows()
        if "heads" in forged:
            with pytest.raises(NotWholeError):
                await office.retention.cut_audit()
        else:
            await office.retention.cut_audit()
        assert office.rows() == before

    run(scenario())


def test_a_head_of_the_future_keeps_nothing_for_ever(office: Office, run: Run) -> None:
    async def scenario() -> None:
        await office.live(1)
        office.now_ns += 1000 * DAY_NS
        await office.live(1)
        office.now_ns -= 1000 * DAY_NS
        await office.live(DAYS + 5)
        await office.retention.cut_audit()
        cut = (await office.verified()).cut
        assert cut is not None
        assert cut.seq > 8

    run(scenario())


def test_rows_of_a_clock_that_was_ahead_go_with_those_behind_them(office: Office, run: Run) -> None:
    async def scenario() -> None:
        await office.live(4)
        office.now_ns += 1000 * DAY_NS
        await office.live(1)
        office.now_ns -= 1000 * DAY_NS
        await office.live(DAYS)
        await office.retention.cut_audit()
        cut = (await office.verified()).cut
        assert cut is not None
        assert cut.seq == 16

    run(scenario())


def test_an_export_that_began_before_has_all_that_is_cut_off_meanwhile(
    office: Office, run: Run
) -> None:
    async def scenario() -> None:
        await office.live(DAYS + 5, rows=20)
        export = office.vouching.export()
        lines = [await anext(export) for _ in range(10)]
        await office.retention.cut_audit()
        assert office.store.audit_begin()[1] is not None
        assert office.rows()[0].seq == 1
        lines += [line async for line in export]
        assert verify([line.encode() for line in lines]).cut is None
        assert (await office.verified()).cut is not None
        await office.retention.cut_audit()
        assert office.rows()[0].seq > 1

    run(scenario())


def test_a_kill_between_any_two_steps_leaves_a_whole_log(office: Office, run: Run) -> None:
    async def scenario() -> None:
        await office.live(DAYS + 5, rows=40)
        up_to = await office.retention._last_expired(0, office.now_ns - DAYS * DAY_NS)
        office.retention._cut(0, up_to)
        for _ in range(3):
            office.reopen()
            cut = (await office.verified()).cut
            assert cut is not None
            assert cut.seq == up_to
            assert await office.vouching.newest(up_to + 2, 50) == office.rows_behind(up_to)[:1]
            assert office.store.forget_cut_rows(100)
        await office.retention.cut_audit()
        assert office.rows()[0].seq == up_to + 1
        assert not office.store.forget_cut_rows(100)

    run(scenario())


def test_the_log_is_cut_off_behind_another_root(office: Office, run: Run) -> None:
    other = Keys(50)

    async def scenario() -> None:
        await office.live(2)
        office.store.begin_audit(other.root.public, office.now_ns)
        office.vouching.signer = other.signer
        await office.live(DAYS)
        await office.retention.cut_audit()
        assert (await office.verified(keys=other)).cut is not None
        await office.live(5)
        await office.retention.cut_audit()
        lines = [line.encode() async for line in office.vouching.export()]
        assert office.store.audit_root() == other.root.public
        cut = parse_line(lines[1])
        assert isinstance(cut, Head)
        assert verify(lines, other).cut == cut

    run(scenario())


def test_others_wait_for_a_piece_at_most(office: Office, run: Run) -> None:
    async def scenario() -> None:
        await office.live(DAYS + 5, rows=100)
        cutting = asyncio.create_task(office.retention.cut_audit())
        done = 0
        while not cutting.done():
            await office.recorder.note(Entry.of(office.now_ns, "Lan", "", "meanwhile"))
            done += 1
            await asyncio.sleep(0.01)
        await cutting
        assert done > 10
        assert (await office.verified()).cut is not None

    run(scenario())


# ------------------------------------------------------------------ programmes
def programme(store: Store, number: int, at: int, ended: int | None = None) -> None:
    store.programme_began(
        number, f"live-{number}", priority=3, request={}, playout_delay_ms=40, at=at
    )
    store.programme_ended(number, at + 1 if ended is None else ended, "enough")


def test_past_programmes_are_forgotten_but_for_the_newest(office: Office, run: Run) -> None:
    async def scenario() -> None:
        now_s = office.now_ns // 1_000_000_000
        old_s, young_s = now_s - (PROGRAMMES_DAYS + 1) * 86_400, now_s - 86_400
        for number in range(1, 701):
            programme(office.store, number, old_s)
        programme(office.store, 701, old_s, ended=young_s)
        office.store.programme_began(
            702, "live-702", priority=3, request={}, playout_delay_ms=40, at=old_s
        )
        programme(office.store, 703, old_s)
        await office.retention.forget_programmes()
        assert [record.number for record in office.store.programmes(9)] == [703, 702, 701]
        assert office.store.load().last_programme_number == 703
        programme(office.store, 704, young_s)
        await office.retention.forget_programmes()
        assert [record.number for record in office.store.programmes(9)] == [704, 702, 701]

    run(scenario())


def test_programmes_that_never_ended_are_forgotten_by_when_they_began(
    office: Office, run: Run
) -> None:
    async def scenario() -> None:
        for number in (1, 2):
            office.store.programme_began(
                number, f"live-{number}", priority=3, request={}, playout_delay_ms=40, at=5
            )
        office.reopen()
        await office.retention.forget_programmes()
        assert [record.number for record in office.store.programmes(9)] == [2]

    run(scenario())


def test_it_looks_once_an_hour(office: Office, run: Run) -> None:
    looks = []

    async def forget() -> None:
        looks.append(office.now_ns)

    async def scenario() -> None:
        office.retention.forget_programmes = forget  # type: ignore[method-assign]
        for _ in range(3 * 60):
            office.now_ns += HOUR_NS // 60
            office.retention.tick()
            await asyncio.sleep(1)

    run(scenario())
    assert len(looks) == 3
