"""The tree of units and the loudspeakers in it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import directory as module
from server.directory import (
    MAX_DEPTH,
    MAX_TAGS,
    Directory,
    DirectoryError,
    Endpoint,
    Position,
    check_label,
    check_path,
    is_within,
    nearest,
)
from server.errors import NoSuchError

ROOT = "Tân Phú"
VILLAGE = f"{ROOT}/Thôn 3"
LABELS = st.from_regex(r"[a-zđơư0-9][a-zđơư0-9 .:-]{0,8}[a-zđơư0-9]", fullmatch=True)


@pytest.fixture
def directory() -> Directory:
    """A commune with one village, and a loudspeaker there."""
    made = Directory(ROOT)
    made.add_unit(VILLAGE)
    made.put_endpoint(Endpoint("market", VILLAGE))
    return made


# ------------------------------------------------------------------ keys
KEY, OTHER_KEY = bytes(32), bytes(range(32))


def test_a_loudspeaker_is_found_by_its_key_until_that_is_another_or_none(
    directory: Directory,
) -> None:
    market = directory.put_endpoint(replace(directory.endpoint("market"), key=KEY))
    assert directory.by_key(KEY) == market
    moved = directory.put_endpoint(replace(market, unit=ROOT))
    assert directory.by_key(KEY) == moved
    directory.put_endpoint(replace(moved, key=OTHER_KEY))
    assert directory.by_key(KEY) is None
    directory.put_endpoint(replace(moved, key=None))
    assert directory.by_key(OTHER_KEY) is None
    directory.put_endpoint(moved)
    directory.remove_endpoint("market")
    assert directory.by_key(KEY) is None


def test_a_key_is_of_one_loudspeaker_alone(directory: Directory) -> None:
    market = directory.put_endpoint(replace(directory.endpoint("market"), key=KEY))
    version = directory.version
    with pytest.raises(DirectoryError, match="already, as 'market': revoke that first"):
        directory.put_endpoint(Endpoint("school", VILLAGE, key=KEY))
    assert (directory.by_key(KEY), directory.version) == (market, version)
    assert "school" not in directory.endpoints


@pytest.mark.parametrize("length", [0, 31, 33])
def test_what_is_no_key_is_refused(length: int) -> None:
    with pytest.raises(DirectoryError, match="a public key has 32 bytes"):
        Endpoint("market", VILLAGE, key=bytes(length))


# ------------------------------------------------------------------ names
@pytest.mark.parametrize("text", ["", " a", "a ", "a/b", "a\nb", "-a", "a" * 65, "?", "\ud800"])
def test_a_label_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(DirectoryError, match="is no name for a tag") as caught:
        check_label("tag", text)
    assert len(str(caught.value).splitlines()) == 1


@given(LABELS)
def test_a_label_has_one_spelling_however_it_was_typed(text: str) -> None:
    assert check_label("tag", text) == text


def test_accents_typed_apart_are_put_together() -> None:
    assert check_path("Ta\u0302n Phu\u0301/Tho\u0302n 3") == VILLAGE


def test_a_path_deeper_than_any_administration_is_refused() -> None:
    check_path("/".join(["a"] * MAX_DEPTH))
    with pytest.raises(DirectoryError, match=f"at most {MAX_DEPTH} levels"):
        check_path("/".join(["a"] * (MAX_DEPTH + 1)))


@pytest.mark.parametrize("path", ["", "a//b", "/a", "a/"])
def test_a_path_with_a_hole_is_refused(path: str) -> None:
    with pytest.raises(DirectoryError, match="'' is no name"):
        check_path(path)


@pytest.mark.parametrize(
    ("path", "unit", "within"),
    [("a", "a", True), ("a/b", "a", True), ("ab", "a", False), ("a", "a/b", False)],
)
def test_a_unit_holds_itself_and_what_is_below_it(path: str, unit: str, within: bool) -> None:
    assert is_within(path, unit) is within


def test_of_names_that_are_like_it_the_nearest_are_offered() -> None:
    assert nearest("markt", ["market", "school"]) == "; nearest: market"


def test_of_names_that_are_not_like_it_a_few_are_offered() -> None:
    assert nearest("xyz", [f"s{n}" for n in range(9)]) == "; nearest: s0, s1, s2, s3, s4"


def test_where_there_is_no_name_that_is_said() -> None:
    assert nearest("a", []) == "; there is none yet"


# ------------------------------------------------------------------ units
def test_a_unit_is_added_below_one_that_exists(directory: Directory) -> None:
    assert directory.add_unit(f"{VILLAGE}/Xóm 1") == f"{VILLAGE}/Xóm 1"
    assert directory.units == {ROOT, VILLAGE, f"{VILLAGE}/Xóm 1"}


def test_a_unit_is_not_added_twice(directory: Directory) -> None:
    with pytest.raises(DirectoryError, match="already"):
        directory.add_unit("Ta\u0302n Phu\u0301/Tho\u0302n 3")


def test_a_unit_below_none_is_answered_with_the_nearest(directory: Directory) -> None:
    with pytest.raises(NoSuchError, match=f"no unit '{ROOT}/Thôn 2'.*nearest: {VILLAGE}"):
        directory.add_unit(f"{ROOT}/Thôn 2/Xóm 1")


def test_a_unit_beside_the_root_is_answered_with_where_to_put_it(directory: Directory) -> None:
    with pytest.raises(NoSuchError, match=f"write it {ROOT}/Thôn 4"):
        directory.add_unit("Thôn 4")


def test_there_are_no_more_units_than_can_be_held(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNITS", 2)
    with pytest.raises(DirectoryError, match="more than 2 units"):
        directory.add_unit(f"{ROOT}/Thôn 4")


def test_an_empty_unit_is_removed(directory: Directory) -> None:
    directory.remove_endpoint("market")
    directory.remove_unit(VILLAGE)
    assert directory.units == {ROOT}


@pytest.mark.parametrize("held", ["market", f"{VILLAGE}/Xóm 1"])
def test_a_unit_that_holds_something_is_not_removed(directory: Directory, held: str) -> None:
    if held != "market":
        directory.add_unit(held)
        directory.remove_endpoint("market")
    with pytest.raises(DirectoryError, match=f"not empty: move or remove {held} first"):
        directory.remove_unit(VILLAGE)
    assert VILLAGE in directory.units


def test_the_root_is_not_removed() -> None:
    with pytest.raises(DirectoryError, match="the station itself"):
        Directory(ROOT).remove_unit(ROOT)


def test_no_unknown_unit_is_removed(directory: Directory) -> None:
    with pytest.raises(NoSuchError, match=f"nearest: {VILLAGE}"):
        directory.remove_unit(f"{ROOT}/Thôn 33")


# ------------------------------------------------------------------ loudspeakers
def test_a_loudspeaker_is_found_by_its_name(directory: Directory) -> None:
    assert directory.endpoint("market") == Endpoint("market", VILLAGE)


def test_an_unknown_loudspeaker_is_answered_with_the_nearest(directory: Directory) -> None:
    with pytest.raises(NoSuchError, match="no loudspeaker 'markt'; nearest: market"):
        directory.endpoint("markt")


def test_a_loudspeaker_in_no_unit_is_refused(directory: Directory) -> None:
    with pytest.raises(NoSuchError, match="no unit"):
        directory.put_endpoint(Endpoint("school", f"{ROOT}/Thôn 9"))
    assert "school" not in directory.endpoints


def test_unit_and_tags_are_kept_in_the_one_spelling(directory: Directory) -> None:
    typed = Endpoint("market", "Ta\u0302n Phu\u0301", tags=frozenset({"cho\u031b\u0323"}))
    kept = directory.put_endpoint(typed)
    assert kept == directory.endpoints["market"]
    assert (kept.unit, kept.tags) == (ROOT, frozenset({"chợ"}))


def test_a_tag_that_is_none_is_refused(directory: Directory) -> None:
    before = directory.endpoint("market")
    with pytest.raises(DirectoryError, match="no name for a tag"):
        directory.put_endpoint(replace(before, tags=frozenset({"a/b"})))
    assert directory.endpoint("market") == before


def test_there_are_no_more_loudspeakers_than_can_be_held(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ENDPOINTS", 1)
    with pytest.raises(DirectoryError, match="1 loudspeakers are registered"):
        directory.put_endpoint(Endpoint("school", ROOT))
    directory.put_endpoint(Endpoint("market", ROOT))  # a change is no addition


def test_who_is_removed_is_not_known_any_more(directory: Directory) -> None:
    directory.remove_endpoint("market")
    with pytest.raises(NoSuchError, match="there is none yet"):
        directory.remove_endpoint("market")


@pytest.mark.parametrize("trim_us", [-50_001, 50_001])
def test_a_trim_out_of_range_is_refused(trim_us: int) -> None:
    with pytest.raises(DirectoryError, match="is no trim: use -50000 to 50000"):
        Endpoint("a", ROOT, trim_us=trim_us)


@pytest.mark.parametrize("volume", [-1, 101])
def test_a_volume_out_of_range_is_refused(volume: int) -> None:
    with pytest.raises(DirectoryError, match="use 0 to 100"):
        Endpoint("a", ROOT, volume=volume)


def test_more_tags_than_anybody_needs_are_refused() -> None:
    with pytest.raises(DirectoryError, match=f"at most {MAX_TAGS} tags"):
        Endpoint("a", ROOT, tags=frozenset(map(str, range(MAX_TAGS + 1))))


@pytest.mark.parametrize(
    ("latitude", "longitude", "what"),
    [
        (90.1, 0.0, "latitude"),
        (float("nan"), 0.0, "latitude"),
        (0.0, -180.1, "longitude"),
        (0.0, float("inf"), "longitude"),
    ],
)
def test_a_place_that_is_not_on_earth_is_refused(
    latitude: float, longitude: float, what: str
) -> None:
    with pytest.raises(DirectoryError, match=f"is no {what}"):
        Position(latitude, longitude)


# ------------------------------------------------------------------ versions
def test_every_change_raises_the_version_once() -> None:
    directory = Directory(ROOT)
    versions = [directory.version]
    for change in (
        lambda: directory.add_unit(VILLAGE),
        lambda: directory.put_endpoint(Endpoint("a", ROOT)),
        lambda: directory.put_endpoint(Endpoint("a", VILLAGE)),
        lambda: directory.remove_endpoint("a"),
        lambda: directory.remove_unit(VILLAGE),
    ):
        change()
        versions.append(directory.version)
    assert versions == [0, 1, 2, 3, 4, 5]


def test_what_changes_nothing_leaves_the_version_as_it_was(directory: Directory) -> None:
    before = directory.version
    directory.put_endpoint(directory.endpoint("market"))
    with pytest.raises(DirectoryError):
        directory.add_unit(VILLAGE)
    with pytest.raises(DirectoryError):
        directory.remove_unit(VILLAGE)
    assert directory.version == before


def test_whoever_has_changed_since_it_was_last_asked_is_told_once(directory: Directory) -> None:
    for name in ("a", "b"):
        directory.put_endpoint(Endpoint(name, directory.root))
    assert directory.take_changed() >= {"a", "b"}
    assert directory.take_changed() == set()
    directory.put_endpoint(Endpoint("a", directory.root))
    assert directory.take_changed() == set()
    directory.put_endpoint(Endpoint("a", directory.root, delivery="wan"))
    directory.remove_endpoint("b")
    assert directory.take_changed() == {"a", "b"}


def test_of_loudspeakers_those_with_a_key_are_counted(directory: Directory) -> None:
    before = directory.enrolled
    directory.put_endpoint(Endpoint("a", directory.root, key=bytes(32)))
    directory.put_endpoint(Endpoint("b", directory.root))
    assert directory.enrolled == before + 1
    directory.remove_endpoint("a")
    assert directory.enrolled == before
