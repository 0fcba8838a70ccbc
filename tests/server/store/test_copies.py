"""Every row out of one database and into another, of the same kind or the other."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import MetaData, select

from server.directory import Endpoint, Position
from server.enrolment import Code
from server.store import Contents, Store, StoreError, copies
from server.store.engine import Place
from server.store.tables import Base
from tests.support.postgresql import Server

ROOT = "Tân Phú"
Tables = list[tuple[str, list[bytes]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where another database can be made."""
    if request.param == "sqlite":
        return tmp_path / "other.sqlite3"
    server: Server = request.getfixturevalue("server")
    return server.new_database()


def fill(store: Store) -> Contents:
    store.add_unit(f"{ROOT}/Thôn 3")
    store.add_unit(f"{ROOT}/Thôn 3/Chợ")
    market = Endpoint(
        "market",
        f"{ROOT}/Thôn 3",
        delivery="wan",
        tags=frozenset({"chợ", "outdoor"}),
        position=Position(10.123456789012345, -1e-300),
        volume=40,
        muted=True,
        trim_us=-1234,
        clear=True,
    )
    store.save_codes([Code(bytes((0, 1, 2, 3)), bytes(range(32)), "", f"{ROOT}/Thôn 3", 1 << 33)])
    store.save_codes([Code(bytes(4), bytes(32), "keyed", None, 7)])
    store.save_endpoints([market], None)
    store.enrol([(bytes(4), Endpoint("keyed", ROOT, key=bytes(range(32))))], 9)
    store.save_zone("schools", {"tag": "trường", "quote": '"\n\\'}, clear=True)
    store.programme_began(
        7, "live-7", priority=3, request={"to": ["chợ"]}, playout_delay_ms=312.5, at=5
    )
    store.programme_ended(7, 6, "enough")
    return store.load()


def taken(place: Place) -> tuple[str, Tables]:
    with copies.snapshot(place) as snapshot:
        assert snapshot.station == ROOT
        return snapshot.revision, [(name, list(lines)) for name, lines in snapshot.tables()]


def everything(store: Store) -> dict[str, set[tuple[object, ...]]]:
    with store._transaction() as connection:
        metadata = MetaData()
        metadata.reflect(connection)
        return {
            name: {tuple(row) for row in connection.execute(select(table))}
            for name, table in metadata.tables.items()
        }


@pytest.fixture
def opened() -> Iterator[Callable[[Place], Store]]:
    stores: list[Store] = []

    def open_(place: Place) -> Store:
        stores.append(Store.open(place))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def test_all_that_was_stored_is_in_the_other_database(
    store: Store, place: Place, other: Place, opened: Callable[[Place], Store]
) -> None:
    contents, programmes = fill(store), store.programmes(10)
    copies.restore(other, *taken(place))
    again = opened(other)
    assert again.load() == contents
    assert again.programmes(10) == programmes
    assert everything(again) == everything(store)


def test_new_rows_get_numbers_that_no_row_has(
    store: Store, place: Place, other: Place, opened: Callable[[Place], Store]
) -> None:
    contents = fill(store)
    copies.restore(other, *taken(place))
    again = opened(other)
    again.add_unit(f"{ROOT}/new")
    again.save_endpoints([Endpoint("new", f"{ROOT}/new")], 1)
    assert set(again.load().endpoints) == {*contents.endpoints, Endpoint("new", f"{ROOT}/new")}


def test_no_beginning_of_a_station_put_back_has_a_number_that_was_used(
    store: Store, place: Place, other: Place, opened: Callable[[Place], Store]
) -> None:
    store.next_boot(1000)
    copied = taken(place)
    used = {store.next_boot(1000) for _ in range(20)}
    copies.restore(other, *copied)
    assert opened(other).next_boot(1000) > max(used) + 9_000


def test_a_copy_is_of_one_moment_whatever_is_written_meanwhile(store: Store, place: Place) -> None:
    fill(store)
    with copies.snapshot(place) as snapshot:
        tables = snapshot.tables()
        name, lines = next(tables)
        before = {name: list(lines)}
        store.save_endpoints([Endpoint("late", ROOT)], 1)
        store.remove_zone("schools")
        before |= {name: list(lines) for name, lines in tables}
    assert not any(b"late" in line for line in before["endpoints"])
    assert len(before["zones"]) == 2
    assert {endpoint.name for endpoint in store.load().endpoints} == {"market", "keyed", "late"}


def test_who_was_signed_in_is_not_again_by_a_copy(store: Store, place: Place) -> None:
    _, tables = taken(place)
    assert {name for name, _ in tables} == Base.metadata.tables.keys() - {"login_sessions"}


def test_a_copy_of_older_tables_is_brought_to_the_newest(
    store: Store, place: Place, other: Place, opened: Callable[[Place], Store]
) -> None:
    from server.store import schema  # noqa: PLC0415

    contents = fill(store)
    with store._transaction() as connection:
        schema.move(connection, "0003")
    copied = taken(place)
    assert copied[0] == "0003"
    copies.restore(other, *copied)
    assert opened(other).load() == contents


def test_a_copy_of_a_newer_loa_makes_nothing(path: Path, other: Place) -> None:
    Store.create(path, ROOT).close()
    revision, tables = taken(path)
    with pytest.raises(StoreError, match="newer Loa"):
        copies.restore(other, "9999", tables)
    if isinstance(other, Path):
        other.unlink()
    copies.restore(other, revision, tables)


def test_nothing_is_put_over_a_station(store: Store, place: Place) -> None:
    contents = fill(store)
    copied = taken(place)
    store.close()
    with pytest.raises(StoreError, match="already"):
        copies.restore(place, *copied)
    again = Store.open(place)
    assert again.load() == contents
    again.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tables: tables[:-1],
        lambda tables: [*tables, ("songs", [b'["title"]\n'])],
        lambda tables: [*tables, tables[-1]],
        lambda tables: [(name, [b'["x"]\n']) for name, _ in tables],
        lambda tables: [(name, [*lines, b"[1]\n"]) for name, lines in tables],
        lambda tables: [(name, [*lines, b"{\n"]) for name, lines in tables],
        lambda tables: [(name, lines[:1] if name == "units" else lines) for name, lines in tables],
        lambda tables: [(n, [x.replace(b"-1234", b"1e9") for x in lines]) for n, lines in tables],
        lambda tables: [(n, [x.replace(b"1e-300", b"-999") for x in lines]) for n, lines in tables],
    ],
)
def test_what_are_no_tables_make_nothing(
    path: Path, other: Place, spoil: Callable[[Tables], Tables]
) -> None:
    store = Store.create(path, ROOT)
    fill(store)
    store.close()
    revision, tables = taken(path)
    with pytest.raises((ValueError, StoreError)):
        copies.restore(other, revision, spoil(tables))
    if isinstance(other, Path):
        other.unlink()
    copies.restore(other, revision, tables)


def test_what_is_no_station_s_is_not_copied(other: Place) -> None:
    with pytest.raises(StoreError), copies.snapshot(other):
        pass
