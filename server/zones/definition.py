"""What a zone is said to be, and its way from JSON and back.

{"unit": "Tân Phú/Thôn 3"}             that unit and everything below it
{"tag": "school"}
{"speakers": ["market", "hamlet-1"]}
{"polygon": [[lon, lat], ...]}         WGS-84, in GeoJSON's order (RFC 7946 section 3.1.1)
{"zone": "other"}                      another zone, or `all`
{"union": [definition, ...]}
{"difference": [definition, ...]}      the first without all the others
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from server.directory import DirectoryError, check_label, check_path, nearest
from server.zones.errors import ZoneError
from server.zones.polygon import Area, Ring, closed
from transport.control.messages import check_name, spelt_alike

EVERYBODY = "all"
"""The zone that is built in."""

MAX_NESTING = 16
MAX_SPEAKERS = 10_000
MAX_CORNERS = 10_000
MAX_MEMBERS = 1_000
"""The last three in a whole definition, however it is nested."""

_MAX_TEXT = 4_096  # a path of 16 labels in any spelling; what is longer is not worth quoting


@dataclass(frozen=True, slots=True)
class Unit:
    """Who belongs to a unit or to one below it."""

    path: str


@dataclass(frozen=True, slots=True)
class Tag:
    """Who bears a tag."""

    name: str


@dataclass(frozen=True, slots=True)
class Speakers:
    """Loudspeakers by name."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Polygon:
    """Who stands within a ring or on its border; ZoneError if it encloses no area."""

    ring: Ring
    area: Area = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "area", Area.of(self.ring))


@dataclass(frozen=True, slots=True)
class Zone:
    """Who is in another zone."""

    name: str


@dataclass(frozen=True, slots=True)
class Union:
    """Who is in any of the members."""

    members: "tuple[Definition, ...]"


@dataclass(frozen=True, slots=True)
class Difference:
    """Who is in the first and in none of the others."""

    first: "Definition"
    others: "tuple[Definition, ...]"


Definition = Unit | Tag | Speakers | Polygon | Zone | Union | Difference

_KINDS: dict[type[Definition], str] = {
    Unit: "unit",
    Tag: "tag",
    Speakers: "speakers",
    Polygon: "polygon",
    Zone: "zone",
    Union: "union",
    Difference: "difference",
}


def parse(plain: object) -> Definition:
    """A definition from JSON's values, names in their one spelling.

    ZoneError says where and why: `union[1].polygon: corner 3 is not finite`.
    """
    return _Reader().definition(plain, "", 1)


def to_plain(definition: Definition) -> dict[str, object]:
    """What `parse` makes the same definition of again."""
    kind = _KINDS[type(definition)]
    match definition:
        case Unit(text) | Tag(text) | Zone(text):
            return {kind: text}
        case Speakers(names):
            return {kind: list(names)}
        case Polygon(ring):
            return {kind: [list(corner) for corner in ring]}
        case Union() | Difference():
            return {kind: [to_plain(member) for member in members_of(definition)]}


def members_of(definition: Definition) -> "tuple[Definition, ...]":
    """What a union or a difference is made of; nothing for the others."""
    match definition:
        case Union(members):
            return members
        case Difference(first, others):
            return (first, *others)
        case _:
            return ()


def parts_of(definition: Definition) -> Iterator[Definition]:
    """A definition and all that it is made of."""
    yield definition
    for member in members_of(definition):
        yield from parts_of(member)


def units_named(definition: Definition) -> Iterator[str]:
    """The units that a definition takes its members of, whoever is in them."""
    match definition:
        case Unit(path):
            yield path
        case Union(members):
            for member in members:
                yield from units_named(member)
        case Difference(first, _):
            yield from units_named(first)
        case _:
            pass


def check_zone(name: str) -> str:
    """The one spelling of a zone's name; ZoneError if it is none."""
    try:
        return check_label("zone", name)
    except DirectoryError as error:
        raise ZoneError(str(error)) from None


class _Reader:
    """Reads one definition and counts what it holds."""

    def __init__(self) -> None:
        self._speakers = self._corners = self._members = 0
        self._read: dict[str, Callable[[object, str, int], Definition]] = {
            "unit": self._unit,
            "tag": self._tag,
            "speakers": self._listed,
            "polygon": self._polygon,
            "zone": self._zone,
            "union": self._union,
            "difference": self._difference,
        }

    def definition(self, plain: object, where: str, depth: int) -> Definition:
        if depth > MAX_NESTING:
            # The whole way there would be longer than the line.
            raise ZoneError(f"definitions are nested at most {MAX_NESTING} deep")
        if not isinstance(plain, dict) or len(plain) != 1:
            raise _error(where, f"a definition is an object with one of {', '.join(self._read)}")
        ((kind, value),) = plain.items()
        kind = kind[:64] if isinstance(kind, str) else ""
        read = self._read.get(kind)
        if read is None:
            raise _error(where, f"{kind!r} is no kind of definition{nearest(kind, self._read)}")
        return read(value, f"{where}.{kind}" if where else kind, depth)

    def _unit(self, value: object, where: str, _depth: int) -> Unit:
        return Unit(_checked(check_path, value, where))

    def _tag(self, value: object, where: str, _depth: int) -> Tag:
        return Tag(_checked(lambda text: check_label("tag", text), value, where))

    def _zone(self, value: object, where: str, _depth: int) -> Zone:
        return Zone(_checked(check_zone, value, where))

    def _listed(self, value: object, where: str, _depth: int) -> Speakers:
        names = _list(value, where, "the names of loudspeakers", 1)
        self._speakers += len(names)
        if self._speakers > MAX_SPEAKERS:
            raise _error(where, f"a zone lists at most {MAX_SPEAKERS} loudspeakers")
        checked = (
            _checked(lambda text: check_name(spelt_alike(text)), name, f"{where}[{number}]")
            for number, name in enumerate(names)
        )
        return Speakers(tuple(dict.fromkeys(checked)))

    def _polygon(self, value: object, where: str, _depth: int) -> Polygon:
        corners = _list(value, where, "corners", 1)
        self._corners += len(corners)
        if self._corners > MAX_CORNERS:
            raise _error(where, f"a zone has at most {MAX_CORNERS} corners")
        ring = tuple(_corner(corner, number, where) for number, corner in enumerate(corners, 1))
        try:
            return Polygon(closed(ring))
        except ZoneError as error:
            raise _error(where, str(error)) from None

    def _union(self, value: object, where: str, depth: int) -> Union:
        return Union(self._several(value, where, depth, 1))

    def _difference(self, value: object, where: str, depth: int) -> Difference:
        first, *others = self._several(value, where, depth, 2)
        return Difference(first, tuple(others))

    def _several(
        self, value: object, where: str, depth: int, fewest: int
    ) -> tuple[Definition, ...]:
        members = _list(value, where, "definitions", fewest)
        self._members += len(members)
        if self._members > MAX_MEMBERS:
            raise _error(where, f"a zone is made of at most {MAX_MEMBERS} definitions")
        return tuple(
            self.definition(member, f"{where}[{number}]", depth + 1)
            for number, member in enumerate(members)
        )


def _error(where: str, why: str) -> ZoneError:
    return ZoneError(f"{where}: {why}" if where else why)


def _checked(check: Callable[[str], str], value: object, where: str) -> str:
    """A text as `check` spells it; its objection with the place before it."""
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise _error(where, f"a text of at most {_MAX_TEXT} characters is meant here")
    try:
        return check(value)
    except (DirectoryError, ValueError) as error:
        raise _error(where, str(error)) from None


def _list(value: object, where: str, what: str, fewest: int) -> list[object]:
    if not isinstance(value, list | tuple) or len(value) < fewest:
        raise _error(where, f"a list of {what} is meant here, at least {fewest}")
    return list(value)


def _corner(value: object, number: int, where: str) -> tuple[float, float]:
    """Longitude and latitude; a height may follow (RFC 7946 section 3.1.1) and says nothing."""
    if isinstance(value, list | tuple) and len(value) in {2, 3}:
        longitude, latitude = _degrees(value[0]), _degrees(value[1])
        if longitude is not None and latitude is not None:
            return longitude, latitude
    raise _error(where, f"corner {number} is not [longitude, latitude]")


def _degrees(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
