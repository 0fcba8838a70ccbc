"""A store to write into and open again, on each database."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.store import Store
from server.store.engine import Place
from tests.support.postgresql import Server


@pytest.fixture
def server(postgresql: Server) -> Server:
    """A PostgreSQL server."""
    return postgresql


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a file is, or could be."""
    return tmp_path / "loa.sqlite3"


@pytest.fixture
def url(server: Server) -> str:
    """Where an empty database is."""
    return server.new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> Place:
    """A file and a server's database, one after the other."""
    found: Place = request.getfixturevalue("path" if request.param == "sqlite" else "url")
    return found


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    """A new store of the station `Tân Phú`."""
    store = Store.create(place, "Tân Phú")
    yield store
    store.close()


@pytest.fixture
def reopen(store: Store, place: Place) -> Iterator[Callable[..., Store]]:
    """Close the store, or the one opened last, and open it as another process would."""
    opened = [store]

    def reopen(**how: object) -> Store:
        opened[-1].close()
        opened.append(Store.open(place, **how))  # type: ignore[arg-type]
        return opened[-1]

    yield reopen
    opened[-1].close()
