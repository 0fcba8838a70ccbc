"""The zones there are and who is in them. Pure state, no I/O."""

from collections.abc import Collection, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType

import numpy as np

from server.directory import Directory, nearest
from server.zones.definition import (
    EVERYBODY,
    Definition,
    Speakers,
    Unit,
    Zone,
    check_zone,
    parts_of,
)
from server.zones.errors import NoSuchZoneError, ZoneError
from server.zones.roll import Mask, Roll

MAX_ZONES = 1_000
MAX_USES = 20_000


class ZoneBook:
    """Zones by name. A call that fails changes nothing; `version` rises with every definition.

    Members follow the directory: they are worked out when asked for and kept until it or the book
    changes. A unit or loudspeaker that has been removed since a zone was saved has no members.
    A zone may be `clear`: what is addressed to it by its name goes to stock players too, who can
    authenticate nothing. A zone made of it is not clear by that.
    """

    def __init__(self) -> None:
        self.version = 0
        self._definitions: dict[str, Definition] = {}
        self._uses: dict[str, tuple[str, ...]] = {}
        self._clear: frozenset[str] = frozenset()
        self._members: _Members | None = None

    @property
    def definitions(self) -> Mapping[str, Definition]:
        """What was put, by name; `all` is not among them."""
        return MappingProxyType(self._definitions)

    def definition(self, name: str) -> Definition:
        """A zone as it was defined; NoSuchZoneError if it was not. Of `all` it is `all`."""
        name = self._check_known(check_zone(name))
        return Zone(EVERYBODY) if name == EVERYBODY else self._definitions[name]

    @property
    def clear(self) -> frozenset[str]:
        """The names of the zones in clear."""
        return self._clear

    def is_clear(self, name: str) -> bool:
        """Whether a zone, by its one spelling, is in clear."""
        return name in self._clear

    def set_clear(self, name: str, *, clear: bool) -> str:
        """Have a zone in clear, or sealed; its name in the one spelling. Its members stay."""
        name = self._check_known(_definable(name))
        self._clear = self._clear | {name} if clear else self._clear - {name}
        return name

    def put(self, name: str, definition: Definition, directory: Directory) -> str:
        """Define a zone, or define it anew; its name in the one spelling.

        ZoneError if it would contain itself, or is `all`, or one too many. NoSuchError if it names
        a unit, loudspeaker or zone that does not exist. Nobody need bear a tag yet. A zone that is
        defined anew is as clear as it was.
        """
        name = _definable(name)
        uses = _zones_in(definition)
        self._check_names(definition, directory, {*self._definitions, name})
        self._check_uses(name, uses)
        if name not in self._definitions and len(self._definitions) >= MAX_ZONES:
            raise ZoneError(f"there are {MAX_ZONES} zones: remove some first")
        if self._definitions.get(name) != definition:
            self._definitions[name] = definition
            self._uses[name] = uses
            self.version += 1
        return name

    def remove(self, name: str) -> None:
        """Forget a zone; ZoneError while another uses it, NoSuchZoneError if there is none."""
        name = self._check_known(_definable(name))
        users = sorted(user for user, uses in self._uses.items() if name in uses)
        if users:
            more = f" and {len(users) - 5} more" if len(users) > 5 else ""
            raise ZoneError(f"zone {name!r} is used by {', '.join(users[:5])}{more}")
        del self._definitions[name], self._uses[name]
        self._clear -= {name}
        self.version += 1

    def restore(
        self, definitions: Mapping[str, Definition], clear: Collection[str] = frozenset()
    ) -> None:
        """Instead of what the book holds, zones as they were saved, in any order.

        What they name in the directory is not asked for: it may have been removed since.
        """
        if len(definitions) > MAX_ZONES:
            raise ZoneError(f"there cannot be more than {MAX_ZONES} zones")
        restored = {_definable(name): definition for name, definition in definitions.items()}
        uses = {name: _zones_in(definition) for name, definition in restored.items()}
        for used in uses.values():
            _check_zones(used, restored)
        _check_loops(uses)
        self._definitions, self._uses = restored, uses
        self._clear = frozenset(clear) & restored.keys()
        self.version += 1

    def members(self, name: str, directory: Directory) -> frozenset[str]:
        """The names of a zone's loudspeakers; NoSuchZoneError if there is no such zone."""
        return self._current(directory).names(self._check_known(check_zone(name)))

    def preview(self, definition: Definition, directory: Directory) -> frozenset[str]:
        """Who would be in a zone; NoSuchError if it names what does not exist, as in `put`."""
        self._check_names(definition, directory, self._definitions)
        return self._current(directory).names_meant(definition)

    def all_members(self, directory: Directory) -> dict[str, frozenset[str]]:
        """Every zone's loudspeakers, `all` among them."""
        current = self._current(directory)
        return {name: current.names(name) for name in (EVERYBODY, *self._definitions)}

    def zones_of(self, endpoint_name: str, directory: Directory) -> tuple[str, ...]:
        """The zones a loudspeaker is in, sorted; NoSuchError if it is not registered."""
        directory.endpoint(endpoint_name)
        current = self._current(directory)
        zones = (EVERYBODY, *self._definitions)
        return tuple(sorted(zone for zone in zones if current.holds(zone, endpoint_name)))

    def _current(self, directory: Directory) -> "_Members":
        """Members that are true of the directory and the book as they are now."""
        kept = self._members
        if kept is None or not kept.is_of(directory, self.version):
            roll = (
                kept.roll
                if kept is not None and kept.is_of(directory, kept.book_version)
                else Roll(directory.endpoints.values())
            )
            kept = _Members(directory, self.version, roll, self._definitions, self._uses)
            self._members = kept
        return kept

    def _check_uses(self, name: str, uses: tuple[str, ...]) -> None:
        """ZoneError if a zone would contain itself, or the book become too tangled to follow."""
        others = sum(len(used) for zone, used in self._uses.items() if zone != name)
        if others + len(uses) > MAX_USES:
            raise ZoneError(
                f"zones name other zones {MAX_USES} times in all, and cannot more often"
            )
        book = self._uses | {name: uses}
        reached, ahead = {name: uses}, list(uses)
        while ahead:
            zone = ahead.pop()
            if zone not in reached:
                reached[zone] = book.get(zone, ())
                ahead.extend(reached[zone])
        _check_loops(reached, name)

    def _check_known(self, name: str) -> str:
        _check_zones((name,), self._definitions)
        return name

    @staticmethod
    def _check_names(definition: Definition, directory: Directory, zones: Collection[str]) -> None:
        _check_zones(_zones_in(definition), zones)
        for part in parts_of(definition):
            match part:
                case Unit(path):
                    directory.check_unit(path)
                case Speakers(names):
                    for name in names:
                        directory.endpoint(name)
                case _:
                    pass


class _Members:
    """Who is in the zones of one version of the book and of the directory; worked out once."""

    def __init__(
        self,
        directory: Directory,
        book_version: int,
        roll: Roll,
        definitions: Mapping[str, Definition],
        uses: Mapping[str, tuple[str, ...]],
    ) -> None:
        self._directory, self._directory_version = directory, directory.version
        self.book_version = book_version
        self.roll = roll
        self._definitions, self._uses = definitions, uses
        self._masks: dict[str, Mask] = {EVERYBODY: roll.everybody()}
        self._sets: dict[bytes, frozenset[str]] = {}

    def is_of(self, directory: Directory, book_version: int) -> bool:
        return (
            directory is self._directory
            and directory.version == self._directory_version
            and book_version == self.book_version
        )

    def names(self, zone: str) -> frozenset[str]:
        return self._named(self._mask(zone))

    def names_meant(self, definition: Definition) -> frozenset[str]:
        for zone in _zones_in(definition):
            self._mask(zone)
        return self._named(self.roll.meant(definition, self._masks))

    def holds(self, zone: str, endpoint_name: str) -> bool:
        return bool(self._mask(zone)[self.roll.place(endpoint_name)])

    def _mask(self, zone: str) -> Mask:
        """The zone's mask, after those of the zones it uses: a chain may outgrow Python's stack."""
        waiting = [zone]
        while waiting:
            name = waiting[-1]
            missing = (
                [used for used in self._uses[name] if used not in self._masks]
                if name not in self._masks
                else []
            )
            if missing:
                waiting += missing
                continue
            if name not in self._masks:
                self._masks[name] = self.roll.meant(self._definitions[name], self._masks)
            waiting.pop()
        return self._masks[zone]

    def _named(self, mask: Mask) -> frozenset[str]:
        """The names in a mask. Zones with the same members share one set: it may be large."""
        key = np.packbits(mask).tobytes()
        if key not in self._sets:
            self._sets[key] = self.roll.names(mask)
        return self._sets[key]


def _definable(name: str) -> str:
    name = check_zone(name)
    if name == EVERYBODY:
        raise ZoneError(f"{EVERYBODY!r} is built in: it is everybody, and stays so")
    return name


def _zones_in(definition: Definition) -> tuple[str, ...]:
    """The zones that a definition names, each once."""
    named = (part.name for part in parts_of(definition) if isinstance(part, Zone))
    return tuple(dict.fromkeys(named))


def _check_zones(names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name != EVERYBODY and name not in known:
            raise NoSuchZoneError(f"no zone {name!r}{nearest(name, (EVERYBODY, *known))}")


def _check_loops(uses: Mapping[str, Iterable[str]], begin: str = "") -> None:
    """ZoneError with the way, from `begin` if it lies on it, if a zone contains itself."""
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        loop: list[str] = error.args[1]  # each is used by the next; the first is also the last
        way = loop[:0:-1]
        start = way.index(begin) if begin in way else 0
        way = [*way[start:], *way[:start], way[start]]
        shown = way if len(way) <= 10 else [*way[:5], "…", *way[-4:]]
        raise ZoneError(f"a zone cannot contain itself: {' → '.join(shown)}") from None
