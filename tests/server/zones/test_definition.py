import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.directory import DirectoryError
from server.zones.definition import (
    Definition,
    Difference,
    Polygon,
    Speakers,
    Tag,
    Union,
    Unit,
    Zone,
    parse,
    parts_of,
    to_plain,
)
from server.zones.errors import ZoneError
from transport.control.messages import spelt_alike

SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
TAG = {"tag": "school"}


def why(plain: object) -> str:
    with pytest.raises(ZoneError) as caught:
        parse(plain)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nested(depth: int) -> dict[str, Any]:
    plain: dict[str, Any] = TAG
    for _ in range(depth - 1):
        plain = {"union": [plain]}
    return plain


# ------------------------------------------------------------------ there and back
KNOWN: list[tuple[dict[str, Any], Definition]] = [
    ({"unit": "Tân Phú/Thôn 3"}, Unit("Tân Phú/Thôn 3")),
    ({"tag": "school"}, Tag("school")),
    ({"speakers": ["market", "hamlet-1"]}, Speakers(("market", "hamlet-1"))),
    ({"polygon": SQUARE}, Polygon(tuple((float(x), float(y)) for x, y in SQUARE))),
    ({"zone": "all"}, Zone("all")),
    ({"union": [TAG, {"unit": "A"}]}, Union((Tag("school"), Unit("A")))),
    ({"difference": [{"unit": "A"}, TAG, TAG]}, Difference(Unit("A"), (Tag("school"),) * 2)),
]


@pytest.mark.parametrize(("plain", "definition"), KNOWN)
def test_each_kind_is_read_and_written(plain: dict[str, Any], definition: Definition) -> None:
    assert parse(plain) == definition
    assert to_plain(definition) == plain


def test_names_are_given_their_one_spelling() -> None:
    typed = unicodedata.normalize("NFD", "Tân Phú")
    assert parse({"unit": typed}) == Unit("Tân Phú")
    assert parse({"tag": typed}) == Tag("Tân Phú")
    assert parse({"zone": typed}) == Zone("Tân Phú")
    assert parse({"speakers": [typed, "Tân Phú"]}) == Speakers(("Tân Phú",))


def test_a_ring_is_closed_and_heights_are_dropped() -> None:
    ring = parse({"polygon": [[0, 0, 7.5], [1, 0, 8], [1, 1, 9]]})
    assert ring == Polygon(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 0.0)))


def test_the_parts_of_a_definition_are_itself_and_all_within() -> None:
    whole = parse({"difference": [{"union": [TAG, {"zone": "b"}]}, {"unit": "A"}]})
    assert {type(part) for part in parts_of(whole)} == {Difference, Union, Tag, Zone, Unit}


# ------------------------------------------------------------------ where and why
WRONG: list[tuple[object, str]] = [
    (None, "a definition is an object with one of unit, tag,"),
    ({}, "a definition is an object with one of unit"),
    ({"tag": "a", "unit": "b"}, "a definition is an object with one of unit"),
    ({"polygn": []}, "'polygn' is no kind of definition; nearest: polygon"),
    ({5: []}, "'' is no kind of definition"),
    ({"unit": 5}, "unit: a text of at most"),
    ({"unit": "A//B"}, "unit: '' is no name for a unit"),
    ({"unit": "/".join("a" * 17)}, "unit: a unit lies at most 16 levels deep, not 17"),
    ({"tag": "a\nb"}, r"tag: 'a\nb' is no name for a tag"),
    ({"tag": "x" * 5000}, "tag: a text of at most 4096"),
    ({"zone": ""}, "zone: '' is no name for a zone"),
    ({"speakers": "market"}, "speakers: a list of the names of loudspeakers is meant"),
    ({"speakers": []}, "speakers: a list of the names of loudspeakers is meant here, at least 1"),
    ({"speakers": ["a", "all"]}, "speakers[1]: 'all' is no loudspeaker's name"),
    ({"speakers": ["a", 5]}, "speakers[1]: a text"),
    ({"union": []}, "union: a list of definitions is meant here, at least 1"),
    ({"union": [TAG, 5]}, "union[1]: a definition is an object"),
    ({"difference": [TAG]}, "difference: a list of definitions is meant here, at least 2"),
    ({"polygon": {}}, "polygon: a list of corners is meant"),
    ({"polygon": [[1, 2], [3]]}, "polygon: corner 2 is not [longitude, latitude]"),
    ({"polygon": [[1, True]]}, "polygon: corner 1 is not [longitude, latitude]"),
    ({"polygon": [[1, "2"]]}, "polygon: corner 1 is not [longitude, latitude]"),
    ({"polygon": [[1, 10**400]]}, "polygon: corner 1 is not [longitude, latitude]"),
    ({"polygon": [SQUARE]}, "polygon: corner 1 is not [longitude, latitude]"),
    ({"union": [TAG, {"polygon": [[0, 0], [1, 1]]}]}, "union[1].polygon: an area has 3 different"),
    (
        {"difference": [TAG, {"union": [{"polygon": [[0, 0], [2, 2], [2, 0], [0, 2]]}]}]},
        "difference[1].union[0].polygon: the ring crosses or touches itself at longitude 1.000000",
    ),
]


@pytest.mark.parametrize(("plain", "told"), WRONG)
def test_what_is_wrong_is_told_with_its_place(plain: object, told: str) -> None:
    assert why(plain).startswith(told)


def test_what_is_wrong_with_a_zone_is_also_an_error_of_the_directory() -> None:
    with pytest.raises(DirectoryError):
        parse(None)


# ------------------------------------------------------------------ limits
def test_definitions_nest_16_deep_and_no_deeper() -> None:
    assert to_plain(parse(nested(16))) == nested(16)
    assert why(nested(17)) == "definitions are nested at most 16 deep"
    assert why(nested(5000)) == "definitions are nested at most 16 deep"


def test_a_definition_that_holds_itself_is_refused() -> None:
    plain: dict[str, Any] = {"union": []}
    plain["union"].append(plain)
    assert "16 deep" in why(plain)


def test_the_limits_are_of_the_whole_definition() -> None:
    half = {"speakers": [f"s-{n}" for n in range(5_000)]}
    corners = [[n * 0.01, (n * 0.01 - 25) ** 2 / 10] for n in range(5_000)]
    parse({"union": [half, half, {"polygon": corners}, {"polygon": corners[1:]}]})
    assert why({"union": [half, half, {"speakers": ["a"]}]}).startswith("union[2].speakers: a zone")
    many = {"union": [{"polygon": corners}, {"polygon": corners}, {"polygon": SQUARE}]}
    assert why(many) == "union[2].polygon: a zone has at most 10000 corners"
    members = {"union": [TAG] * 499}
    parse({"union": [members, members]})
    assert why({"union": [members, members, TAG]}).startswith("union[1].union: a zone is made of")


# ------------------------------------------------------------------ rubbish
KINDS = st.sampled_from(["unit", "tag", "speakers", "polygon", "zone", "union", "difference"])
NUMBERS = st.floats() | st.integers() | st.just(10**400)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | st.binary(max_size=4)
CORNERS = st.lists(st.lists(NUMBERS | st.integers(-9, 9), max_size=3), max_size=5)
VALUES = st.recursive(
    SCALARS | CORNERS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KINDS | st.text(max_size=4) | SCALARS, inner, max_size=2)
        | st.builds(lambda kind, value: {kind: value}, KINDS, inner)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_any_value_is_a_definition_or_a_zone_error_in_one_line(plain: object) -> None:
    said = ""
    try:
        definition = parse(plain)
    except ZoneError as error:
        said = str(error)
    else:
        assert parse(json.loads(json.dumps(to_plain(definition)))) == definition
    assert len(said.splitlines()) <= 1


# Some letters have no single character in NFC, and what is left of them is no name.
NAMES = st.from_regex(r"[\w][\w.:-]{0,5}", fullmatch=True).filter(
    lambda name: name != "all" and spelt_alike(name) == name
)
INTEGERS = st.integers(-9, 9)
LEAVES = (
    st.builds(lambda name: {"tag": name}, NAMES)
    | st.builds(lambda name: {"zone": name}, NAMES)
    | st.builds(lambda parts: {"unit": "/".join(parts)}, st.lists(NAMES, min_size=1, max_size=5))
    | st.builds(lambda names: {"speakers": names}, st.lists(NAMES, min_size=1, max_size=5))
    | st.builds(lambda x, y: {"polygon": [[x, y], [x + 1, y], [x, y + 2]]}, INTEGERS, INTEGERS)
)
PLAIN = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(lambda members: {"union": members}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda members: {"difference": members}, st.lists(inner, min_size=2))
    ),
    max_leaves=10,
)


@given(PLAIN)
def test_a_definition_survives_being_saved(plain: dict[str, Any]) -> None:
    definition = parse(plain)
    assert parse(json.loads(json.dumps(to_plain(definition)))) == definition
