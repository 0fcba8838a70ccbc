"""What operators change for good: units, loudspeakers, zones.

A change is made in memory first, where it is checked; is then written; and is taken back if that
fails. One at a time, so that what is taken back is what was changed.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from server.audit.row import Entry
from server.directory import Endpoint, Position
from server.errors import StationError
from server.keeper import Keeper
from server.recording import Recorder
from server.station import Station
from server.store.store import Store
from server.zones.definition import parse, to_plain


@dataclass(frozen=True, slots=True)
class EndpointChange:
    """What shall be different about a loudspeaker; None leaves it as it is."""

    unit: str | None = None
    tags: frozenset[str] | None = None
    position: Position | None = None
    volume: int | None = None
    muted: bool | None = None
    trim_us: int | None = None
    clear: bool | None = None

    def of(self, endpoint: Endpoint) -> Endpoint:
        """The loudspeaker, changed."""
        return replace(endpoint, **self._given())

    def told(self) -> dict[str, Any]:
        """The same for people and logs, as plain JSON has it."""
        given, where = self._given(), self.position
        return given if where is None else {**given, "position": asdict(where)}

    @property
    def is_of_loudness(self) -> bool:
        """Whether it is a matter of the loudspeaker alone: how loud it is, and when."""
        return self._given().keys() <= {"volume", "muted", "trim_us"}

    def _given(self) -> dict[str, Any]:
        fields = ("unit", "tags", "position", "volume", "muted", "trim_us", "clear")
        return {f: getattr(self, f) for f in fields if getattr(self, f) is not None}


def changes_told(changes: Mapping[str, EndpointChange]) -> dict[str, Any]:
    """What a row of the audit log says of them; those that change alike stand together."""
    alike: dict[EndpointChange, list[str]] = {}
    for name, change in sorted(changes.items()):
        alike.setdefault(change, []).append(name)
    told = [{"speakers": names, **change.told()} for change, names in alike.items()]
    return {"count": len(changes), "changes": told}


Check = Callable[[], None]
"""Whether whoever asks may; ForbiddenError if not. It is called when nothing comes between."""


def anybody() -> None:
    """The check where it is the station itself that asks."""


class Editing:
    """Every change of the directory and the zones that a person makes."""

    def __init__(
        self,
        station: Station,
        store: Store,
        keeper: Keeper,
        changed: Callable[[], None],
        recorder: Recorder,
        loudness: Callable[[Iterable[str]], None] | None = None,
    ) -> None:
        """`changed` is called when a change is on the disk.

        In its place `loudness` is, with whose it is, where nothing else is different: 10,000 need
        not be told that one is louder.

        Who else changes something for good holds `lock` meanwhile.
        """
        self.station = station
        self.store = store
        self.keeper = keeper
        self.changed = changed
        self._loudness = loudness
        self.recorder = recorder
        self.lock = asyncio.Lock()

    async def _keep(
        self, undo: Callable[[], object], entry: Entry, call: Callable[..., None], *args: Any
    ) -> None:
        await self._write(undo, entry, call, *args)
        self.changed()

    async def _write(
        self, undo: Callable[[], object], entry: Entry, call: Callable[..., None], *args: Any
    ) -> None:
        try:
            await self.recorder.change([entry], call, *args)
        except Exception:
            undo()
            raise

    async def add_unit(self, path: str, *, check: Check = anybody) -> str:
        """Its path in the one spelling."""
        directory = self.station.directory
        async with self.lock:
            check()
            path = directory.add_unit(path)
            entry = self.recorder.entry("unit.add", {"unit": path})
            await self._keep(lambda: directory.remove_unit(path), entry, self.store.add_unit, path)
        return path

    async def remove_unit(self, path: str, *, check: Check = anybody) -> None:
        """An empty unit."""
        directory = self.station.directory
        async with self.lock:
            check()
            path = directory.check_unit(path)
            directory.remove_unit(path)
            entry = self.recorder.entry("unit.remove", {"unit": path})
            await self._keep(lambda: directory.add_unit(path), entry, self.store.remove_unit, path)

    async def change_endpoints(
        self, names: Iterable[str], change: EndpointChange, *, check: Check = anybody
    ) -> None:
        """All of them or none."""
        await self.change_each(dict.fromkeys(names, change), check=check)

    async def change_each(
        self, changes: Mapping[str, EndpointChange], *, check: Check = anybody
    ) -> None:
        """The same, where each changes in its own way."""
        directory = self.station.directory
        async with self.lock:
            check()
            before = [directory.endpoint(name) for name in changes]
            after = [directory.check(changes[e.name].of(e)) for e in before]

            def undo() -> None:
                for endpoint in before:
                    # It may have come back by another network meanwhile.
                    now = directory.endpoint(endpoint.name)
                    there = replace(endpoint, delivery=now.delivery, multicast=now.multicast)
                    directory.put_endpoint(there)

            for endpoint in after:
                directory.put_endpoint(endpoint)
            entry = self.recorder.entry("speaker.change", changes_told(changes))
            await self._write(undo, entry, self.store.save_endpoints, after, None)
            if self._loudness is not None and all(c.is_of_loudness for c in changes.values()):
                self._loudness(changes)
            else:
                self.changed()

    async def remove_endpoint(self, name: str, *, check: Check = anybody) -> None:
        """Forget a loudspeaker that is not connected."""
        async with self.lock:
            check()
            remember = self.station.forget(name)
            entry = self.recorder.entry("speaker.remove", {"speaker": name})
            await self._keep(remember, entry, self.store.remove_endpoint, name)

    async def put_zone(
        self, name: str, definition: Any, *, clear: bool | None = None, check: Check = anybody
    ) -> str:
        """Define a zone, or define it anew; its name in the one spelling.

        Whether it is in clear stays as it is where that is not said.
        """
        zones, directory = self.station.zones, self.station.directory
        async with self.lock:
            check()
            undo, before = self._zones_as_they_are(), self._audiences()
            name = zones.put(name, parse(definition), directory)
            if clear is not None:
                zones.set_clear(name, clear=clear)
            await self._keep_zone(undo, name)
            self._declared(before)
        return name

    async def set_clear(self, name: str, *, clear: bool, check: Check = anybody) -> str:
        """Have a zone in clear, or sealed, from the next programme on; its name, likewise."""
        async with self.lock:
            check()
            undo = self._zones_as_they_are()
            name = self.station.zones.set_clear(name, clear=clear)
            await self._keep_zone(undo, name)
        return name

    def _audiences(self) -> dict[str, frozenset[str]]:
        """Who is to hear what is on air, as the zones are."""
        station = self.station
        return {p.name: station.audience(p) for p in station.programmes.values()}

    def _zones_as_they_are(self) -> Callable[[], None]:
        """What makes them so again."""
        zones = self.station.zones
        definitions, clear = dict(zones.definitions), zones.clear
        return lambda: zones.restore(definitions, clear)

    def _declared(self, before: Mapping[str, frozenset[str]]) -> None:
        """Say so, if somebody hears something else by it: most zones are not on air."""
        if self._audiences() != before:
            self.changed()

    async def _keep_zone(self, undo: Callable[[], None], name: str) -> None:
        zones = self.station.zones
        save = partial(self.store.save_zone, clear=zones.is_clear(name))
        definition = to_plain(zones.definition(name))
        told = {"zone": name, "definition": definition, "clear": zones.is_clear(name)}
        await self._write(undo, self.recorder.entry("zone.put", told), save, name, definition)

    async def remove_zone(self, name: str, *, check: Check = anybody) -> None:
        """Forget a zone that nothing uses."""
        zones = self.station.zones
        async with self.lock:
            check()
            using = [p.name for p in self.station.programmes.values() if name in p.request.zones]
            if using:
                raise StationError(f"{', '.join(using)} is on air to zone {name!r}: stop it first")
            undo = self._zones_as_they_are()
            zones.remove(name)
            entry = self.recorder.entry("zone.remove", {"zone": name})
            await self._write(undo, entry, self.store.remove_zone, name)
