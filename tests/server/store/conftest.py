"""A store to write into and open again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "loa.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A new store of the station `Tân Phú`."""
    store = Store.create(path, "Tân Phú")
    yield store
    store.close()


@pytest.fixture
def reopen(store: Store, path: Path) -> Iterator[Callable[..., Store]]:
    """Close the store, or the one opened last, and open it as another process would."""
    opened = [store]

    def reopen(**how: object) -> Store:
        opened[-1].close()
        opened.append(Store.open(path, **how))  # type: ignore[arg-type]
        return opened[-1]

    yield reopen
    opened[-1].close()
