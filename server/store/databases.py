"""Which database a station's is: a file's path is SQLite's, a URL that of a PostgreSQL server."""

from pathlib import Path

from server.store.engine import Database, Place, StoreError
from server.store.sqlite import SqliteDatabase


def database_at(place: Place) -> Database:
    """The database there; StoreError if the URL is none, or its driver is not installed."""
    if isinstance(place, Path):
        return SqliteDatabase(place)
    try:
        # The driver takes time to load, and most stations have none.
        from server.store.postgresql import PostgresqlDatabase  # noqa: PLC0415
    except ImportError as error:
        raise StoreError(
            f"the driver for PostgreSQL is missing ({error}): `make postgresql`, or "
            "`pip install 'loa[postgresql]'`"
        ) from None
    return PostgresqlDatabase(place)
