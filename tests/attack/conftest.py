"""A station and whoever attacks it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.processes import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A folder for logs and recordings, in which everything started ends with the test."""
    with Bench(tmp_path) as bench:
        yield bench
