"""What all tests share."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.support.postgresql import Server

# An example that takes long on a busy machine is no fault of the code under test.
settings.register_profile(
    "loa", settings.get_profile(settings.get_current_profile_name()), deadline=None
)
settings.load_profile("loa")


@pytest.fixture(scope="session")
def postgresql() -> "Iterator[Server]":
    """A PostgreSQL server, once for all tests of this process; skips where there is none."""
    # Most tests need no database.
    from tests.support.postgresql import private_server  # noqa: PLC0415

    with private_server() as server:
        yield server
