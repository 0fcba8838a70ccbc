"""The station's memory, in a file or on a server.

Every call blocks; what it wrote is on the disk when it returns.

One process at a time uses a store, one call at a time. A call that raised has changed nothing.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from operator import attrgetter
from typing import Any, Self

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    func,
    insert,
    inspect,
    select,
    update,
)
from typing_extensions import override

from server.audit.row import Entry
from server.directory import SEPARATOR, DirectoryError, Endpoint, check_label
from server.enrolment import Code
from server.store import codes, endpoints
from server.store.audit import AuditTrail
from server.store.databases import database_at
from server.store.engine import Database, Place, StoreError
from server.store.records import Contents, ProgrammeRecord
from server.store.schema import NewerError, migrate
from server.store.tables import EndpointRow, MetaRow, ProgrammeRow, UnitRow, ZoneRow
from server.store.users import UserStore

STATION_STOPPED = "the station stopped"
_APPLICATION = "loa"


class Store(AuditTrail):
    """An open database; `create` or `open` makes one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._units: dict[str, int] = {}
        self.users = UserStore(self._transaction, lambda: self._units)

    # ------------------------------------------------------------- life
    @classmethod
    def create(cls, place: Place, station_name: str) -> Self:
        """A database where there is none yet, or an empty one on a server.

        StoreError if there is one or it cannot be made; DirectoryError if that is no name.
        """
        name = check_label("station", station_name)
        store = cls(database_at(place))
        with store._closed_on_error():
            store._database.create()
            store._found(name)
        return store

    def _found(self, name: str) -> None:
        with self._transaction() as connection:
            migrate(connection)
            about = {"application": _APPLICATION, "made_with": version("loa")}
            rows = [{"key": key, "value": value} for key, value in about.items()]
            connection.execute(insert(MetaRow), rows)
            connection.execute(insert(UnitRow), {"parent_id": None, "name": name})
            self._units = _units(connection)

    @classmethod
    def open(cls, place: Place, still_on_air: Collection[int] = ()) -> Self:
        """A database that `create` made, brought to the newest tables.

        Programmes that never ended are closed, for the station has stopped since; not those whose
        numbers are `still_on_air`, for control alone may have been born again. StoreError if it
        cannot be used.
        """
        store = cls(database_at(place))
        with store._closed_on_error():
            store._database.find()
            store._check_is_ours()
            store._database.adopt()
            store._begin(still_on_air)
        return store

    def _check_is_ours(self) -> None:
        with self._transaction() as connection:
            if is_ours(connection):
                return
        raise StoreError(f"{self._database.shown} is no station's: name what `loa init` made")

    def _begin(self, still_on_air: Collection[int]) -> None:
        with self._transaction() as connection:
            try:
                migrate(connection)
            except NewerError as error:
                raise too_new(self._database, error) from None
            connection.execute(
                update(ProgrammeRow)
                .where(ProgrammeRow.why_ended.is_(None))
                .where(ProgrammeRow.number.not_in(still_on_air))
                .values(why_ended=STATION_STOPPED)
            )
            self._units = _units(connection)

    def close(self) -> None:
        """No call may follow."""
        self._database.close()

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    @contextmanager
    @override
    def _transaction(self) -> Iterator[Connection]:
        if self._joined is not None:
            yield self._joined
            return
        with self._database.transaction() as connection:
            yield connection

    # ------------------------------------------------------------- everything
    def load(self) -> Contents:
        """All that a station begins with; StoreError if somebody wrote nonsense into it."""
        with self._transaction() as connection:
            units = self._units = _units(connection)
            paths = {number: path for path, number in units.items()}
            # Sorted here, for databases sort words by their own rules.
            zones = sorted(
                connection.execute(select(ZoneRow.name, ZoneRow.definition, ZoneRow.clear)).all(),
                key=attrgetter("name"),
            )
            try:
                found, last_seen = endpoints.load(connection, paths)
                definitions = tuple((name, json.loads(text)) for name, text, _ in zones)
                unused = codes.load(connection)
            except (DirectoryError, ValueError) as error:
                raise self._nonsense(str(error)) from None
            return Contents(
                station_name=next(iter(units)),
                units=tuple(units),
                endpoints=found,
                last_seen=last_seen,
                zones=definitions,
                last_programme_number=connection.scalar(select(func.max(ProgrammeRow.number))) or 0,
                clear_zones=frozenset(name for name, _, clear in zones if clear),
                codes=unused,
            )

    @classmethod
    def check(
        cls, database: Database, connection: Connection, entries: Sequence[Entry] = ()
    ) -> None:
        """StoreError unless a station can begin with what is in this transaction.

        These entries are kept in its audit log, if that has begun.
        """
        store = cls(database)
        store._joined = connection
        store.load()
        if store._audit_root(connection) is not None:
            store.note(entries)

    def next_boot(self, least: int = 1) -> int:
        """A number that rises with every beginning of a station with this database.

        At least `least`, which rises by itself: a copy of the database that is put back knows of
        no beginning since it was made.
        """
        with self._transaction() as connection:
            mine = MetaRow.key == "boot"
            before = connection.scalar(select(MetaRow.value).where(mine))
            if before is None:
                connection.execute(insert(MetaRow), {"key": "boot", "value": str(least)})
                return least
            if not before.isdecimal():
                raise self._nonsense(f"{before!r} counts nothing")
            boot = max(int(before) + 1, least)
            connection.execute(update(MetaRow).where(mine).values(value=str(boot)))
            return boot

    def _nonsense(self, what: str) -> StoreError:
        return StoreError(f"{self._database.shown}: {what}; {self._database.remedy}")

    # ------------------------------------------------------------- units and loudspeakers
    def add_unit(self, path: str) -> None:
        """Nothing if it exists; ValueError if its parent does not."""
        if path in self._units:
            return
        parent, _, name = path.rpartition(SEPARATOR)
        row = {"parent_id": self._unit_id(parent), "name": name}
        with self._transaction() as connection:
            connection.execute(insert(UnitRow), row)
            mine = select(UnitRow.id).filter_by(**row)
            number = connection.scalars(mine).one()
        self._units[path] = number

    def remove_unit(self, path: str) -> None:
        """Nothing if it does not exist; ValueError if something is in it."""
        number = self._units.get(path)
        with self._transaction() as connection:
            connection.execute(delete(UnitRow).where(UnitRow.id == number))
        self._units.pop(path, None)

    def save_endpoints(self, changed: Iterable[Endpoint], seen_at: int | None) -> None:
        """Add or replace these loudspeakers, all or none; ValueError if a unit does not exist.

        Their keys stay as they are: `enrol` and `revoke` alone change them.
        `seen_at`: UTC seconds if they were seen now, None if an operator writes about them.
        """
        by_unit = [(endpoint, self._unit_id(endpoint.unit)) for endpoint in changed]
        with self._transaction() as connection:
            endpoints.save(connection, by_unit, seen_at)

    def seen(self, last_seen: Mapping[str, int]) -> None:
        """When these loudspeakers were last seen, UTC seconds; names not known are ignored."""
        if not last_seen:
            return
        with self._transaction() as connection:
            connection.execute(
                update(EndpointRow)
                .where(EndpointRow.name == bindparam("of"))
                .values(
                    first_seen=func.coalesce(EndpointRow.first_seen, bindparam("at")),
                    last_seen=bindparam("at"),
                ),
                [{"of": name, "at": at} for name, at in last_seen.items()],
            )

    # ------------------------------------------------------------- enrolment
    def save_codes(self, new: Iterable[Code], removed: Collection[bytes] = ()) -> None:
        """Keep these codes, and forget those of these numbers, at once."""
        with self._transaction() as connection:
            codes.remove(connection, removed)
            codes.add(connection, new)

    def enrol(self, enrolled: Sequence[tuple[bytes, Endpoint]], seen_at: int) -> None:
        """Use up each code, by its number, for the loudspeaker it is for, with its key; at once.

        Whatever happens, a code is there or the key that it admitted, never both. ValueError, and
        nothing is changed, if one of the codes is not there or a key is another loudspeaker's.
        """
        by_unit = [(endpoint, self._unit_id(endpoint.unit)) for _, endpoint in enrolled]
        numbers = [number for number, _ in enrolled]
        with self._transaction() as connection:
            if codes.remove(connection, numbers) != len(numbers):
                raise ValueError("a code was used before")
            endpoints.save(connection, by_unit, seen_at)
            endpoints.set_keys(connection, {e.name: e.key for _, e in enrolled})

    def revoke(self, name: str) -> None:
        """Forget a loudspeaker's key; nothing if it has none."""
        with self._transaction() as connection:
            endpoints.set_keys(connection, {name: None})

    def remove_endpoint(self, name: str) -> None:
        """Nothing if it does not exist."""
        with self._transaction() as connection:
            connection.execute(delete(EndpointRow).where(EndpointRow.name == name))

    def _unit_id(self, path: str) -> int:
        if path not in self._units:
            raise ValueError(f"no unit {path!r} is stored")
        return self._units[path]

    # ------------------------------------------------------------- zones
    def save_zone(self, name: str, definition: Any, *, clear: bool = False) -> None:
        """Add or replace a zone; `definition` is plain JSON, ValueError or TypeError if not."""
        text = _json(definition)
        with self._transaction() as connection:
            connection.execute(delete(ZoneRow).where(ZoneRow.name == name))
            connection.execute(insert(ZoneRow), {"name": name, "definition": text, "clear": clear})

    def remove_zone(self, name: str) -> None:
        """Nothing if it does not exist."""
        with self._transaction() as connection:
            connection.execute(delete(ZoneRow).where(ZoneRow.name == name))

    # ------------------------------------------------------------- programmes
    def programme_began(
        self,
        number: int,
        name: str,
        *,
        priority: int,
        request: Any,
        playout_delay_ms: float,
        at: int,
    ) -> None:
        """A programme is on air since `at`, UTC seconds; ValueError if the number was used."""
        with self._transaction() as connection:
            connection.execute(
                insert(ProgrammeRow),
                {
                    "number": number,
                    "name": name,
                    "priority": priority,
                    "request": _json(request),
                    "playout_delay_ms": playout_delay_ms,
                    "began_at": at,
                },
            )

    def programme_ended(self, number: int, at: int, why: str) -> None:
        """It ended `at`, UTC seconds; nothing if no such programme is stored."""
        with self._transaction() as connection:
            connection.execute(
                update(ProgrammeRow)
                .where(ProgrammeRow.number == number)
                .values(ended_at=at, why_ended=why)
            )

    def forget_programmes(self, before: int, limit: int) -> bool:
        """Forget, of the oldest so many, those from before (UTC seconds); whether there were any.

        The newest stays, for its number must never be another's; and what is on air.
        """
        old = select(ProgrammeRow.number).order_by(ProgrammeRow.number).limit(limit)
        with self._transaction() as connection:
            numbers = connection.scalars(old).all()
            newest = connection.scalar(select(func.max(ProgrammeRow.number)))
            forgotten = connection.execute(
                delete(ProgrammeRow)
                .where(ProgrammeRow.number.in_(numbers), ProgrammeRow.number != newest)
                .where(ProgrammeRow.began_at < before, ProgrammeRow.why_ended.is_not(None))
                .where(func.coalesce(ProgrammeRow.ended_at, 0) < before)
            )
        return bool(forgotten.rowcount)

    def programmes(
        self, limit: int, before: int | None = None, among: Sequence[int] | None = None
    ) -> tuple[ProgrammeRecord, ...]:
        """The newest so many, or the newest before that number, newest first.

        Only those of these numbers, if some are given.
        """
        columns = ProgrammeRow.__table__.columns
        newest = select(*columns).order_by(ProgrammeRow.number.desc()).limit(limit)
        if before is not None:
            newest = newest.where(ProgrammeRow.number < before)
        if among is not None:
            newest = newest.where(ProgrammeRow.number.in_(among))
        with self._transaction() as connection:
            rows = connection.execute(newest).mappings().all()
        return tuple(
            ProgrammeRecord(**{**row, "request": json.loads(row["request"])}) for row in rows
        )


def too_new(database: Database, error: NewerError) -> StoreError:
    """What a person is told of tables that this program does not know."""
    return StoreError(f"{database.shown} was used by a newer Loa (tables {error}): update this one")


def is_ours(connection: Connection) -> bool:
    """Whether these are a station's tables."""
    if not inspect(connection).has_table(MetaRow.__tablename__):
        return False
    columns = {column["name"] for column in inspect(connection).get_columns(MetaRow.__tablename__)}
    if not {"key", "value"} <= columns:
        return False
    application = select(MetaRow.value).where(MetaRow.key == "application")
    return connection.scalar(application) == _APPLICATION


def _json(plain: Any) -> str:
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)


def _units(connection: Connection) -> dict[str, int]:
    """Each unit's number by its path, the root first and a parent before its children."""
    rows = connection.execute(select(UnitRow.id, UnitRow.parent_id, UnitRow.name)).all()
    children: dict[int | None, list[tuple[str, int]]] = {}
    for number, parent, name in rows:
        children.setdefault(parent, []).append((name, number))
    paths: dict[str, int] = {}
    level = sorted(children.get(None, []))
    while level:
        paths.update(level)
        level = [
            (f"{path}{SEPARATOR}{name}", number)
            for path, parent in level
            for name, number in sorted(children.get(parent, []))
        ]
    return paths
