"""Loudspeakers and their tags, in and out of the tables, many at once."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from server.directory import Endpoint, Position
from server.store.tables import EndpointRow, TagRow

# Every database bounds how many parameters a statement may have.
_NAMES_AT_ONCE = 500


def load(
    connection: Connection, units: Mapping[int, str]
) -> tuple[tuple[Endpoint, ...], dict[str, int]]:
    """All loudspeakers by name, and when each was last seen; DirectoryError on nonsense."""
    tags: dict[int, set[str]] = {}
    for number, tag in connection.execute(select(TagRow.endpoint_id, TagRow.tag)):
        tags.setdefault(number, set()).add(tag)
    found, last_seen = [], {}
    everything = connection.execute(select(*EndpointRow.__table__.columns)).all()
    # Sorted here, for databases sort words by their own rules.
    for row in sorted(everything, key=attrgetter("name")):
        found.append(
            Endpoint(
                name=row.name,
                unit=units[row.unit_id],
                delivery=row.delivery,
                multicast=row.multicast,
                tags=frozenset(tags.get(row.id, ())),
                position=None if row.latitude is None else Position(row.latitude, row.longitude),
                volume=row.volume,
                muted=row.muted,
                trim_us=row.trim_us,
                clear=row.clear,
                key=row.public_key,
            )
        )
        if row.last_seen is not None:
            last_seen[row.name] = row.last_seen
    return tuple(found), last_seen


def save(
    connection: Connection, changed: Sequence[tuple[Endpoint, int]], seen_at: int | None
) -> None:
    """Add or replace each (loudspeaker, number of its unit); but not its key.

    What is written of a loudspeaker's place or sound may have been read before its key was revoked.
    """
    # The last word about a name counts; and databases agree on no statement for "add or replace".
    rows = {endpoint.name: _row(endpoint, unit) for endpoint, unit in changed}
    tags = {endpoint.name: endpoint.tags for endpoint, _ in changed}
    before = _numbers(connection, rows)
    new = [
        row | {"first_seen": seen_at, "last_seen": seen_at}
        for name, row in rows.items()
        if name not in before
    ]
    known = [row | {"number": before[name]} for name, row in rows.items() if name in before]
    if new:
        connection.execute(insert(EndpointRow), new)
    if known:
        _replace(connection, known, seen_at)
    numbers = before if not new else _numbers(connection, rows)
    tagged = [{"endpoint_id": numbers[name], "tag": tag} for name in tags for tag in tags[name]]
    if tagged:
        connection.execute(insert(TagRow), tagged)


def set_keys(connection: Connection, keys: Mapping[str, bytes | None]) -> None:
    """Whose public keys these are now; ValueError if one is another's."""
    statement = (
        update(EndpointRow)
        .where(EndpointRow.name == bindparam("of"))
        .values(public_key=bindparam("key"))
    )
    connection.execute(statement, [{"of": name, "key": key} for name, key in keys.items()])


def _replace(connection: Connection, known: list[dict[str, Any]], seen_at: int | None) -> None:
    values: dict[str, Any] = {name: bindparam(name) for name in known[0] if name != "number"}
    if seen_at is not None:
        values["first_seen"] = func.coalesce(EndpointRow.first_seen, seen_at)
        values["last_seen"] = seen_at
    mine = EndpointRow.id == bindparam("number")
    connection.execute(update(EndpointRow).where(mine).values(values), known)
    connection.execute(
        delete(TagRow).where(TagRow.endpoint_id == bindparam("number")),
        [{"number": row["number"]} for row in known],
    )


def _numbers(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    numbers: dict[str, int] = {}
    left = iter(names)
    while part := list(islice(left, _NAMES_AT_ONCE)):
        rows = connection.execute(
            select(EndpointRow.name, EndpointRow.id).where(EndpointRow.name.in_(part))
        )
        numbers.update({row.name: row.id for row in rows})
    return numbers


def _row(endpoint: Endpoint, unit: int) -> dict[str, Any]:
    position = endpoint.position
    return {
        "name": endpoint.name,
        "unit_id": unit,
        "delivery": endpoint.delivery,
        "multicast": endpoint.multicast,
        "latitude": None if position is None else position.latitude,
        "longitude": None if position is None else position.longitude,
        "volume": endpoint.volume,
        "muted": endpoint.muted,
        "trim_us": endpoint.trim_us,
        "clear": endpoint.clear,
    }
