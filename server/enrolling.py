"""Who is admitted and who is not, for good: codes, enrolments, revocations.

What is said to have happened is on the disk before it is said. A thousand loudspeakers may come at
once: those who come while the disk is busy are written together when it is free again.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from server.audit.caller import Caller, caller
from server.audit.row import Entry
from server.directory import MAX_ENDPOINTS, Endpoint
from server.editing import Editing
from server.enrolment import Code, Enrolment, EnrolmentError, Issued
from server.errors import StationError
from server.rights.identity import Identity
from server.rights.table import Deed, is_reached
from transport.control.messages import Enrol, check_name, spelt_alike
from transport.security.keys import shown_fingerprint

_NS_PER_SECOND = 1_000_000_000


@dataclass(slots=True)
class _Use:
    """A code that somebody is using; `endpoint` is what that makes of a loudspeaker.

    `what` is what a row of the audit log says of it, and `by` whose doing it is.
    """

    code: Code
    endpoint: Endpoint
    what: str
    by: Caller
    done: asyncio.Future[str] = field(repr=False)

    def succeed(self) -> None:
        if not self.done.done():  # its session may be over
            self.done.set_result(self.endpoint.name)

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Enrolling:
    """Every change of who may be a loudspeaker here. `enrolment` has the codes."""

    def __init__(
        self,
        editing: Editing,
        enrolment: Enrolment,
        root_fingerprint: bytes,
        now_ns: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """`root_fingerprint` is what a code tells a loudspeaker of this station; 16 bytes."""
        self.enrolment = enrolment
        self.root_fingerprint = root_fingerprint
        self._editing = editing
        self._recorder = editing.recorder
        self._station = editing.station
        self.now_ns = now_ns
        self._random_bytes = random_bytes
        self._uses: list[_Use] = []
        self._writing: asyncio.Task[None] | None = None

    def _now_s(self) -> int:
        return self.now_ns() // _NS_PER_SECOND

    # ------------------------------------------------------------- codes
    def concerned(self, name: str, unit: str | None) -> set[str]:
        """The units that change if a loudspeaker of this name is enrolled into a unit."""
        known = self._station.directory.endpoints.get(name)
        units = set() if unit is None else {unit}
        units |= set() if known is None else {known.unit}
        return units or {self._station.directory.root}

    def _check(self, asker: Identity | None, name: str, unit: str | None) -> None:
        """ForbiddenError unless the asker may; None is the station itself."""
        if asker is not None:
            asker.check(Deed.ENROL, self.concerned(name, unit))

    async def issue(
        self, names: Sequence[str], unit: str | None, minutes: int, asker: Identity | None = None
    ) -> list[Issued]:
        """A code for each name, instead of any that there is for it; an empty one is to be named.

        Their secrets are kept nowhere. StationError for what is no name or no unit. Whatever
        becomes of the names, the codes admit nobody where the asker may not enrol now.
        """
        async with self._editing.lock:
            if unit is not None:
                unit = self._station.directory.check_unit(unit)
            now_s = self._now_s()
            old = self.enrolment.expired(now_s)
            expires_s = now_s + 60 * minutes
            reach = None if asker is None else tuple(sorted(asker.reach(Deed.ENROL)))
            issued = self.enrolment.draw(names, unit, expires_s, self._random_bytes, reach)
            new = [code for code, _ in issued]
            before = self.enrolment.superseded(code.name for code in new)
            for code in (*new, *before):
                self._check(asker, code.name, code.unit)
            old += before
            # Nobody can know a code before it is told, so it need not be in memory before.
            numbers = {code.number for code in old}
            told = {"names": names, "unit": unit, "minutes": minutes}
            await self._recorder.change(
                [self._recorder.entry("code.issue", told)],
                self._editing.store.save_codes,
                new,
                numbers,
            )
            self.enrolment.put(new, old)
            return issued

    async def cancel(self, number: bytes, asker: Identity | None = None) -> None:
        """Nobody can use this code any more; NoSuchError if there is none."""
        async with self._editing.lock:
            code = self.enrolment.code(number)
            self._check(asker, code.name, code.unit)
            told = {"number": code.number, "name": code.name}
            await self._forget(code, self._recorder.entry("code.cancel", told))
            for waiting in self.enrolment.waiting:
                if waiting.code == code:
                    self.enrolment.decide(waiting)
            self.enrolment.spend(code.number)
        self._editing.changed()

    async def _forget(self, code: Code, entry: Entry) -> None:
        save = self._editing.store.save_codes
        await self._recorder.change([entry], save, (), {code.number})

    # ------------------------------------------------------------- loudspeakers
    async def enrol(self, code: Code, enrol: Enrol) -> str:
        """Use a code with a name up for the loudspeaker that knows it; its name.

        A key that the name had is replaced. EnrolmentError or another StationError if it cannot
        be; then the code can be used again, if it was not used by another.
        """
        self.enrolment.hold(code, enrol.key)
        endpoint = Endpoint(
            code.name,
            code.unit or "",
            delivery=enrol.delivery,
            multicast=enrol.multicast,
            key=enrol.key,
        )
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        by = Caller(f"loudspeaker {code.name}", caller().where)
        self._uses.append(_Use(code, endpoint, "speaker.enrol", by, done))
        if self._writing is None or self._writing.done():
            # Not this session's task: what has begun goes through, though the peer may go.
            self._writing = asyncio.create_task(self._write_all())
        return await done

    async def _write_all(self) -> None:
        while self._uses:
            async with self._editing.lock:
                uses, self._uses = self._uses, []
                await self._write(uses)

    async def _write(self, uses: list[_Use]) -> None:
        ready: dict[str, _Use] = {}
        keys: set[bytes | None] = set()
        for use in uses:
            if use.endpoint.name in ready or use.endpoint.key in keys:
                self._uses.append(use)  # after those that come before it
                continue
            try:
                if self._is_enrolled(use):
                    use.succeed()
                    continue
                code = use.code
                use.endpoint = self._wanted(code, use.endpoint, len(ready), code.reach)
            except StationError as error:
                self.enrolment.release(use.code)
                use.fail(error)
                continue
            ready[use.endpoint.name] = use
            keys.add(use.endpoint.key)
        if not ready:
            return
        try:
            await self._enter(list(ready.values()))
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of any of them
            for use in ready.values():
                self.enrolment.release(use.code)
                use.fail(error)

    def _is_enrolled(self, use: _Use) -> bool:
        """Whether it came twice at once, and this is the second time."""
        known = self._station.directory.endpoints.get(use.endpoint.name)
        mine = known is not None and known.key == use.endpoint.key
        return mine and not self.enrolment.has(use.code)

    def _wanted(
        self, code: Code, wanted: Endpoint, others: int, reach: Collection[str] | None
    ) -> Endpoint:
        """The loudspeaker as it shall be; StationError if it cannot. Nothing is changed.

        Neither it nor what it takes the place of is outside of `reach`; None is everywhere.
        """
        directory = self._station.directory
        if not self.enrolment.has(code):
            raise EnrolmentError("this code was used: get another with `loa enrol`", final=True)
        assert wanted.key is not None  # noqa: S101 - it is what enrolment is about
        holder = directory.by_key(wanted.key)
        if holder is not None and holder.name != wanted.name:
            raise EnrolmentError(
                f"this loudspeaker is enrolled already, as {holder.name!r}: revoke that first",
                final=True,
            )
        before = directory.endpoints.get(wanted.name)
        if before is None and len(directory.endpoints) + others >= MAX_ENDPOINTS:
            raise EnrolmentError(f"{MAX_ENDPOINTS} loudspeakers are registered: remove some first")
        unit = wanted.unit or (before.unit if before is not None else directory.root)
        if reach is not None:
            there = {unit} if before is None else {unit, before.unit}
            if not all(is_reached(each, reach) for each in there):
                raise EnrolmentError(
                    "this code is for loudspeakers of other units: get another with `loa enrol`",
                    final=True,
                )
        return directory.check(
            replace(
                before or wanted,
                unit=unit,
                delivery=wanted.delivery,
                multicast=wanted.multicast,
                key=wanted.key,
            )
        )

    async def _enter(self, uses: list[_Use]) -> None:
        written = [(use.code.number, use.endpoint) for use in uses]
        entries = [self._entry(use) for use in uses]
        await self._recorder.change(entries, self._editing.store.enrol, written, self._now_s())
        replaced = [self._station.enrol(use.endpoint) for use in uses]
        for use in uses:
            self.enrolment.spend(use.code.number)
            use.succeed()
        if any(replaced):
            self._editing.changed()

    def _entry(self, use: _Use) -> Entry:
        endpoint = use.endpoint
        told = {
            "speaker": endpoint.name,
            "unit": endpoint.unit,
            "key": shown_fingerprint(endpoint.key or b""),
            "code": use.code.number,
        }
        return self._recorder.entry(use.what, told, by=use.by)

    # ------------------------------------------------------------- what a person decides
    async def approve(
        self, fingerprint: str, name: str, unit: str | None, asker: Identity | None = None
    ) -> str:
        """Register who waits, under this name; the name in the one spelling.

        StationError if the name is another's: to replace a loudspeaker it is revoked first.
        """
        try:
            name = check_name(spelt_alike(name))
        except ValueError as error:
            raise EnrolmentError(str(error)) from None
        async with self._editing.lock:
            waiting = self.enrolment.waiting_as(fingerprint)
            self._check(asker, "", waiting.code.unit)
            known = self._station.directory.endpoints.get(name)
            if known is not None and known.key is not None:
                raise EnrolmentError(
                    f"{name!r} is enrolled already: revoke it first, or choose another name"
                )
            if unit is not None:
                unit = self._station.directory.check_unit(unit)
            self._check(asker, name, unit or waiting.code.unit)
            wanted = Endpoint(
                name,
                unit or waiting.code.unit or "",
                delivery=waiting.delivery,
                multicast=waiting.multicast,
                key=waiting.key,
            )
            done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            endpoint = self._wanted(waiting.code, wanted, 0, None)
            use = _Use(waiting.code, endpoint, "speaker.approve", caller(), done)
            await self._enter([use])
            self.enrolment.decide(waiting)
        self._editing.changed()
        return name

    async def refuse(self, fingerprint: str, asker: Identity | None = None) -> None:
        """Send who waits away for good; its code is spent, for it was in wrong hands."""
        async with self._editing.lock:
            waiting = self.enrolment.waiting_as(fingerprint)
            self._check(asker, "", waiting.code.unit)
            told = {"key": fingerprint, "code": waiting.code.number, "wish": waiting.wish}
            await self._forget(waiting.code, self._recorder.entry("speaker.refuse", told))
            self.enrolment.decide(waiting)
        self._editing.changed()

    async def revoke(self, name: str, asker: Identity | None = None) -> None:
        """Forget a loudspeaker's key; its session is ended, and what is on air gets other keys.

        It stays registered, and can be enrolled again with a new code.
        """
        async with self._editing.lock:
            endpoint = self._station.directory.endpoint(name)
            if asker is not None:
                asker.check(Deed.ENROL, {endpoint.unit})
            if endpoint.key is None:
                raise StationError(f"{name!r} is not enrolled: there is nothing to revoke")
            entry = self._recorder.entry("speaker.revoke", {"speaker": name})
            await self._recorder.change([entry], self._editing.store.revoke, name)
            self._station.revoke(name)
        self._editing.changed()
