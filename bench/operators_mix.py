"""What operators at their consoles ask of a station, and how often each: drawn from a seed. Pure.

A province has communes; a loudspeaker is in the commune that its number leaves as remainder. Most
operators are at home in one commune, a few in the whole province.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from bench.fleet_keys import fleet_name
from server.rights.table import Role

API = "/api/v1"
# Of those at home in the province every other is an administrator, who reads the audit log.
_PROVINCE_SHARE = 0.06
_IN_COMMUNES = (
    *((Role.OPERATOR,) * 5),
    Role.VIEWER,
    Role.ADMINISTRATOR,
)
_PAGE = 100
# A page leads to the next one that often.
_TURNS = 0.5
# A ticket is stopped this long after, seconds: a word by microphone, or a change of mind.
_SPEAKS_S = 2.0, 8.0

# How often each is asked for, of 100 or so; what a role may not do nobody of it asks for.
_READING = {
    "programmes": 22.0,
    "station": 17.0,
    "speakers, a page": 14.0,
    "zone": 14.0,
    "speakers, away": 9.0,
    "past programmes": 8.0,
    "zones": 7.0,
    "preview": 4.0,
    "sign in": 0.15,
}
_DOING = {
    "volume": 5.0,
    "mute": 2.0,
    "define zone": 2.0,
    "identify": 1.5,
    "tone": 1.5,
    "speak": 0.3,
}
_AUDITING = {"audit": 10.0}

# What a call is, for whoever looks at many kinds together.
SIGNING = "sign in and out"
# A connection that was made, before the call that it was made for.
CONNECT = "connect"
GROUPS = {
    **dict.fromkeys((*_READING, *_AUDITING), "read"),
    **dict.fromkeys(_DOING, "change"),
    "remove zone": "change",
    "stop": "change",
    # These are answered when a loudspeaker has answered.
    **dict.fromkeys(("identify", "tone", "speak"), "wait for loudspeakers"),
    **dict.fromkeys(("sign in", "sign out"), SIGNING),
}


@dataclass(frozen=True, slots=True)
class Person:
    """Who sits there; without a commune, in the whole province."""

    name: str
    role: Role
    commune: int | None


@dataclass(frozen=True, slots=True)
class Province:
    """So many loudspeakers, cut into so many communes."""

    endpoints: int
    communes: int

    def __post_init__(self) -> None:
        if not 1 <= self.communes <= self.endpoints:
            raise ValueError(
                f"--communes {self.communes}: use 1 to as many as there are loudspeakers"
            )

    def commune_of(self, index: int) -> int:
        """Where a loudspeaker is, by its number."""
        return index % self.communes

    def one_of(self, commune: int, draw: random.Random) -> str:
        """The name of a loudspeaker of a commune."""
        return fleet_name(draw.randrange(commune, self.endpoints, self.communes))


@dataclass(frozen=True, slots=True)
class Act:
    """One call: `kind` is what it is reported as, `body` JSON or nothing.

    After it nothing else is done for `pause_s`, where that is given.
    """

    kind: str
    method: str
    path: str
    body: Any = None
    pause_s: float | None = None


def unit_name(commune: int) -> str:
    """What a commune's unit is called, below the province's."""
    return f"Commune {commune:03d}"


def zone_name(commune: int) -> str:
    """The zone of all loudspeakers of a commune."""
    return f"commune-{commune:03d}"


def people(count: int, communes: int) -> list[Person]:
    """So many, spread over the communes; the first few are the province's."""
    above = max(1, round(count * _PROVINCE_SHARE))
    found = []
    for index in range(count):
        name = f"desk-{index:03d}"
        if index < above:
            found.append(Person(name, (Role.ADMINISTRATOR, Role.OPERATOR)[index % 2], None))
        else:
            role = _IN_COMMUNES[index % len(_IN_COMMUNES)]
            found.append(Person(name, role, index % communes))
    return found


@dataclass(slots=True)
class Habits:
    """What one person does next; `root` is the path of the province's unit."""

    person: Person
    province: Province
    root: str
    draw: random.Random
    _kinds: list[str] = field(init=False)
    _weights: list[float] = field(init=False)
    _next_page: str | None = None
    _own_zone: bool = False
    _on_air: str | None = None

    def __post_init__(self) -> None:
        weights = dict(_READING)
        if self.person.role is Role.OPERATOR:
            weights |= _DOING
        if self.person.role is Role.ADMINISTRATOR and self.person.commune is None:
            weights |= _AUDITING
        self._kinds, self._weights = list(weights), list(weights.values())

    def next(self) -> Act:
        """What is asked now."""
        if self._on_air is not None:
            name, self._on_air = self._on_air, None
            return Act("stop", "DELETE", f"{API}/programmes/{quote(name)}")
        (kind,) = self.draw.choices(self._kinds, self._weights)
        return self._act(kind)

    def learn(self, act: Act, answer: Mapping[str, Any] | None, next_page: str | None) -> None:
        """What came of it: `answer` is None unless it was done, `next_page` a path."""
        match act.kind:
            case "speakers, a page":
                self._next_page = next_page
            case "define zone" if answer is not None:
                self._own_zone = True
            case "remove zone":
                self._own_zone = False
            case "speak" if answer is not None:
                self._on_air = str(answer["programme"])
            case _:
                pass

    def _act(self, kind: str) -> Act:
        commune = self.person.commune
        if commune is None:
            commune = self.draw.randrange(self.province.communes)
        if kind in _DOING:
            return self._doing(kind, commune)
        match kind:
            case "speakers, a page":
                return Act(kind, "GET", self._page())
            case "speakers, away":
                unit = quote(self._unit(commune))
                query = f"unit={unit}&state=offline&limit={_PAGE}"
                return Act(kind, "GET", f"{API}/speakers?{query}")
            case "zone":
                return Act(kind, "GET", f"{API}/zones/{zone_name(commune)}")
            case "preview":
                return Act(kind, "POST", f"{API}/zones/preview", self._all_but_one(commune))
            case _:
                return Act(kind, "GET", f"{API}/{_PATHS[kind]}")

    def _doing(self, kind: str, commune: int) -> Act:
        one = {"to": [self.province.one_of(commune, self.draw)]}
        match kind:
            case "volume":
                loudness = {"volume": self.draw.randrange(101)}
                return Act(kind, "POST", f"{API}/volume", {**one, **loudness})
            case "mute":
                silence = {"muted": self.draw.random() < 0.5}
                return Act(kind, "POST", f"{API}/mute", {**one, **silence})
            case "define zone":
                return self._define(commune)
            case "tone":
                return Act(kind, "POST", f"{API}/tone", {**one, "seconds": 1.0})
            case "speak":
                # Below the voice that is on air, which shall go on for whoever hears it.
                body = {"zones": [zone_name(commune)], "priority": "background"}
                return Act(kind, "POST", f"{API}/live", body, self.draw.uniform(*_SPEAKS_S))
            case _:
                return Act(kind, "POST", f"{API}/{kind}", one)

    def _unit(self, commune: int) -> str:
        return f"{self.root}/{unit_name(commune)}"

    def _all_but_one(self, commune: int) -> dict[str, object]:
        one = self.province.one_of(commune, self.draw)
        parts = [{"unit": self._unit(commune)}, {"speakers": [one]}]
        return {"definition": {"difference": parts}}

    def _page(self) -> str:
        if self._next_page is not None and self.draw.random() < _TURNS:
            return self._next_page
        return f"{API}/speakers?limit={_PAGE}"

    def _define(self, commune: int) -> Act:
        """A zone of one's own: defined, now and then anew, and removed."""
        path = f"{API}/zones/{quote(self.person.name)}"
        if self._own_zone and self.draw.random() < 0.5:
            return Act("remove zone", "DELETE", path)
        return Act("define zone", "PUT", path, self._all_but_one(commune))


_PATHS = {
    "programmes": "programmes",
    "station": "station",
    "past programmes": "programmes/past?limit=50",
    "zones": f"zones?limit={_PAGE}",
    "audit": "audit?limit=50",
    "sign in": "login",
}
