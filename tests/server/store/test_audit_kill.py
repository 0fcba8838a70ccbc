"""A station killed while it writes its log leaves one chain, with all that it had acknowledged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.audit.row import genesis_hash, row_hash
from server.store import Store
from tests.support.logs import Keys

# `LOA_ATTACK=full` makes it ten times as many.
KILLS = 200 if os.environ.get("LOA_ATTACK") == "full" else 20
ROOT = Keys().root.public
WRITER = """
import itertools, pathlib, sys
from server.audit.row import Entry
from server.store import Store

store = Store.open(pathlib.Path(sys.argv[1]))
for number in itertools.count(len(store.load().units)):
    entries = [Entry.of(number, "x", "", "unit.add", {"n": number, "part": p}) for p in range(3)]
    store.audited(entries, store.add_unit, f"Station/{number}")
    print(number, flush=True)
"""


@pytest.mark.realtime
def test_kills_while_it_writes_leave_one_chain_with_every_acknowledged_row(tmp_path: Path) -> None:
    path = tmp_path / "loa.sqlite3"
    store = Store.create(path, "Station")
    store.begin_audit(ROOT, 1)
    store.close()
    acknowledged = 0
    for kill in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-P", "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline() for _ in range(1 + kill % 7)]
            writer.kill()
            said += writer.stdout.readlines()
        whole = [int(line) for line in said if line.endswith("\n")]
        assert whole[0] > acknowledged  # it goes on where the last one was killed
        acknowledged = whole[-1]

        store = Store.open(path)
        rows, units = store.audit_rows(0, 1 << 52, 1 << 30), store.load().units
        store.close()
        previous = genesis_hash(ROOT)
        for number, row in enumerate(rows, 1):
            assert (row.seq, row.hash) == (number, row_hash(previous, number, row.texts))
            previous = row.hash
        # The root unit has no rows; of what was under way, unit and rows are there or neither.
        assert len(rows) == 3 * (len(units) - 1) >= 3 * acknowledged
