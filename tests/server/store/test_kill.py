"""A process killed in the middle of its writes: every row it was told is stored, is."""

import subprocess
import sys
from pathlib import Path

import pytest

from server.directory import Endpoint
from server.enrolment import Code
from server.store import Store

WRITER = """
import itertools, pathlib, sys
from server.directory import Endpoint
from server.store import Store

store = Store.open(pathlib.Path(sys.argv[1]))
for number in itertools.count(1):
    names = [f"e{number}-{part}" for part in range(3)]
    store.save_endpoints([Endpoint(name, "Station") for name in names], number)
    store.programme_began(
        number, f"live-{number}", priority=1, request={}, playout_delay_ms=200, at=number
    )
    print(number, flush=True)
"""


@pytest.mark.parametrize("enough", [1, 17, 60])
def test_a_kill_in_the_middle_of_writes_loses_no_acknowledged_row(
    tmp_path: Path, enough: int
) -> None:
    path = tmp_path / "loa.sqlite3"
    Store.create(path, "Station").close()
    with subprocess.Popen(
        [sys.executable, "-P", "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(enough)]
        writer.kill()
        said += writer.stdout.readlines()
    acknowledged = int(next(line for line in reversed(said) if line.endswith("\n")))
    assert acknowledged >= enough

    store = Store.open(path)
    try:
        contents = store.load()
        names = {endpoint.name for endpoint in contents.endpoints}
        expected = {f"e{n}-{part}" for n in range(1, acknowledged + 1) for part in range(3)}
        assert expected <= names
        assert len(names) % 3 == 0  # of what was under way, all or nothing
        assert contents.last_programme_number >= acknowledged
        store.save_endpoints([Endpoint("after", "Station")], 1)
    finally:
        store.close()


ENROLLER = """
import itertools, pathlib, sys
from server.directory import Endpoint
from server.store import Store

store = Store.open(pathlib.Path(sys.argv[1]))
for code in store.load().codes:
    store.enrol([(code.number, Endpoint(code.name, "Station", key=code.number * 8))], 1)
    print(code.name, flush=True)
"""


@pytest.mark.parametrize("enough", [1, 23, 60])
def test_a_kill_between_the_use_of_a_code_and_its_answer_leaves_a_code_or_a_key_never_both(
    tmp_path: Path, enough: int
) -> None:
    path = tmp_path / "loa.sqlite3"
    codes = [Code(n.to_bytes(4), bytes(32), f"n{n}", None, 1) for n in range(5000)]
    store = Store.create(path, "Station")
    store.save_codes(codes)
    store.close()
    with subprocess.Popen(
        [sys.executable, "-P", "-c", ENROLLER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(enough)]
        writer.kill()
        said += writer.stdout.readlines()
    acknowledged = {line.strip() for line in said if line.endswith("\n")}

    store = Store.open(path)
    try:
        contents = store.load()
    finally:
        store.close()
    usable = {code.name for code in contents.codes}
    registered = {e.name for e in contents.endpoints if e.key is not None}
    assert len(contents.endpoints) == len(registered) < len(codes)
    assert acknowledged <= registered
    assert usable.isdisjoint(registered)
    assert usable | registered == {code.name for code in codes}
