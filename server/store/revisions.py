"""Which tables a station's database has, and how it goes back to those of an older Loa."""

from dataclasses import dataclass

from server.store import copies
from server.store.databases import database_at
from server.store.engine import Place, StoreError
from server.store.schema import move, revisions


@dataclass(frozen=True, slots=True)
class Revision:
    """A step of the tables; `what` is its one line."""

    name: str
    what: str


def known() -> tuple[Revision, ...]:
    """All that this program knows, the newest first."""
    return tuple(Revision(script.revision, script.doc) for script in revisions())


def revision_at(place: Place) -> str:
    """That of a station's database, which may be in use; StoreError if it cannot be read."""
    with copies.snapshot(place) as snapshot:
        return snapshot.revision


def downgrade(place: Place, revision: str) -> None:
    """Bring a database that nobody uses back to a revision; what that has no room for is lost.

    StoreError, and nothing is changed, if it is at an older one, or cannot be used.
    """
    names = [known_one.name for known_one in known()]
    now = revision_at(place)
    if revision not in names[names.index(now) :]:
        raise StoreError(f"no way back to {revision!r} from {now}: name one of those before it")
    database = database_at(place)
    try:
        with database.transaction() as connection:
            move(connection, revision)
    finally:
        database.close()
