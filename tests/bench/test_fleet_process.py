"""A fleet's process is asked and answers; who it is does not matter here, so another plays it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import processes
from bench.fleet_process import Fleet, Part
from bench.processes import Bench, ProcessError, wait_until

# Says what it was told when it is asked for figures, and dies of the word "stall".
PLAYER = """
import json, sys
assert sys.argv[1] == "fleet"
options = dict(zip(sys.argv[2::2], sys.argv[3::2]))
names = ("joined", "received", "expected", "lost", "duplicate", "corrupt", "too_late",
    "simulator_dropped", "rejoined", "late_max_ms", "longest_gap_ms")
figures = dict.fromkeys(names, 0) | {"event": "figures", "endpoints": int(options["--count"])}
def say(event):
    print(json.dumps(event), flush=True)
say({"event": "something new"})
say({"event": "joined", "count": 2, "seconds": 0.5})
heard = 0
for line in sys.stdin:
    heard += 1
    if line == "figures\\n":
        say(figures | {"joined": 3})
        say(figures | {"received": heard, "late_histogram": [], "transit_histogram": []})
    if line.startswith("stall"):
        sys.exit("no more")
"""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    (tmp_path / "player.py").write_text(PLAYER)
    monkeypatch.setattr(processes, "LOA", (sys.executable, str(tmp_path / "player.py")))
    with Bench(tmp_path) as bench:
        bench.address = "127.0.0.1:1"
        yield bench


@contextmanager
def fleet(bench: Bench) -> Iterator[Fleet]:
    yield Fleet(bench, Path("keys.json"), Part(10, 5))


def test_figures_are_those_that_were_asked_for_now(bench: Bench) -> None:
    with fleet(bench) as asked:
        asked.begin()
        first, second = asked.figures(), asked.figures()
    assert (first.received, second.received, second.endpoints) == (2, 3, 5)


def test_how_many_have_joined_is_what_it_said_last(bench: Bench) -> None:
    with fleet(bench) as asked:
        wait_until(lambda: asked.joined == 2, "the first word")
        asked.figures()
        assert asked.joined == 3
        assert [row["joined"] for row in asked.rows] == [3]


def test_a_fleet_that_dies_is_not_waited_for(bench: Bench) -> None:
    with fleet(bench) as asked:
        with pytest.raises(ProcessError, match="the fleet has ended: no more"), asked.stalled():
            asked.figures()
        with pytest.raises(ProcessError, match="has ended"):
            _ = asked.joined


def test_a_frozen_fleet_goes_on_when_it_is_thawed(bench: Bench) -> None:
    with fleet(bench) as asked:
        asked.freeze()
        asked.thaw()
        assert asked.figures().endpoints == 5
