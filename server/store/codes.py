"""Codes that nobody has used, in and out of the table, many at once."""

import json
from collections.abc import Collection, Iterable
from operator import attrgetter

from sqlalchemy import Connection, bindparam, delete, insert, select

from server.enrolment import Code
from server.store.tables import EnrolmentRow


def load(connection: Connection) -> tuple[Code, ...]:
    """All of them; ValueError on nonsense."""
    rows = connection.execute(select(*EnrolmentRow.__table__.columns)).all()
    return tuple(
        Code(
            bytes.fromhex(row.number),
            row.secret_hash,
            row.name,
            row.unit,
            row.expires_at,
            None if row.reach is None else tuple(json.loads(row.reach)),
        )
        for row in sorted(rows, key=attrgetter("number"))
    )


def add(connection: Connection, new: Iterable[Code]) -> None:
    """Each of them; ValueError if a number is in use."""
    rows = [
        {
            "number": code.number.hex(),
            "secret_hash": code.key,
            "name": code.name,
            "unit": code.unit,
            "expires_at": code.expires_s,
            "reach": None if code.reach is None else json.dumps(code.reach),
        }
        for code in new
    ]
    if rows:
        connection.execute(insert(EnrolmentRow), rows)


def remove(connection: Connection, numbers: Collection[bytes]) -> int:
    """Those of these numbers; how many there were."""
    if not numbers:
        return 0
    statement = delete(EnrolmentRow).where(EnrolmentRow.number == bindparam("of"))
    return connection.execute(statement, [{"of": number.hex()} for number in numbers]).rowcount
