"""Which loudspeakers there are, where they stand and whose they are. Pure state, no I/O.

Units form one tree of any depth (nation, province, commune, village, ...), written as a path from
the root: `Tân Phú/Thôn 3`. A loudspeaker belongs to exactly one unit, at any level of it.
"""

import difflib
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from server.errors import NoSuchError, StationError
from transport.control.messages import MAX_TRIM_US, PUBLIC_KEY_BYTES, spelt_alike

SEPARATOR = "/"
MAX_DEPTH = 16
MAX_ENDPOINTS = 20_000
MAX_UNITS = 20_000
MAX_TAGS = 32
# A name that is not known is compared with so many that are.
_COMPARED = 300
_LABEL = re.compile(r"[\w][\w .:-]{0,63}")


class DirectoryError(StationError):
    """A change that cannot be made; one line that says why."""


def check_label(kind: str, text: str) -> str:
    """The one spelling of a unit's, zone's or tag's name; DirectoryError if it is none."""
    text = spelt_alike(text)
    if not _LABEL.fullmatch(text) or text != text.strip():
        raise DirectoryError(
            f"{text!r} is no name for a {kind}: use 1 to 64 letters, digits, spaces or . : - _"
        )
    return text


def check_path(path: str) -> str:
    """The one spelling of a unit's path; DirectoryError if it is none."""
    parts = path.split(SEPARATOR)
    if len(parts) > MAX_DEPTH:
        raise DirectoryError(f"a unit lies at most {MAX_DEPTH} levels deep, not {len(parts)}")
    return SEPARATOR.join(check_label("unit", part) for part in parts)


def is_within(path: str, unit: str) -> bool:
    """Whether the unit at `path` is `unit` or lies below it."""
    return path == unit or path.startswith(unit + SEPARATOR)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; nearest: a, b`, for the end of an error about a name that is not known."""
    known = list(known)
    near = difflib.get_close_matches(name, _likely(name, known), n=3, cutoff=0.5)
    near = near or sorted(known)[:5]
    return f"; nearest: {', '.join(near)}" if near else "; there is none yet"


def _likely(name: str, known: list[str]) -> list[str]:
    """Few enough to compare letter by letter: a typo in one of 20,000 paths took nine seconds."""
    if len(known) > _COMPARED:
        known = [k for k in known if k[:2].casefold() == name[:2].casefold()]
    return sorted(known, key=lambda k: abs(len(k) - len(name)))[:_COMPARED]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in WGS-84 degrees."""

    latitude: float
    longitude: float

    def __post_init__(self) -> None:
        for value, most, what in (
            (self.latitude, 90, "latitude"),
            (self.longitude, 180, "longitude"),
        ):
            if not math.isfinite(value) or abs(value) > most:
                raise DirectoryError(f"{value} is no {what}: use -{most} to {most} degrees")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A registered loudspeaker: what stays true of it while it is switched off.

    `key` is its public key, None while it is not enrolled. Where it is `clear`, it plays the twin
    in clear of a programme that has one, which nobody can authenticate. It sounds `trim_us` later
    than its clock alone would have it: what no clock can see, its own delays and the air's.
    """

    name: str
    unit: str
    delivery: str = "lan"
    multicast: bool = False
    tags: frozenset[str] = frozenset()
    position: Position | None = None
    volume: int = 100
    muted: bool = False
    trim_us: int = 0
    clear: bool = False
    key: bytes | None = None

    def __post_init__(self) -> None:
        if self.key is not None and len(self.key) != PUBLIC_KEY_BYTES:
            raise DirectoryError(f"a public key has {PUBLIC_KEY_BYTES} bytes, not {len(self.key)}")
        if not 0 <= self.volume <= 100:
            raise DirectoryError(f"{self.volume} is no volume: use 0 to 100")
        if abs(self.trim_us) > MAX_TRIM_US:
            raise DirectoryError(
                f"{self.trim_us} is no trim: use -{MAX_TRIM_US} to {MAX_TRIM_US} microseconds"
            )
        if len(self.tags) > MAX_TAGS:
            raise DirectoryError(f"a loudspeaker has at most {MAX_TAGS} tags")

    @property
    def kind(self) -> tuple[str, bool, bool]:
        """What decides which of a programme's streams it hears, and how."""
        return self.delivery, self.multicast, self.clear

    @property
    def standing(self) -> tuple[str, frozenset[str], Position | None]:
        """What decides which zones it is in, beside its name."""
        return self.unit, self.tags, self.position


@dataclass(slots=True)
class Directory:
    """The tree of units and the loudspeakers in it.

    `version` rises with every change of which loudspeakers there are and where they stand: with
    what may change who is in a zone. Their networks change far more often.
    """

    root: str
    units: set[str] = field(default_factory=set)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    version: int = 0
    # Loudspeakers that are registered anew or otherwise, or are not any more.
    _changed: set[str] = field(default_factory=set)
    # The same, and those that have come, gone or said something, for whoever watches.
    touched: set[str] = field(default_factory=set)
    _by_key: dict[bytes, str] = field(default_factory=dict)
    # By unit, as they were at some version.
    _by_unit: dict[str, list[str]] = field(default_factory=dict)
    _by_unit_version: int = -1

    def __post_init__(self) -> None:
        self.units.add(self.root)

    def add_unit(self, path: str) -> str:
        """A unit below one that exists; its path in the one spelling."""
        path = check_path(path)
        parent = path.rpartition(SEPARATOR)[0]
        if path in self.units:
            raise DirectoryError(f"there is a unit {path!r} already")
        if parent not in self.units:
            raise NoSuchError(
                f"no unit {parent!r} to put {path!r} in{nearest(parent, self.units)}"
                if parent
                else f"{path!r} is not below {self.root!r}: write it {self.root}/{path}"
            )
        if len(self.units) >= MAX_UNITS:
            raise DirectoryError(f"there cannot be more than {MAX_UNITS} units")
        self.units.add(path)
        self.version += 1
        return path

    def remove_unit(self, path: str) -> None:
        """An empty unit."""
        self.check_unit(path)
        if path == self.root:
            raise DirectoryError(f"{path!r} is the station itself and cannot be removed")
        held = [u for u in self.units if u != path and is_within(u, path)]
        held += [e.name for e in self.endpoints.values() if e.unit == path]
        if held:
            raise DirectoryError(
                f"{path!r} is not empty: move or remove {', '.join(sorted(held)[:5])} first"
            )
        self.units.discard(path)
        self.version += 1

    def check_unit(self, path: str) -> str:
        """The path of a unit that exists, in the one spelling; NoSuchError otherwise."""
        path = check_path(path)
        if path not in self.units:
            raise NoSuchError(f"no unit {path!r}{nearest(path, self.units)}")
        return path

    def endpoint(self, name: str) -> Endpoint:
        """A loudspeaker by name; NoSuchError if it is not registered."""
        found = self.endpoints.get(name)
        if found is None:
            raise NoSuchError(f"no loudspeaker {name!r}{nearest(name, self.endpoints)}")
        return found

    def put_endpoint(self, endpoint: Endpoint) -> Endpoint:
        """Register a loudspeaker, or change it; as it is from now on."""
        if endpoint.name not in self.endpoints and len(self.endpoints) >= MAX_ENDPOINTS:
            raise DirectoryError(f"{MAX_ENDPOINTS} loudspeakers are registered: remove some first")
        endpoint = self.check(endpoint)
        before = self.endpoints.get(endpoint.name)
        if before != endpoint:
            self._put_key(endpoint.name, None if before is None else before.key, endpoint.key)
            self.endpoints[endpoint.name] = endpoint
            self._changed.add(endpoint.name)
            self.touched.add(endpoint.name)
            if before is None or before.standing != endpoint.standing:
                self.version += 1
        return endpoint

    def _put_key(self, name: str, before: bytes | None, now: bytes | None) -> None:
        if now is not None and self._by_key.get(now, name) != name:
            raise DirectoryError(
                f"this loudspeaker is enrolled already, as {self._by_key[now]!r}: revoke that first"
            )
        if before is not None:
            del self._by_key[before]
        if now is not None:
            self._by_key[now] = name

    def take_changed(self) -> set[str]:
        """The names of loudspeakers that have changed in any way since this was last asked."""
        changed, self._changed = self._changed, set()
        return changed

    def take_touched(self) -> set[str]:
        """The names of loudspeakers of which something may be different since, likewise."""
        touched, self.touched = self.touched, set()
        return touched

    @property
    def enrolled(self) -> int:
        """How many loudspeakers have a key."""
        return len(self._by_key)

    def names_in(self, units: Iterable[str]) -> Iterator[str]:
        """The loudspeakers that belong to one of these units, or below it."""
        if self._by_unit_version != self.version:
            self._by_unit, self._by_unit_version = {}, self.version
            for name, endpoint in self.endpoints.items():
                self._by_unit.setdefault(endpoint.unit, []).append(name)
        outer = tuple(units)
        for unit, names in self._by_unit.items():
            if any(is_within(unit, above) for above in outer):
                yield from names

    def by_key(self, key: bytes) -> Endpoint | None:
        """The loudspeaker whose public key this is; None if none is enrolled with it."""
        name = self._by_key.get(key)
        return None if name is None else self.endpoints[name]

    def check(self, endpoint: Endpoint) -> Endpoint:
        """A loudspeaker in the one spelling; DirectoryError if it cannot be as it says."""
        return replace(
            endpoint,
            unit=self.check_unit(endpoint.unit),
            tags=frozenset(check_label("tag", tag) for tag in endpoint.tags),
        )

    def remove_endpoint(self, name: str) -> None:
        """Forget a loudspeaker; NoSuchError if it is not registered."""
        self._put_key(name, self.endpoint(name).key, None)
        del self.endpoints[name]
        self._changed.add(name)
        self.touched.add(name)
        self.version += 1
