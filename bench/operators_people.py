"""A province and its operators, written straight into the store of a station that does not run."""

import json
import os
import random
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.operators_mix import Person, Province, people, unit_name, zone_name
from server.data import DataFolder
from server.rights.table import Grant, Role
from server.store import Store
from server.users.passwords import Passwords, drawn_password
from server.users.records import User

LISTENERS = "listeners"
"""The zone, and the tag, of those who hear the voice."""

_FILE = "operators.json"
_AT_ONCE = 2_000


def settle(data: DataFolder, province: Province, operators: int, listeners: int, seed: int) -> Path:
    """Give each enrolled loudspeaker its commune, and the station its zones and users.

    The file of who they are, for `Roll`, which its owner alone can read. The first `listeners`
    loudspeakers are in the zone of that name. StoreError if a station uses the folder.
    """
    who = people(operators, province.communes)
    with data.lock(), closing(Store.open(data.database)) as store:
        contents = store.load()
        root = contents.root
        for commune in range(province.communes):
            store.add_unit(f"{root}/{unit_name(commune)}")
            store.save_zone(zone_name(commune), {"unit": f"{root}/{unit_name(commune)}"})
        store.save_zone(LISTENERS, {"tag": LISTENERS})
        moved = [
            replace(
                endpoint,
                unit=f"{root}/{unit_name(province.commune_of(index))}",
                tags=frozenset({LISTENERS} if index < listeners else ()),
            )
            for index, endpoint in enumerate(contents.endpoints)
        ]
        for first in range(0, len(moved), _AT_ONCE):
            store.save_endpoints(moved[first : first + _AT_ONCE], None)
        # One for all: to look at it takes the station as long as another's would.
        password = drawn_password()
        hashed = Passwords().hashed(password)
        for person in who:
            store.users.save(User(person.name, hashed, frozenset({_grant(person, root)})))
    return _write(data.path.parent / _FILE, root, password, province, who, seed)


def _grant(person: Person, root: str) -> Grant:
    commune = person.commune
    return Grant(person.role, root if commune is None else f"{root}/{unit_name(commune)}")


def _write(
    path: Path, root: str, password: str, province: Province, who: Sequence[Person], seed: int
) -> Path:
    plain = {
        "root": root,
        "password": password,
        "seed": seed,
        "endpoints": province.endpoints,
        "communes": province.communes,
        "people": [[p.name, p.role.value, p.commune] for p in who],
    }
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        json.dump(plain, file)
    return path


class Roll:
    """Who sits at the consoles, and what they know; read from the file that `settle` wrote."""

    def __init__(self, path: Path) -> None:
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.root = str(plain["root"])
        self.password = str(plain["password"])
        self.province = Province(plain["endpoints"], plain["communes"])
        self.people = [Person(name, Role(role), at) for name, role, at in plain["people"]]
        self._seed = plain["seed"]

    def draw(self, index: int) -> random.Random:
        """Chance, as one of them has it."""
        return random.Random(self._seed * 1_000_003 + index)
