"""Thousands of loudspeakers enrolled at once: their keys, and their places in a database.

What a code and a handshake would do for each is written straight into the store, by the same calls
that control makes. The station must not run yet, for it reads its database once.
"""

import hashlib
import json
import os
import time
from contextlib import closing
from pathlib import Path

from server.data import DataFolder
from server.directory import MAX_ENDPOINTS, Endpoint
from server.enrolment import Code
from server.keys.folder import KeyFolder
from server.store import Store
from transport.control.delivery import check_delivery
from transport.security.keys import SigningKey

_FILE = "fleet.json"
_AT_ONCE = 2_000
_NUMBER_BYTES = 4
_DOMAIN = b"loa.bench.fleet"
# Nobody uses these codes: each is gone in the transaction that enters the key.
_NEVER_S = 1 << 40


def fleet_name(index: int) -> str:
    """What a simulated loudspeaker is called, so that names are in order of `index`."""
    return f"fleet-{index:05d}"


def fleet_key(seed: int, index: int) -> SigningKey:
    """Its key: the same for equal arguments, so that a bench can be run again."""
    return SigningKey(
        hashlib.blake2b(b"%d.%d" % (seed, index), key=_DOMAIN, digest_size=32).digest()
    )


def prepare(
    data: DataFolder, count: int, seed: int, delivery: str = "wan", *, multicast: bool = False
) -> Path:
    """Enter so many loudspeakers into a station that does not run; the file of their keys.

    The station is made if there is none. The file is JSON, readable by its owner alone:
    `{"root": hex, "generation": number, "loudspeakers": [{"name": text, "key": hex seed}, ...]}`.
    Whoever is there already gets the key that `seed` gives it. ValueError for a count or delivery
    that cannot be; DataError and StoreError if the folder is not usable, or a station uses it.
    """
    if not 0 < count <= MAX_ENDPOINTS:
        raise ValueError(f"{count} loudspeakers: use 1 to {MAX_ENDPOINTS}")
    check_delivery(delivery, multicast=multicast)
    if not data.holds_station():
        data.create("Bench")
    keys = [fleet_key(seed, index) for index in range(count)]
    with data.lock(), closing(Store.open(data.database)) as store:
        unit = store.load().root
        endpoints = [
            Endpoint(fleet_name(index), unit, delivery, multicast, key=key.public)
            for index, key in enumerate(keys)
        ]
        _enter(store, endpoints)
    return _write(data, keys)


def _enter(store: Store, endpoints: list[Endpoint]) -> None:
    for first in range(0, len(endpoints), _AT_ONCE):
        part = endpoints[first : first + _AT_ONCE]
        codes = [_code(first + index, endpoint) for index, endpoint in enumerate(part)]
        store.save_codes(codes)
        numbers = [code.number for code in codes]
        store.enrol(list(zip(numbers, part, strict=True)), round(time.time()))


def _code(index: int, endpoint: Endpoint) -> Code:
    number = index.to_bytes(_NUMBER_BYTES)
    return Code(number, bytes(32), endpoint.name, endpoint.unit, _NEVER_S)


def _write(data: DataFolder, keys: list[SigningKey]) -> Path:
    certificate = KeyFolder(data.keys).load().certificate
    plain = {
        "root": certificate.root.hex(),
        "generation": certificate.generation,
        "loudspeakers": [
            {"name": fleet_name(index), "key": key.seed.hex()} for index, key in enumerate(keys)
        ],
    }
    path = data.path.parent / _FILE
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        json.dump(plain, file)
    return path
