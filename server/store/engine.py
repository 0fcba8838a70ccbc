"""What the store asks of a database, whichever it is; `sqlite` and `postgresql` are the two."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Table

# The file of an SQLite database, or the URL of one on a PostgreSQL server.
Place = Path | str


class StoreError(Exception):
    """The database cannot be used as it is; one line that says what to do."""


class UncertainError(StoreError):
    """Nobody can say whether the change was made; one line that says so, and what to do."""


class Database(Protocol):
    """A database that one station uses; nothing is connected before the first call.

    `shown` names it to people, without a password; `remedy` is what to do where nonsense is in it.
    Each call raises StoreError if the database cannot be used or fails; UncertainError if it went
    away in the middle of a commit and did not come back.
    """

    @property
    def shown(self) -> str:
        """By what people know it; never a password."""

    @property
    def remedy(self) -> str:
        """What to do where somebody wrote nonsense into it."""

    def create(self) -> None:
        """Be ready for the tables of a new station; StoreError if something is there already."""

    def find(self) -> None:
        """StoreError unless there may be a station's tables; nothing is changed."""

    def adopt(self) -> None:
        """These are a station's tables: whatever is to be set for good is set now."""

    def transaction(self) -> AbstractContextManager[Connection]:
        """Commits at the end of the block, or changes nothing; then it is on the disk.

        ValueError if what was asked contradicts the tables.
        """

    def snapshot(self) -> AbstractContextManager[Connection]:
        """To read everything as it is at one moment, while a station uses the database."""

    def beside(self) -> AbstractContextManager[Connection]:
        """To write something short while a station uses the database; as `transaction`."""

    def count_on(self, connection: Connection, table: Table) -> None:
        """Draw numbers for new rows above those that were put into the table."""

    def close(self) -> None:
        """No call may follow."""
