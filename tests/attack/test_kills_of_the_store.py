"""Writers killed at random points of their load, and what the disk was told before an answer.

A tenth of two hundred kills here; `make attack` does all of them.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from server.audit.row import Tail, row_hash
from server.store import Store
from server.store.engine import Place
from tests.support import store_writer
from tests.support.postgresql import Server
from tests.support.store_writer import CHANGES, ROOT, is_stored

pytestmark = pytest.mark.realtime

ROOT_KEY = bytes(range(32))
WRITER = (sys.executable, "-P", str(store_writer.__file__))
ENDLESS = 1_000_000
# How many changes a writer may say, and how long it may go on then. Those that are to say none are
# killed somewhere on their way to the first.
MOST, MORE_S = 24, 0.03


def kills() -> int:
    """Two hundred under `make attack`, a tenth of it otherwise."""
    return 200 if os.environ.get("LOA_ATTACK") == "full" else 20


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A new station's database."""
    found: Place = tmp_path / "loa.sqlite3"
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        found = server.new_database()
    store = Store.create(found, ROOT)
    store.begin_audit(ROOT_KEY, 1)
    store.close()
    return found


@contextmanager
def writer(place: Place, *before: str) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [*before, *WRITER, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ends(process: "subprocess.Popen[str]") -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def killed(process: "subprocess.Popen[str]", first: int, chance: random.Random) -> list[int]:
    """What a writer that is killed at some point said was stored."""
    words, said = ends(process)
    words.write(f"{first} {ENDLESS}\n")
    words.flush()
    pid = 0
    numbers: list[int] = []
    enough = chance.randrange(MOST)
    while not pid or len(numbers) < enough:  # it may speak before its parent does
        line = said.readline()
        if line.startswith("began "):
            pid = int(line.split()[1])
        else:
            numbers.append(int(line))
    time.sleep(chance.uniform(0, MORE_S if enough else 10 * MORE_S))
    os.kill(pid, signal.SIGKILL)
    while (line := said.readline()) != f"ended {pid}\n":
        numbers.append(int(line))
    return numbers


def check_chain(store: Store) -> int:
    """Every row of the audit log follows from the one before; how many there are."""
    tail = Tail.genesis(store.audit_root())
    rows = store.audit_rows(0, ENDLESS, ENDLESS)
    for row in rows:
        assert row.seq == tail.seq + 1
        assert row.hash == row_hash(tail.hash, row.seq, row.texts)
        tail = Tail.of(row)
    return len(rows)


def test_no_kill_loses_what_was_acknowledged_or_breaks_the_chain(place: Place) -> None:
    chance = random.Random(7)
    acknowledged: list[int] = []
    first = 1
    with writer(place) as process:
        for _ in range(kills()):
            numbers = killed(process, first, chance)
            store = Store.open(place)
            try:
                assert [n for n in numbers if not is_stored(store, n)] == []
                # Of what was under way, the change and its row in the log, or neither.
                under_way = (numbers or [first - 1])[-1] + 1
                acknowledged += numbers
                if is_logged(store, under_way):
                    acknowledged.append(under_way)
                assert check_chain(store) == len(acknowledged)
            finally:
                store.close()
            first = under_way + 1
    store = Store.open(place)
    stored = {*store.load().endpoints}
    assert len(stored) >= len(acknowledged) // CHANGES
    assert [n for n in acknowledged[:: max(1, len(acknowledged) // 50)] if not kept(store, n)] == []
    store.close()
    print(f"{kills()} kills, {len(acknowledged)} changes acknowledged, none lost")


def is_logged(store: Store, number: int) -> bool:
    newest = store.newest_audit_rows(None, 1)
    return bool(newest) and f'"number":{number}' in newest[0].texts[4].replace(" ", "")


def kept(store: Store, number: int) -> bool:
    """A code that was made may wait for its key, where the writer was killed between the two."""
    codes = {code.name for code in store.load().codes}
    return is_stored(store, number) or (number % CHANGES == 2 and f"k{number}" in codes)


# ------------------------------------------------------------------ what the disk was told
CALL = re.compile(r"(pwrite64|fsync|fdatasync|write)\((\d+)<([^>]*)>(?:, \"([^\"]*)\")?")


@pytest.fixture
def strace(tmp_path: Path) -> tuple[str, ...]:
    """To see calls of the system's, unless that is not to be had here."""
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed (Debian: strace)")
    words = (found, "-f", "-y", "-e", "trace=pwrite64,fsync,fdatasync,write", "-o")
    trace = str(tmp_path / "trace")
    if subprocess.run([*words, trace, "true"], check=False, capture_output=True).returncode:
        pytest.skip("strace may not look into processes here")
    return *words, trace


def test_what_is_acknowledged_was_flushed_to_the_disk_before(
    tmp_path: Path, strace: tuple[str, ...]
) -> None:
    path = tmp_path / "loa.sqlite3"
    store = Store.create(path, ROOT)
    store.begin_audit(ROOT_KEY, 1)
    store.close()
    with writer(path, *strace) as process:
        words, said = ends(process)
        words.write("1 40\n")
        words.close()
        assert len([line for line in said if line.strip().isdecimal()]) == 40
        process.wait()
    unflushed, flushes, acknowledged = False, 0, 0
    for line in Path(strace[-1]).read_text().splitlines():
        if (call := CALL.search(line)) is None:
            continue
        name, descriptor, file, text = call.groups()
        if file == f"{path}-wal" and name == "pwrite64":
            unflushed = True
        elif file == f"{path}-wal":
            unflushed, flushes = False, flushes + 1
        elif name == "write" and descriptor == "1" and (text or "").removesuffix("\\n").isdecimal():
            assert not unflushed, f"{text} was acknowledged before it was on the disk"
            acknowledged += 1
    assert acknowledged == 40
    assert flushes >= acknowledged
