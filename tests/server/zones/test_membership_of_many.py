"""Membership of many at once against asking each loudspeaker by itself, and how long many take."""

import math
import random
import time
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from server.directory import Directory, Endpoint, Position
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
)
from server.zones.errors import ZoneError
from server.zones.membership import ZoneBook
from server.zones.polygon import Ring


def put(book: ZoneBook, directory: Directory, **zones: dict[str, Any]) -> None:
    for name, plain in zones.items():
        book.put(name, parse(plain), directory)


# ------------------------------------------------------------------ one by one, for comparison
def is_in(ring: Ring, position: Position | None) -> bool:
    """Whether whole degrees lie in a ring of whole degrees or on its border; exact."""
    if position is None:
        return False
    x, y, inside = position.longitude, position.latitude, False
    for (ax, ay), (bx, by) in pairwise(ring):
        side = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
        between = min(ax, bx) <= x <= max(ax, bx) and min(ay, by) <= y <= max(ay, by)
        if side == 0 and between:
            return True
        if (ay > y) != (by > y) and (side > 0) == (by > ay):
            inside = not inside
    return inside


def belongs(endpoint: Endpoint, definition: Definition, zones: dict[str, Definition]) -> bool:
    match definition:
        case Unit(path):
            return f"{endpoint.unit}/".startswith(f"{path}/")
        case Tag(name):
            return name in endpoint.tags
        case Speakers(names):
            return endpoint.name in names
        case Polygon(ring):
            return is_in(ring, endpoint.position)
        case _:
            return belongs_to_whole(endpoint, definition, zones)


def belongs_to_whole(
    endpoint: Endpoint, definition: Zone | Union | Difference, zones: dict[str, Definition]
) -> bool:
    def is_meant(definition: Definition) -> bool:
        return belongs(endpoint, definition, zones)

    match definition:
        case Zone(name):
            return name == "all" or is_meant(zones[name])
        case Union(members):
            return any(map(is_meant, members))
        case Difference(first, others):
            return is_meant(first) and not any(map(is_meant, others))


UNITS = ["P", "P/1", "P/1/a", "P/1/a/x", "P/1/a/x/y", "P/1 a", "P/10", "P/10/a", "P/2"]
TAGS = ["school", "market", "dike"]
DEGREES = st.integers(0, 6)


def is_area(plain: dict[str, Any]) -> bool:
    try:
        parse(plain)
    except ZoneError:
        return False
    return True


LEAVES = st.one_of(
    st.builds(lambda unit: {"unit": unit}, st.sampled_from(UNITS)),
    st.builds(lambda tag: {"tag": tag}, st.sampled_from([*TAGS, "nobody"])),
    st.builds(
        lambda numbers: {"speakers": [f"s-{n}" for n in numbers]},
        st.lists(st.integers(0, 4), min_size=1, max_size=3),
    ),
    st.builds(
        lambda ring: {"polygon": ring},
        st.lists(st.tuples(DEGREES, DEGREES), min_size=3, max_size=6, unique=True),
    ).filter(is_area),
)


@st.composite
def directories(draw: st.DrawFn) -> Directory:
    directory = Directory("P")
    for unit in UNITS[1:]:
        directory.add_unit(unit)
    position = st.none() | st.builds(Position, DEGREES, DEGREES)
    for number in range(draw(st.integers(5, 12))):
        tags = draw(st.frozensets(st.sampled_from(TAGS)))
        unit = draw(st.sampled_from(UNITS))
        directory.put_endpoint(Endpoint(f"s-{number}", unit, tags=tags, position=draw(position)))
    return directory


@st.composite
def books(draw: st.DrawFn) -> dict[str, Any]:
    zones: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 8))):
        known = st.sampled_from(["all", *zones]).map(lambda name: {"zone": name})
        definition: st.SearchStrategy[dict[str, Any]] = st.recursive(
            LEAVES | known,
            lambda inner: st.builds(
                lambda kind, members: {kind: members},
                st.sampled_from(["union", "difference"]),
                st.lists(inner, min_size=2, max_size=4),
            ),
            max_leaves=6,
        )
        zones[f"z-{number}"] = draw(definition)
    return zones


@given(directories(), books())
@settings(max_examples=200)
def test_membership_is_what_asking_each_loudspeaker_by_itself_gives(
    directory: Directory, plain: dict[str, Any]
) -> None:
    book = ZoneBook()
    put(book, directory, **plain)
    zones = dict(book.definitions)
    expected = {
        name: {e.name for e in directory.endpoints.values() if belongs(e, Zone(name), zones)}
        for name in ("all", *zones)
    }
    assert book.all_members(directory) == expected
    for name in directory.endpoints:
        assert book.zones_of(name, directory) == tuple(
            sorted(zone for zone in expected if name in expected[zone])
        )


# ------------------------------------------------------------------ the published limit
SPEAKERS, ZONES = 10_000, 500


def a_province(rng: random.Random) -> Directory:
    """20 communes of 10 hamlets, with loudspeakers scattered over two degrees."""
    directory = Directory("P")
    for commune in range(20):
        directory.add_unit(f"P/C {commune}")
        for hamlet in range(10):
            directory.add_unit(f"P/C {commune}/Thôn {hamlet}")
    hamlets = sorted(unit for unit in directory.units if "Thôn" in unit)
    for number in range(SPEAKERS):
        position = Position(rng.uniform(20, 22), rng.uniform(105, 107))
        tags = frozenset(rng.sample([*TAGS, "temple", "clinic"], 2))
        directory.put_endpoint(
            Endpoint(f"s-{number}", rng.choice(hamlets), tags=tags, position=position)
        )
    return directory


def a_star(rng: random.Random) -> dict[str, Any]:
    corners = rng.randrange(6, 201)
    longitude, latitude, size = rng.uniform(105, 107), rng.uniform(20, 22), rng.uniform(0.1, 0.8)
    radii = [size * rng.uniform(0.4, 1) for _ in range(corners)]
    turns = [2 * math.pi * number / corners for number in range(corners)]
    return {
        "polygon": [
            [longitude + radius * math.cos(turn), latitude + radius * math.sin(turn)]
            for radius, turn in zip(radii, turns, strict=True)
        ]
    }


def a_leaf(rng: random.Random, units: list[str]) -> dict[str, Any]:
    match rng.randrange(4):
        case 0:
            return {"unit": rng.choice(units)}
        case 1:
            return {"tag": rng.choice(TAGS)}
        case 2:
            return {"speakers": [f"s-{n}" for n in rng.sample(range(SPEAKERS), 200)]}
        case _:
            return a_star(rng)


def a_zone(rng: random.Random, units: list[str], earlier: int) -> dict[str, Any]:
    """Three in five are simple, the others made of leaves and of earlier zones."""
    if earlier < 10 or rng.random() < 0.6:
        return a_leaf(rng, units)
    members = [
        a_leaf(rng, units) if rng.random() < 0.7 else {"zone": f"z-{rng.randrange(earlier)}"}
        for _ in range(rng.randrange(2, 6))
    ]
    union = {"union": members}
    return union if rng.random() < 0.5 else {"difference": [union, a_leaf(rng, units)]}


def test_10_000_loudspeakers_in_500_zones_are_sorted_within_a_second() -> None:
    rng = random.Random(1)
    directory, book = a_province(rng), ZoneBook()
    units = sorted(directory.units)
    for number in range(ZONES):
        put(book, directory, **{f"z-{number}": a_zone(rng, units, number)})
    # Of the processor, so that other processes on the machine do not count.
    began = time.process_time()
    members = book.all_members(directory)
    took = time.process_time() - began
    print(f"{SPEAKERS} loudspeakers in {ZONES} zones: {took * 1000:.0f} ms")
    assert sum(map(len, members.values())) > 500_000
    assert took <= 1
