from typing import Any

import pytest

from server.directory import Endpoint, Position
from server.zones.definition import Definition, parse
from server.zones.roll import Roll


def meant(endpoints: list[Endpoint], plain: object) -> frozenset[str]:
    roll = Roll(endpoints)
    return roll.names(roll.meant(parse(plain), {"all": roll.everybody()}))


# ------------------------------------------------------------------ units
# Names that are prefixes of their siblings' names, with letters before and after the separator.
TREE = [
    "A",
    "A/Thôn 1",
    "A/Thôn 1/b",
    "A/Thôn 1/b/c",
    "A/Thôn 1/b/c/d",
    "A/Thôn 1 b",
    "A/Thôn 1-b",
    "A/Thôn 1.b/c",
    "A/Thôn 10",
    "A/Thôn 10/b",
    "A/Thôn 1:b",
    "A/Thôn 2",
    "A b",
    "B",
]


@pytest.mark.parametrize("unit", [*TREE, "A/Thôn 1.b"])
def test_a_unit_means_itself_and_all_below_it_but_no_namesake(unit: str) -> None:
    endpoints = [Endpoint(f"s-{n}", path) for n, path in enumerate(reversed(TREE))]
    below = {e.name for e in endpoints if e.unit == unit or e.unit.startswith(unit + "/")}
    assert below
    assert meant(endpoints, {"unit": unit}) == below


def test_units_five_deep_are_nested() -> None:
    levels = ["A", "A/Thôn 1", "A/Thôn 1/b", "A/Thôn 1/b/c", "A/Thôn 1/b/c/d"]
    endpoints = [Endpoint(f"level-{n}", path) for n, path in enumerate(levels)]
    endpoints.append(Endpoint("other", "A/Thôn 10/b/c/d"))
    sizes = [len(meant(endpoints, {"unit": path})) for path in levels]
    assert sizes == [6, 4, 3, 2, 1]


# ------------------------------------------------------------------ the other kinds
SCHOOL = frozenset({"school"})
THREE = [
    Endpoint("market", "A/b", position=Position(21.01, 105.81)),
    Endpoint("school-1", "A/b", tags=SCHOOL, position=Position(21.05, 105.81)),
    Endpoint("school-2", "A/c", tags=SCHOOL),
]
SQUARE = {"polygon": [[105.8, 21.0], [105.82, 21.0], [105.82, 21.02], [105.8, 21.02]]}
KNOWN: list[tuple[dict[str, Any], set[str]]] = [
    ({"tag": "school"}, {"school-1", "school-2"}),
    ({"tag": "temple"}, set()),
    ({"unit": "A/d"}, set()),
    ({"speakers": ["market", "gone"]}, {"market"}),
    ({"speakers": ["gone"]}, set()),
    (SQUARE, {"market"}),
    ({"zone": "all"}, {"market", "school-1", "school-2"}),
    ({"union": [SQUARE, {"tag": "school"}]}, {"market", "school-1", "school-2"}),
    ({"difference": [{"unit": "A"}, SQUARE, {"unit": "A/c"}]}, {"school-1"}),
    ({"difference": [{"tag": "school"}, {"zone": "all"}]}, set()),
]


@pytest.mark.parametrize(("plain", "names"), KNOWN)
def test_each_kind_means_whom_it_says(plain: dict[str, Any], names: set[str]) -> None:
    assert meant(THREE, plain) == names


@pytest.mark.parametrize("plain", [plain for plain, _ in KNOWN])
def test_where_nobody_is_nobody_is_meant(plain: dict[str, Any]) -> None:
    assert meant([], plain) == frozenset()


def test_to_be_asked_about_a_zone_does_not_change_it() -> None:
    roll = Roll(THREE)
    zones = {"all": roll.everybody()}
    definition: Definition = parse({"union": [{"zone": "all"}, {"tag": "school"}]})
    roll.meant(parse({"difference": [{"zone": "all"}, {"tag": "school"}]}), zones)
    roll.meant(definition, zones)
    assert zones["all"].all()
