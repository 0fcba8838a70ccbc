"""A sound server and two loudspeakers on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.processes import Bench
from tests.support.sound import Duet, SoundServer, sound_server


@pytest.fixture
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoundServer]:
    """A sound server with one card, `both`."""
    # Not in the test's own folder: a socket's path has an end, and that has a long name.
    with sound_server(tmp_path_factory.mktemp("pulse")) as server:
        yield server


@pytest.fixture
def duet(sound: SoundServer, tmp_path: Path) -> Iterator[Duet]:
    """Two loudspeakers, not started."""
    with Bench(tmp_path) as bench:
        yield Duet(sound, bench)
