import unicodedata
from typing import Any

import pytest

from server.directory import Directory, Endpoint, Position
from server.errors import NoSuchError
from server.zones.definition import (
    Definition,
    Tag,
    Unit,
    Zone,
    parse,
)
from server.zones.errors import NoSuchZoneError, ZoneError
from server.zones.membership import MAX_ZONES, ZoneBook

HAMLETS = ("P/Thôn 1", "P/Thôn 10", "P/Thôn 2")
SQUARE = {"polygon": [[105.8, 21.0], [105.82, 21.0], [105.82, 21.02], [105.8, 21.02]]}


@pytest.fixture
def directory() -> Directory:
    """Three hamlets with three loudspeakers each, the first of each at a school."""
    directory = Directory("P")
    for number, unit in enumerate(HAMLETS):
        directory.add_unit(unit)
        for place in range(3):
            tags = frozenset({"school"} if place == 0 else ())
            position = Position(21.01 + number, 105.81)
            directory.put_endpoint(
                Endpoint(f"s-{number}{place}", unit, tags=tags, position=position)
            )
    return directory


@pytest.fixture
def book() -> ZoneBook:
    return ZoneBook()


def put(book: ZoneBook, directory: Directory, **zones: dict[str, Any]) -> None:
    for name, plain in zones.items():
        book.put(name, parse(plain), directory)


# ------------------------------------------------------------------ who is in
def test_everybody_is_in_all_though_nothing_was_defined(
    book: ZoneBook, directory: Directory
) -> None:
    assert book.members("all", directory) == directory.endpoints.keys()
    assert book.all_members(directory) == {"all": directory.endpoints.keys()}
    assert book.preview(Zone("all"), directory) == directory.endpoints.keys()
    assert book.definition("all") == Zone("all")
    assert book.definitions == {}


def test_zones_are_made_of_zones(book: ZoneBook, directory: Directory) -> None:
    put(
        book,
        directory,
        hamlet={"unit": "P/Thôn 1"},
        schools={"tag": "school"},
        both={"union": [{"zone": "hamlet"}, {"zone": "schools"}]},
        rest={"difference": [{"zone": "all"}, {"zone": "both"}, SQUARE]},
    )
    assert book.members("both", directory) == {"s-00", "s-01", "s-02", "s-10", "s-20"}
    assert book.members("rest", directory) == {"s-11", "s-12", "s-21", "s-22"}
    assert book.zones_of("s-00", directory) == ("all", "both", "hamlet", "schools")
    assert book.zones_of("s-11", directory) == ("all", "rest")


def test_a_preview_is_what_the_zone_would_be_and_saves_nothing(
    book: ZoneBook, directory: Directory
) -> None:
    put(book, directory, schools={"tag": "school"})
    definition = parse({"difference": [{"zone": "schools"}, {"unit": "P/Thôn 1"}]})
    previewed, version = book.preview(definition, directory), book.version
    assert previewed == {"s-10", "s-20"}
    assert list(book.definitions) == ["schools"]
    book.put("later", definition, directory)
    assert book.members("later", directory) == previewed
    assert book.version == version + 1


def test_members_follow_the_directory(book: ZoneBook, directory: Directory) -> None:
    put(book, directory, schools={"tag": "school"})
    assert len(book.members("schools", directory)) == 3
    directory.put_endpoint(Endpoint("new", "P", tags=frozenset({"school"})))
    assert "new" in book.members("schools", directory)
    directory.remove_endpoint("s-00")
    assert book.members("schools", directory) == {"new", "s-10", "s-20"}


def test_members_follow_the_book(book: ZoneBook, directory: Directory) -> None:
    put(book, directory, a={"unit": "P/Thôn 1"}, b={"zone": "a"})
    assert book.members("b", directory) == {"s-00", "s-01", "s-02"}
    put(book, directory, a={"unit": "P/Thôn 10"})
    assert book.members("b", directory) == {"s-10", "s-11", "s-12"}


def test_another_directory_of_the_same_version_is_another(
    book: ZoneBook, directory: Directory
) -> None:
    book.members("all", directory)
    other = Directory("Q", version=directory.version)
    assert book.members("all", other) == frozenset()


def test_what_is_removed_after_a_zone_was_saved_has_no_members(
    book: ZoneBook, directory: Directory
) -> None:
    directory.add_unit("P/Thôn 3")
    put(book, directory, a={"union": [{"unit": "P/Thôn 3"}, {"speakers": ["s-00", "s-01"]}]})
    directory.remove_unit("P/Thôn 3")
    directory.remove_endpoint("s-00")
    assert book.members("a", directory) == {"s-01"}


def test_names_are_found_in_any_spelling(book: ZoneBook, directory: Directory) -> None:
    typed = unicodedata.normalize("NFD", "Chợ")
    assert book.put(typed, Tag("school"), directory) == "Chợ"
    assert book.members(typed, directory) == book.members("Chợ", directory)
    assert book.definition(typed) == Tag("school")
    book.remove(typed)
    assert book.definitions == {}


# ------------------------------------------------------------------ in clear
def test_a_zone_is_sealed_until_it_is_in_clear_and_stays_so_when_defined_anew(
    book: ZoneBook, directory: Directory
) -> None:
    put(book, directory, Chợ={"tag": "market"}, other={"zone": "Chợ"})
    assert book.clear == frozenset()
    assert book.set_clear(unicodedata.normalize("NFD", "Chợ"), clear=True) == "Chợ"
    put(book, directory, Chợ={"tag": "school"})
    assert (book.is_clear("Chợ"), book.is_clear("other")) == (True, False)
    book.set_clear("Chợ", clear=False)
    assert book.clear == frozenset()


def test_a_zone_that_was_removed_leaves_nothing_in_clear_to_the_next_of_its_name(
    book: ZoneBook, directory: Directory
) -> None:
    put(book, directory, z={"tag": "market"})
    book.set_clear("z", clear=True)
    book.remove("z")
    put(book, directory, z={"tag": "market"})
    assert not book.is_clear("z")


def test_who_is_in_a_zone_is_no_question_of_its_seal(book: ZoneBook, directory: Directory) -> None:
    put(book, directory, z={"tag": "school"})
    members, version = book.members("z", directory), book.version
    book.set_clear("z", clear=True)
    assert (book.members("z", directory), book.version) == (members, version)


def test_what_is_in_clear_is_restored_with_the_zones(book: ZoneBook, directory: Directory) -> None:
    put(book, directory, y={"tag": "a"}, z={"tag": "a"})
    definitions = dict(book.definitions)
    book.set_clear("y", clear=True)
    book.restore(definitions, {"z", "gone"})
    assert book.clear == {"z"}
    book.restore(definitions)
    assert book.clear == frozenset()


@pytest.mark.parametrize(("name", "why"), [("all", "built in"), ("nowhere", "no zone 'nowhere'")])
def test_only_a_zone_that_was_defined_is_in_clear(book: ZoneBook, name: str, why: str) -> None:
    with pytest.raises(ZoneError, match=why):
        book.set_clear(name, clear=True)


# ------------------------------------------------------------------ what is refused
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("all", {"tag": "a"}, "'all' is built in"),
    ("a/b", {"tag": "a"}, "'a/b' is no name for a zone"),
    ("x", {"unit": "P/Thôn 12"}, "no unit 'P/Thôn 12'; nearest: P/Thôn"),
    ("x", {"speakers": ["s-00", "s-09"]}, "no loudspeaker 's-09'; nearest: s-"),
    ("x", {"zone": "scools"}, "no zone 'scools'; nearest: schools"),
    ("x", {"union": [{"tag": "a"}, {"zone": "y"}]}, "no zone 'y'; nearest: "),
    ("x", {"zone": "x"}, "a zone cannot contain itself: x → x"),
    ("a", {"zone": "a"}, "a zone cannot contain itself: a → a"),
    ("a", {"union": [{"zone": "c"}]}, "a zone cannot contain itself: a → c → b → a"),
    ("b", {"difference": [{"tag": "x"}, {"zone": "c"}]}, "contain itself: b → c → b"),
]


@pytest.mark.parametrize(("name", "plain", "why"), REFUSED)
def test_a_refused_zone_changes_nothing(
    book: ZoneBook, directory: Directory, name: str, plain: dict[str, Any], why: str
) -> None:
    put(book, directory, schools={"tag": "school"}, a={"tag": "x"}, b={"zone": "a"})
    put(book, directory, c={"zone": "b"})
    before, version, members = (
        dict(book.definitions),
        book.version,
        book.all_members(directory),
    )
    with pytest.raises((ZoneError, NoSuchError)) as caught:
        put(book, directory, **{name: plain})
    assert why in str(caught.value)
    assert (book.definitions, book.version) == (before, version)
    assert book.all_members(directory) == members


def test_the_way_of_a_loop_begins_at_the_zone_that_was_refused(
    book: ZoneBook, directory: Directory
) -> None:
    put(book, directory, a={"tag": "x"}, b={"tag": "x"})
    put(book, directory, a={"zone": "b"})
    with pytest.raises(ZoneError, match=r": b → a → b$"):
        put(book, directory, b={"zone": "a"})


def test_a_zone_that_is_no_longer_used_may_be_removed(book: ZoneBook, directory: Directory) -> None:
    put(book, directory, a={"tag": "x"}, b={"zone": "a"})
    put(book, directory, b={"tag": "x"})
    book.remove("a")
    assert list(book.definitions) == ["b"]


def test_a_tag_that_nobody_bears_yet_is_no_error(book: ZoneBook, directory: Directory) -> None:
    put(book, directory, temples={"tag": "temple"})
    assert book.members("temples", directory) == frozenset()


def test_a_zone_in_use_cannot_be_removed(book: ZoneBook, directory: Directory) -> None:
    put(book, directory, a={"tag": "x"}, c={"zone": "a"}, b={"union": [{"zone": "a"}]})
    version = book.version
    with pytest.raises(ZoneError, match=r"^zone 'a' is used by b, c$"):
        book.remove("a")
    assert book.version == version
    for name in ("b", "c", "a"):
        book.remove(name)
    assert book.definitions == {}
    assert book.version == version + 3


def test_what_does_not_exist_is_both_a_zone_s_error_and_no_such(
    book: ZoneBook, directory: Directory
) -> None:
    put(book, directory, market={"tag": "x"})
    for call in (
        lambda: book.remove("markt"),
        lambda: book.members("markt", directory),
        lambda: book.definition("markt"),
        lambda: book.preview(Zone("markt"), directory),
    ):
        with pytest.raises(NoSuchZoneError, match="no zone 'markt'; nearest: market") as caught:
            call()
        assert isinstance(caught.value, ZoneError)
        assert isinstance(caught.value, NoSuchError)
    with pytest.raises(NoSuchError, match="no loudspeaker 's-0'"):
        book.zones_of("s-0", directory)
    with pytest.raises(NoSuchError, match="no unit 'Q'"):
        book.preview(Unit("Q"), directory)
    with pytest.raises(ZoneError, match="built in"):
        book.remove("all")


def test_to_put_what_is_there_already_is_no_change(book: ZoneBook, directory: Directory) -> None:
    put(book, directory, a=SQUARE)
    version = book.version
    put(book, directory, a=SQUARE)
    assert book.version == version


# ------------------------------------------------------------------ a thousand
def test_a_thousand_zones_may_be_chained_and_no_more_are_taken(
    book: ZoneBook, directory: Directory
) -> None:
    book.put("z-0", Tag("school"), directory)
    for number in range(1, MAX_ZONES):
        book.put(f"z-{number}", Zone(f"z-{number - 1}"), directory)
    assert book.members(f"z-{MAX_ZONES - 1}", directory) == {"s-00", "s-10", "s-20"}
    with pytest.raises(ZoneError, match="there are 1000 zones"):
        put(book, directory, more={"tag": "x"})
    with pytest.raises(ZoneError, match=r"itself: z-0 → z-999 → .* → … → .* → z-1 → z-0$"):
        book.put("z-0", Zone(f"z-{MAX_ZONES - 1}"), directory)
    book.put("z-0", Tag("x"), directory)
    assert book.members(f"z-{MAX_ZONES - 1}", directory) == frozenset()


# ------------------------------------------------------------------ restored
def test_a_book_is_restored_in_any_order_though_the_directory_has_changed(
    book: ZoneBook, directory: Directory
) -> None:
    put(book, directory, a={"unit": "P/Thôn 1"}, b={"zone": "a"}, c={"speakers": ["s-00"]})
    again = ZoneBook()
    again.restore({name: book.definition(name) for name in "cba"})
    assert again.all_members(directory) == book.all_members(directory)
    assert again.all_members(Directory("P"))["b"] == frozenset()


def test_to_restore_replaces_what_was_there(book: ZoneBook, directory: Directory) -> None:
    put(book, directory, a={"tag": "school"})
    assert book.members("a", directory)
    book.restore({"a": Tag("x")})
    assert book.members("a", directory) == frozenset()


@pytest.mark.parametrize(
    ("zones", "why"),
    [
        ({"a": Zone("b")}, "no zone 'b'"),
        ({"a": Zone("b"), "b": Zone("a")}, "contain itself"),
        ({"all": Tag("x")}, "built in"),
        ({f"z-{n}": Tag("x") for n in range(MAX_ZONES + 1)}, "more than 1000"),
    ],
)
def test_a_book_that_could_not_be_is_not_restored(
    book: ZoneBook, directory: Directory, zones: dict[str, Definition], why: str
) -> None:
    put(book, directory, kept={"tag": "x"})
    version = book.version
    with pytest.raises(ZoneError, match=why):
        book.restore(zones)
    assert list(book.definitions) == ["kept"]
    assert book.version == version
