"""The ways that sound has to loudspeakers, laid out in arrays: one for all costs little. Pure.

A loudspeaker has a place in them as long as it is registered. What it is told apart by when a
programme is sent (its delivery, whether it hears groups, whether it plays in clear) is its kind:
there are few kinds, so what holds of a kind is found out once.
"""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from server.directory import Endpoint
from server.processes.routing import DESTINATION
from server.speakers import Speaker

Places = NDArray[np.intp]
"""Where in the arrays some loudspeakers are, shape (N,)."""

_ROW_BYTES = DESTINATION.itemsize
_AT_FIRST = 64


class Ways:
    """Every loudspeaker's kind, and its way; `kinds` has one loudspeaker of each kind.

    Of the arrays, all as long as there are places: `rows` has packed rows of `DESTINATION`, shape
    (N, 20); `direct` who is sent sound by UDP; `relays` the numbers of sessions at the gateway, 0
    for none; `kind_at` the number of its kind.
    """

    def __init__(self) -> None:
        self.rows = np.zeros((_AT_FIRST, _ROW_BYTES), np.uint8)
        self.direct = np.zeros(_AT_FIRST, np.bool_)
        self.relays = np.zeros(_AT_FIRST, np.uint64)
        self.kind_at = np.zeros(_AT_FIRST, np.intp)
        self.kinds: list[Endpoint] = []
        self._numbers: dict[object, int] = {}
        self._places: dict[str, int] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self.direct)

    def put(self, speaker: Speaker, endpoint: Endpoint) -> None:
        """A loudspeaker's way is so now."""
        at = self._place(endpoint)
        self.direct[at] = speaker.path is not None and not speaker.relayed
        self.relays[at] = speaker.relay_number
        if speaker.path is not None:
            self.rows[at] = np.frombuffer(speaker.path.packed, np.uint8)

    def close(self, name: str) -> None:
        """A loudspeaker has no way any more."""
        at = self._places.get(name)
        if at is not None:
            self.direct[at], self.relays[at] = False, 0

    def follow(self, changed: Iterable[str], endpoints: Mapping[str, Endpoint]) -> None:
        """These are registered anew or otherwise, or are not any more."""
        for name in changed:
            endpoint, at = endpoints.get(name), self._places.get(name)
            if at is None:
                continue
            if endpoint is not None:
                self.kind_at[at] = self._kind(endpoint)
            else:
                self.close(name)
                self._free.append(self._places.pop(name))

    def places(self, names: Collection[str], endpoints: Mapping[str, Endpoint]) -> Places:
        """Where these are; a place each if they had none."""
        known = self._places
        found = (known[n] if n in known else self._place(endpoints[n]) for n in names)
        return np.fromiter(found, np.intp, len(names))

    def places_of_rows(self) -> dict[bytes, int]:
        """Where each row is that is sent to."""
        (there,) = np.nonzero(self.direct)
        packed = self.rows[there].tobytes()
        rows = (packed[at : at + _ROW_BYTES] for at in range(0, len(packed), _ROW_BYTES))
        return dict(zip(rows, there.tolist(), strict=True))

    def _place(self, endpoint: Endpoint) -> int:
        at = self._places.get(endpoint.name)
        if at is None:
            at = self._free.pop() if self._free else len(self._places)
            if at == len(self):
                self._grow()
            self._places[endpoint.name] = at
            self.kind_at[at] = self._kind(endpoint)
        return at

    def _grow(self) -> None:
        """Twice as long: that is seldom, however many come."""
        self.rows = np.concatenate([self.rows, np.zeros_like(self.rows)])
        self.direct = np.concatenate([self.direct, np.zeros_like(self.direct)])
        self.relays = np.concatenate([self.relays, np.zeros_like(self.relays)])
        self.kind_at = np.concatenate([self.kind_at, np.zeros_like(self.kind_at)])

    def _kind(self, endpoint: Endpoint) -> int:
        number = self._numbers.setdefault(endpoint.kind, len(self.kinds))
        if number == len(self.kinds):
            self.kinds.append(endpoint)
        return number


class Order:
    """The order of those whom one stream goes to: nobody moves in it but who must.

    Senders share a stream by where in its order a loudspeaker stands. They hear of a change each
    at its own time, and whoever moved from one to another may miss a frame, or hear it twice.
    """

    def __init__(self, places: Iterable[int] = ()) -> None:
        """In this order, if they are there."""
        self._places = np.fromiter(dict.fromkeys(places), np.intp)

    def follow(self, wanted: Places, size: int) -> Places:
        """These, each once, in their order; all are below `size`."""
        there = np.zeros(size, np.bool_)
        there[wanted] = True
        stays = there[self._places]
        there[self._places] = False
        (newcomers,) = np.nonzero(there)
        places = np.concatenate([np.where(stays, self._places, -1), newcomers])
        # Whoever stands behind the new end fills a gap.
        places, behind = places[: len(wanted)].copy(), places[len(wanted) :]
        places[places < 0] = behind[behind >= 0]
        self._places = places
        return places
