"""Who the simulated loudspeakers are: their keys, their names, their addresses."""

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endpoints.station.store import KnownStation, SpeakerState
from transport.control.address import StationAddress

_MAX_BYTES = 1 << 23
_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")


class FleetError(Exception):
    """The fleet cannot be as it was asked for; one line."""


@dataclass(frozen=True, slots=True)
class Roster:
    """The loudspeakers of a file of keys, in its order.

    `root` is the public key of their station's root, `generation` the lowest of its station key.
    """

    root: bytes
    generation: int
    names: tuple[str, ...]
    seeds: tuple[bytes, ...]

    @classmethod
    def read(cls, path: Path) -> "Roster":
        """From a file as `from_json` describes it; FleetError."""
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise FleetError(f"{path} is too long for a file of loudspeakers' keys")
            return cls.from_json(path.read_bytes())
        except OSError as error:
            raise FleetError(f"cannot read {path}: {error.strerror or error}") from None
        except ValueError as error:
            raise FleetError(f"{path} is no file of loudspeakers' keys: {error}") from None

    @classmethod
    def from_json(cls, data: bytes) -> "Roster":
        """Of `{"root": hex, "generation": number, "loudspeakers": [{"name", "key": hex}, ...]}`.

        ValueError for anything else.
        """
        try:
            plain: Any = json.loads(data)
            roster = cls(
                bytes.fromhex(plain["root"]),
                int(plain["generation"]),
                tuple(str(row["name"]) for row in plain["loudspeakers"]),
                tuple(bytes.fromhex(row["key"]) for row in plain["loudspeakers"]),
            )
        except (KeyError, TypeError, RecursionError):
            raise ValueError("something is missing, or is not what it should be") from None
        roster.check()
        return roster

    def check(self) -> None:
        """ValueError for a name, a key or a root that no loudspeaker could have."""
        station = StationAddress.parse("127.0.0.1:1")
        for index in range(len(self.names)):
            self.state(index, station)

    def state(self, index: int, station: StationAddress) -> SpeakerState:
        """What loudspeaker number `index` knows before it has ever been there."""
        known = KnownStation(station, self.root, self.generation)
        return SpeakerState(self.seeds[index], self.names[index], known)


class MemoryStore:
    """What one simulated loudspeaker keeps; it is lost with the process, and no disk is busy."""

    def __init__(self, state: SpeakerState) -> None:
        self._state = state

    @property
    def state(self) -> SpeakerState:
        """What was kept last."""
        return self._state

    async def keep(self, state: SpeakerState) -> None:
        """Kept when this returns."""
        self._state = state


class Addresses:
    """An IPv4 address of loopback for each, so that the station sees as many as there are."""

    def __init__(self, base: str, first: int, count: int) -> None:
        """Number `first` of a roster and the `count - 1` after it; FleetError.

        The loudspeaker that is number n of the roster has `base` + n + 1, whichever process it is
        in.
        """
        try:
            start = ipaddress.IPv4Address(base) + first + 1
            fits = start in _LOOPBACK and start + count in _LOOPBACK
        except ValueError:
            start, fits = _LOOPBACK.network_address, False
        if not fits:
            raise FleetError(f"{base} is no loopback address with {count} more behind it")
        self._start, self._count = int(start), count

    def packed(self, index: int) -> bytes:
        """4 bytes; `index` counts from 0 within this process."""
        return (self._start + index).to_bytes(4)

    def text(self, index: int) -> str:
        """The same as people write it."""
        return str(ipaddress.IPv4Address(self._start + index))

    def indices(self, packed: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Whose each row of four bytes is, (n, 4) to (n,); -1 for nobody's."""
        numbers = np.ascontiguousarray(packed).view(">u4").reshape(-1).astype(np.int64)
        indices = numbers - self._start
        return np.where((indices >= 0) & (indices < self._count), indices, -1)
