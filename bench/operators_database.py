"""How a station's database grows: what is in each table at two moments, reckoned per day.

It is read beside the station, which goes on writing: with a write-ahead log nobody waits.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

_S_PER_DAY, _HOURS_PER_DAY = 86_400, 24
# Tables that only people's deeds change; what loudspeakers say of themselves changes `endpoints`.
_OF_PEOPLE = {
    *("zones", "programmes", "users", "grants", "tokens", "token_grants", "login_sessions"),
    *("units", "enrolments", "endpoint_tags"),
}
_AUDIT, _HEADS, _PROGRAMMES = "audit", "audit_heads", "programmes"
# What a person is never called: see server.users.records and server.audit.row.
_NOBODY = ("token", "station", "loudspeaker %", "")


@dataclass(frozen=True, slots=True)
class Reading:
    """What there is at one moment.

    `pages_bytes` is what is in use, what the write-ahead log still holds included; `log_bytes` how
    long that log is itself. `table_bytes` has each table with its indexes, and is empty where
    SQLite was built without `dbstat`. `audited` counts rows of the audit log by what was done,
    first those by people, then those by the station and its loudspeakers.
    """

    pages_bytes: int
    log_bytes: int
    rows: Mapping[str, int]
    table_bytes: Mapping[str, int]
    audited: tuple[Mapping[str, int], Mapping[str, int]]


def read(path: Path) -> Reading:
    """The database in a file, as it is now; sqlite3.Error if that cannot be read."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5.0)) as connection:
        # One view of it all.
        connection.isolation_level = None
        connection.execute("BEGIN")
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if not name.startswith("sqlite_")
        ]
        # The names are the database's own.
        rows = {
            table: connection.execute(f'SELECT COUNT(*) FROM "{table}"').fetchone()[0]  # noqa: S608
            for table in tables
        }
        log = path.with_name(path.name + "-wal")
        return Reading(
            _used_bytes(connection),
            log.stat().st_size if log.exists() else 0,
            rows,
            _table_bytes(connection),
            _audited(connection) if _AUDIT in tables else ({}, {}),
        )


def _used_bytes(connection: sqlite3.Connection) -> int:
    page, pages, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_size", "page_count", "freelist_count")
    )
    return int(page * (pages - free))


def _table_bytes(connection: sqlite3.Connection) -> dict[str, int]:
    try:
        found = connection.execute(
            "SELECT COALESCE(m.tbl_name, s.name), SUM(s.pgsize) FROM dbstat AS s"
            " LEFT JOIN sqlite_master AS m ON m.name = s.name"
            " WHERE s.aggregate = TRUE GROUP BY 1"
        ).fetchall()
    except sqlite3.OperationalError:
        return {}
    return dict(found)


def _audited(connection: sqlite3.Connection) -> tuple[dict[str, int], dict[str, int]]:
    nobody = " OR ".join(["who LIKE ?"] * len(_NOBODY))
    by_people: dict[str, int] = {}
    by_station: dict[str, int] = {}
    for what, theirs, count in connection.execute(
        f"SELECT what, NOT ({nobody}), COUNT(*) FROM audit GROUP BY 1, 2",  # noqa: S608
        _NOBODY,
    ):
        (by_people if theirs else by_station)[what] = count
    return by_people, by_station


@dataclass(frozen=True, slots=True)
class Growth:
    """What came between two readings that are `seconds` apart."""

    before: Reading
    after: Reading
    seconds: float

    def rows(self) -> list[dict[str, object]]:
        """A row for each table in which there is something; the largest growth first."""
        more = {table: n - self.before.rows.get(table, 0) for table, n in self.after.rows.items()}
        found = []
        for table in sorted(more, key=lambda name: -more[name]):
            grown = self._more(table)
            found.append(
                {
                    "table": table,
                    "rows": self.after.rows[table],
                    "rows_more": more[table],
                    "bytes": self.after.table_bytes.get(table),
                    "bytes_more": grown,
                    "bytes_a_day": None if grown is None else self.a_day(grown),
                }
            )
        return [row for row in found if row["rows"]]

    def a_day(self, count: float | None) -> float:
        """So many in the time between, reckoned for a day."""
        return (count or 0) * _S_PER_DAY / self.seconds

    @property
    def bytes_more(self) -> int:
        """Altogether."""
        return self.after.pages_bytes - self.before.pages_bytes

    @property
    def audited(self) -> tuple[dict[str, int], dict[str, int]]:
        """Rows more of the audit log, by what was done: by people, and by the station."""
        first, second = (
            _more(before, after)
            for before, after in zip(self.before.audited, self.after.audited, strict=True)
        )
        return first, second

    @property
    def of_people(self) -> float:
        """Bytes more by what people did: their tables, and their share of the audit log."""
        own = sum(max(self._more(table) or 0, 0) for table in _OF_PEOPLE)
        return own + self._share * (self._more(_AUDIT) or 0)

    @property
    def _share(self) -> float:
        """People's, of the rows that the audit log has more."""
        theirs, others = (sum(counts.values()) for counts in self.audited)
        return theirs / (theirs + others) if theirs + others else 0.0

    def kept_bytes(self, audit_days: int, programmes_days: int, hours: float) -> float:
        """What there is once as much is forgotten as is added: people are there `hours` a day.

        What is only ever added to is the audit log and the list of past programmes.
        """
        at_work = hours / _HOURS_PER_DAY
        audit, heads = self._more(_AUDIT) or 0, self._more(_HEADS) or 0
        audit_a_day = self.a_day(audit * (self._share * at_work + 1 - self._share) + heads)
        programmes_a_day = self.a_day(self._more(_PROGRAMMES) or 0) * at_work
        added = audit_days * audit_a_day + programmes_days * programmes_a_day
        return self.after.pages_bytes + added

    def _more(self, table: str) -> int | None:
        if table not in self.after.table_bytes:
            return None
        return self.after.table_bytes[table] - self.before.table_bytes.get(table, 0)


def _more(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    more = {what: count - before.get(what, 0) for what, count in after.items()}
    return {what: count for what, count in sorted(more.items(), key=_last) if count}


def _last(item: tuple[str, int]) -> int:
    return -item[1]


def figures(growth: Growth, endpoints: int, operators: int, hours: float) -> dict[str, object]:
    """Per endpoint and day, where operators are at work `hours` of it; and per deed of theirs."""
    of_people = growth.of_people
    of_fleet = growth.a_day(growth.bytes_more - of_people) / endpoints
    of_operators = growth.a_day(of_people) * hours / _HOURS_PER_DAY / endpoints
    by_people, by_station = growth.audited
    deeds = sum(by_people.values())
    return {
        "bytes": growth.after.pages_bytes,
        "log_bytes": growth.after.log_bytes,
        "bytes_per_endpoint": growth.after.pages_bytes / endpoints,
        "bytes_more": growth.bytes_more,
        "hours_a_day": hours,
        "bytes_per_endpoint_day": of_fleet + of_operators,
        "bytes_per_endpoint_day_of_fleet": of_fleet,
        "bytes_per_endpoint_day_of_operators": of_operators,
        "bytes_per_operator_hour": growth.a_day(of_people) / _HOURS_PER_DAY / operators,
        "bytes_per_deed": of_people / deeds if deeds else None,
        "audited_by_people": by_people,
        "audited_by_station": by_station,
        "tables": growth.rows(),
    }


def flat(figures: Mapping[str, object], leave: Iterable[str] = ("tables",)) -> dict[str, object]:
    """The figures that a table of names and values has room for."""
    return {name: value for name, value in figures.items() if name not in set(leave)}
