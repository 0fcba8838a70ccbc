"""Everything that was stored is there after a restart; what was refused has changed nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from server.directory import MAX_DEPTH, Directory, DirectoryError, Endpoint, Position
from server.enrolment import Code
from server.store import Contents, ProgrammeRecord, Store

Reopen = Callable[..., Store]
ROOT = "Tân Phú"
MARKET = Endpoint(
    "market",
    f"{ROOT}/Thôn 3",
    delivery="wan",
    multicast=True,
    tags=frozenset({"outdoor", "chợ"}),
    position=Position(10.79, 106.63),
    volume=40,
    muted=True,
    trim_us=-1234,
    clear=True,
)
PLAIN = Endpoint("plain", ROOT)


def stored(store: Store) -> dict[str, Endpoint]:
    return {endpoint.name: endpoint for endpoint in store.load().endpoints}


# ------------------------------------------------------------------ beginnings
def test_a_new_station_has_its_root_and_nothing_else(store: Store) -> None:
    assert store.load() == Contents(ROOT, (ROOT,), (), {}, (), 0)
    assert store.load().root == ROOT


def test_a_station_is_called_by_the_one_spelling_of_its_name(reopen: Reopen) -> None:
    assert reopen().load().station_name == ROOT


@pytest.mark.parametrize("name", ["", "a/b", " x", "x" * 65])
def test_what_is_no_name_makes_no_database(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("new")
    with pytest.raises(DirectoryError):
        Store.create(folder / "loa.sqlite3", name)
    assert list(folder.iterdir()) == []


# ------------------------------------------------------------------ units
def test_a_tree_comes_back_whole_with_parents_first(store: Store, reopen: Reopen) -> None:
    deep = ROOT
    for level in range(1, MAX_DEPTH):
        for name in ("a", "b"):
            store.add_unit(f"{deep}/{name}{level}")
        deep = f"{deep}/a{level}"
    units = reopen().load().units
    assert len(units) == 1 + 2 * (MAX_DEPTH - 1)
    assert deep in units
    directory = Directory(ROOT)
    for path in units[1:]:
        directory.add_unit(path)


def test_units_of_one_name_below_different_parents_are_apart(store: Store, reopen: Reopen) -> None:
    for path in ("A", "B", "A/1", "B/1"):
        store.add_unit(f"{ROOT}/{path}")
    store.save_endpoints([Endpoint("x", f"{ROOT}/B/1")], 1)
    assert stored(reopen())["x"].unit == f"{ROOT}/B/1"


def test_a_unit_can_be_added_below_one_that_an_earlier_process_added(
    store: Store, reopen: Reopen
) -> None:
    store.add_unit(f"{ROOT}/A")
    again = reopen()
    again.add_unit(f"{ROOT}/A/1")
    assert again.load().units == (ROOT, f"{ROOT}/A", f"{ROOT}/A/1")


def test_a_unit_that_exists_is_not_added_twice(store: Store) -> None:
    store.add_unit(f"{ROOT}/A")
    store.add_unit(f"{ROOT}/A")
    assert store.load().units == (ROOT, f"{ROOT}/A")


@pytest.mark.parametrize("unit", [f"{ROOT}/A/1", "Elsewhere", "Elsewhere/1", ""])
def test_a_unit_below_none_that_is_stored_is_a_mistake(store: Store, unit: str) -> None:
    with pytest.raises(ValueError, match="no unit"):
        store.add_unit(unit)
    assert store.load().units == (ROOT,)


def test_a_removed_unit_is_gone_and_may_come_back(store: Store, reopen: Reopen) -> None:
    store.add_unit(f"{ROOT}/A")
    store.remove_unit(f"{ROOT}/A")
    store.remove_unit(f"{ROOT}/A")
    again = reopen()
    assert again.load().units == (ROOT,)
    again.add_unit(f"{ROOT}/A")
    assert again.load().units == (ROOT, f"{ROOT}/A")


def test_a_unit_that_holds_something_is_not_removed(store: Store) -> None:
    store.add_unit(MARKET.unit)
    store.save_endpoints([MARKET], 1)
    for path in (ROOT, MARKET.unit):
        with pytest.raises(ValueError, match=r"(?i)foreign key"):
            store.remove_unit(path)
    assert store.load().units == (ROOT, MARKET.unit)
    assert stored(store) == {"market": MARKET}


# ------------------------------------------------------------------ loudspeakers
def test_a_loudspeaker_comes_back_with_all_that_is_known_of_it(
    store: Store, reopen: Reopen
) -> None:
    store.add_unit(MARKET.unit)
    store.save_endpoints([MARKET, PLAIN], 1_700_000_000)
    contents = reopen().load()
    assert contents.endpoints == (MARKET, PLAIN)
    assert contents.last_seen == {"market": 1_700_000_000, "plain": 1_700_000_000}


def test_a_changed_loudspeaker_replaces_the_one_before_with_all_its_tags(
    store: Store, reopen: Reopen
) -> None:
    store.add_unit(MARKET.unit)
    store.save_endpoints([MARKET, PLAIN], 1)
    moved = replace(PLAIN, name="market", tags=frozenset({"indoor"}))
    store.save_endpoints([moved], 2)
    contents = reopen().load()
    assert contents.endpoints == (moved, PLAIN)
    assert contents.last_seen == {"market": 2, "plain": 1}


def test_of_two_words_about_one_loudspeaker_the_last_counts(store: Store) -> None:
    store.save_endpoints([replace(PLAIN, tags=frozenset({"a"})), replace(PLAIN, volume=7)], 1)
    assert stored(store) == {"plain": replace(PLAIN, volume=7)}


def test_what_an_operator_writes_does_not_say_that_it_was_seen(store: Store) -> None:
    store.save_endpoints([PLAIN], None)
    assert store.load().last_seen == {}
    store.save_endpoints([PLAIN], 5)
    store.save_endpoints([replace(PLAIN, volume=1)], None)
    assert store.load().last_seen == {"plain": 5}


def test_all_or_none_are_saved(store: Store) -> None:
    with pytest.raises(ValueError, match="no unit"):
        store.save_endpoints([PLAIN, MARKET], 1)
    assert stored(store) == {}


def test_no_loudspeakers_are_saved_without_complaint(store: Store) -> None:
    store.save_endpoints([], 1)
    store.seen({})
    assert stored(store) == {}


def test_when_many_were_seen_is_kept_and_strangers_are_ignored(
    store: Store, reopen: Reopen
) -> None:
    store.save_endpoints([PLAIN, replace(PLAIN, name="other")], None)
    store.seen({"plain": 1 << 33, "stranger": 7})
    assert reopen().load().last_seen == {"plain": 1 << 33}


def test_a_removed_loudspeaker_is_gone_with_its_tags(store: Store, reopen: Reopen) -> None:
    store.add_unit(MARKET.unit)
    store.save_endpoints([MARKET, PLAIN], 1)
    store.remove_endpoint("market")
    store.remove_endpoint("market")
    again = reopen()
    assert stored(again) == {"plain": PLAIN}
    bare = replace(PLAIN, name="market")
    again.save_endpoints([bare], 1)
    assert stored(again)["market"] == bare


def test_ten_thousand_loudspeakers_are_saved_changed_and_loaded(
    store: Store, reopen: Reopen
) -> None:
    units = [f"{ROOT}/{number}" for number in range(100)]
    for unit in units:
        store.add_unit(unit)
    endpoints = [
        Endpoint(
            f"loa-{number:05}",
            units[number % 100],
            tags=frozenset({"outdoor", f"{number % 7}"}),
            position=Position(number / 1000, -number / 1000),
        )
        for number in range(10_000)
    ]
    store.save_endpoints(endpoints, 1)
    changed = [replace(endpoint, volume=number % 101) for number, endpoint in enumerate(endpoints)]
    store.save_endpoints(iter(changed), 2)
    contents = reopen().load()
    assert contents.endpoints == tuple(changed)
    assert set(contents.last_seen.values()) == {2}


# ------------------------------------------------------------------ codes and keys
KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
NAMED = Code(b"\x00\x01\x02\x03", bytes(32), "plain", None, 1 << 33)
UNNAMED = Code(b"\xff\x00\xff\x00", b"\xff" * 32, "", f"{ROOT}/Thôn 3", 7)
ENROLLED = replace(PLAIN, key=KEY)


def test_codes_come_back_until_they_are_forgotten(store: Store, reopen: Reopen) -> None:
    store.save_codes([UNNAMED, NAMED])
    again = reopen()
    assert again.load().codes == (NAMED, UNNAMED)
    newer = replace(NAMED, number=b"\x11\x11\x11\x11")
    again.save_codes([newer], {NAMED.number, b"\x00" * 4})
    assert reopen().load().codes == (newer, UNNAMED)


def test_a_used_code_is_gone_and_the_key_is_there(store: Store, reopen: Reopen) -> None:
    store.save_codes([NAMED, UNNAMED])
    store.enrol([(NAMED.number, ENROLLED)], 9)
    contents = reopen().load()
    assert contents.codes == (UNNAMED,)
    assert contents.endpoints == (ENROLLED,)
    assert contents.last_seen == {"plain": 9}


def test_a_code_is_used_once(store: Store) -> None:
    store.save_codes([NAMED])
    store.enrol([(NAMED.number, ENROLLED)], 9)
    with pytest.raises(ValueError, match="used before"):
        store.enrol([(NAMED.number, replace(ENROLLED, key=OTHER_KEY))], 9)
    assert stored(store) == {"plain": ENROLLED}


def test_of_several_uses_all_or_none_are_stored(store: Store) -> None:
    store.save_codes([NAMED])
    other = replace(PLAIN, name="other", key=OTHER_KEY)
    with pytest.raises(ValueError, match="used before"):
        store.enrol([(NAMED.number, ENROLLED), (UNNAMED.number, other)], 9)
    assert store.load().codes == (NAMED,)
    assert stored(store) == {}


def test_a_key_is_of_one_loudspeaker_alone(store: Store) -> None:
    store.save_codes([NAMED, UNNAMED])
    store.enrol([(NAMED.number, ENROLLED)], 9)
    with pytest.raises(ValueError, match=r"(?i)unique"):
        store.enrol([(UNNAMED.number, replace(ENROLLED, name="other"))], 9)
    assert store.load().codes == (UNNAMED,)
    assert stored(store) == {"plain": ENROLLED}


def test_another_key_takes_the_place_of_the_one_before(store: Store, reopen: Reopen) -> None:
    store.save_codes([NAMED, UNNAMED])
    store.enrol([(NAMED.number, ENROLLED)], 9)
    replaced = replace(ENROLLED, key=OTHER_KEY, volume=5)
    store.enrol([(UNNAMED.number, replaced)], 10)
    assert stored(reopen()) == {"plain": replaced}


def test_a_revoked_key_is_gone_and_does_not_come_back_by_what_was_read_before(
    store: Store, reopen: Reopen
) -> None:
    store.save_codes([NAMED])
    store.enrol([(NAMED.number, ENROLLED)], 9)
    store.revoke("plain")
    store.revoke("nobody")
    store.save_endpoints([replace(ENROLLED, volume=3)], 10)
    assert stored(reopen()) == {"plain": replace(PLAIN, volume=3)}


def test_a_thousand_use_their_codes_at_once(store: Store) -> None:
    codes = [replace(NAMED, number=n.to_bytes(4), name=f"n{n:04}") for n in range(1000)]
    store.save_codes(codes)
    enrolled = [Endpoint(code.name, ROOT, key=code.number * 8) for code in codes]
    store.enrol([(c.number, e) for c, e in zip(codes, enrolled, strict=True)], 9)
    contents = store.load()
    assert (contents.codes, contents.endpoints) == ((), tuple(enrolled))


def test_each_start_of_the_station_has_a_higher_number(store: Store, reopen: Reopen) -> None:
    assert [store.next_boot(), store.next_boot()] == [1, 2]
    assert reopen().next_boot() == 3


def test_a_database_put_back_from_a_copy_goes_on_above_what_was(store: Store) -> None:
    """Loudspeakers refuse a session whose number they have seen; minutes pass by themselves."""
    assert store.next_boot(1000) == 1000
    assert store.next_boot(1000) == 1001
    assert store.next_boot(5000) == 5000


# ------------------------------------------------------------------ zones
def test_zones_come_back_as_they_were_last_saved(store: Store, reopen: Reopen) -> None:
    store.save_zone("b", {"tags": ["chợ"], "within": None})
    store.save_zone("a", [1, 2.5, "x"])
    store.save_zone("b", {"all": True})
    store.save_zone("c", {})
    store.remove_zone("c")
    store.remove_zone("c")
    assert reopen().load().zones == (("a", [1, 2.5, "x"]), ("b", {"all": True}))


def test_a_zone_is_as_clear_as_it_was_last_saved(store: Store, reopen: Reopen) -> None:
    store.save_zone("a", 1, clear=True)
    store.save_zone("b", 1, clear=True)
    store.save_zone("b", 1)
    assert reopen().load().clear_zones == {"a"}


@pytest.mark.parametrize("definition", [float("nan"), object()])
def test_what_json_cannot_say_is_refused_and_the_zone_stays(
    store: Store, definition: object
) -> None:
    store.save_zone("a", 1)
    with pytest.raises((ValueError, TypeError)):
        store.save_zone("a", definition)
    assert store.load().zones == (("a", 1),)


# ------------------------------------------------------------------ programmes
def begin(store: Store, number: int) -> ProgrammeRecord:
    record = ProgrammeRecord(
        number, f"live-{number}", 3, {"to": ["chợ"], "test": True}, 312.5, 1_700_000_000
    )
    store.programme_began(
        number,
        record.name,
        priority=record.priority,
        request=record.request,
        playout_delay_ms=record.playout_delay_ms,
        at=record.began_at,
    )
    return record


def test_a_programme_is_remembered_from_its_beginning_to_its_end(
    store: Store, reopen: Reopen
) -> None:
    record = begin(store, 1)
    assert store.programmes(1) == (record,)
    store.programme_ended(1, 1_700_000_060, "the speaker stopped")
    ended = replace(record, ended_at=1_700_000_060, why_ended="the speaker stopped")
    assert reopen().programmes(10) == (ended,)


def test_programmes_are_told_newest_first_and_no_more_than_asked_for(store: Store) -> None:
    for number in (1, 2, 10, 11):
        begin(store, number)
    assert [record.number for record in store.programmes(3)] == [11, 10, 2]
    assert store.load().last_programme_number == 11


def test_programmes_on_air_when_the_station_stopped_are_closed_by_the_next(
    store: Store, reopen: Reopen
) -> None:
    for number in (1, 2):
        begin(store, number)
    store.programme_ended(1, 5, "enough")
    newest, oldest = reopen().programmes(2)
    assert (newest.why_ended, newest.ended_at) == ("the station stopped", None)
    assert (oldest.why_ended, oldest.ended_at) == ("enough", 5)


def test_control_born_again_alone_leaves_on_air_what_is(store: Store, reopen: Reopen) -> None:
    for number in (1, 2):
        begin(store, number)
    again = reopen(still_on_air={2})
    assert [record.why_ended for record in again.programmes(2)] == [None, "the station stopped"]


def test_a_number_is_used_once(store: Store) -> None:
    begin(store, 1)
    with pytest.raises(ValueError, match=r"(?i)unique"):
        begin(store, 1)


def test_the_end_of_a_programme_that_is_not_known_is_nothing(store: Store) -> None:
    store.programme_ended(7, 1, "gone")
    assert store.programmes(1) == ()


# ------------------------------------------------------------------ threads
def test_a_store_opened_in_one_thread_serves_another(store: Store) -> None:
    with ThreadPoolExecutor(1) as worker:
        worker.submit(store.save_endpoints, [PLAIN], 1).result()
        assert worker.submit(stored, store).result() == {"plain": PLAIN}
