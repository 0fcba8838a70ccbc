"""A whole fleet at a real station."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.fleet_keys import prepare
from bench.processes import Bench, wait_until

pytestmark = pytest.mark.realtime
COUNT = 30


class Fleet:
    """`loa fleet`, what it says, and what it is told."""

    def __init__(self, bench: Bench, keys: Path, *words: str) -> None:
        self.bench = bench
        given = ("--server", bench.address, "--keys", str(keys), *words)
        self.process = bench.start("fleet", *given, log="fleet", stdin=subprocess.PIPE)
        self.last: dict[str, Any] = {}
        self._answer: dict[str, Any] = {}
        self._asked = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            self.last |= told
            if "late_histogram" in told:
                self._answer = told
                self._asked.set()

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def figures(self) -> dict[str, Any]:
        self._asked.clear()
        self.tell("figures")
        assert self._asked.wait(30)
        # Not `last`, which may have more by now: what it says each second, without histograms.
        return dict(self._answer)

    def wait(self, what: str, value: int) -> None:
        wait_until(lambda: self.last.get(what) == value, f"{what} = {value}: {self.last}", 30)


@contextmanager
def fleet_on_air(folder: Path, *words: str, multicast: bool = False) -> Iterator[Fleet]:
    """Everybody has joined, knows the time, and hears a tone."""
    with Bench(folder) as bench:
        delivery = "lan" if multicast else "wan"
        keys = prepare(bench.data, COUNT, 1, delivery, multicast=multicast)
        bench.start_station()
        fleet = Fleet(bench, keys, *words)
        fleet.wait("joined", COUNT)
        fleet.wait("settled", COUNT)
        bench.start("live", "tone", "--zone", "all", "--server", bench.address, log="live")
        wait_until(lambda: fleet.figures()["received"] > COUNT, "sound")
        yield fleet
        fleet.tell("quit")
        assert fleet.process.wait(30) == 0


def received_since(fleet: Fleet, count: int) -> dict[str, Any]:
    """The figures as soon as so many copies have been judged since the window began."""
    fleet.tell("begin")
    wait_until(lambda: fleet.figures()["received"] >= count, "frames to be judged", 30)
    return fleet.figures()


def given_up(fleet: Fleet) -> int:
    """As many copies at most the station had no time to send: one may be a group's."""
    return COUNT * int(fleet.bench.get("/api/v1/station")["sender"]["stale"])


def check_all_is_well(fleet: Fleet, figures: dict[str, Any]) -> None:
    assert figures["received"] > 0, figures
    assert figures["expected"] - figures["received"] <= given_up(fleet), figures
    assert figures["corrupt"] == figures["duplicate"] == figures["stray"] == 0, figures
    assert 0 < figures["transit_p99_ms"] < 5_000
    assert len(figures["gaps_ms"]) == COUNT
    assert min(figures["gaps_ms"]) > 0
    assert sum(count for _, count in figures["transit_histogram"]) >= figures["received"]


def test_everybody_hears_everything_and_comes_back_after_a_power_cut(tmp_path: Path) -> None:
    with fleet_on_air(tmp_path) as fleet:
        check_all_is_well(fleet, received_since(fleet, 50 * COUNT))
        fleet.tell("hush 10")
        fleet.wait("joined", COUNT - 10)
        fleet.tell("wake")
        fleet.wait("joined", COUNT)
        wait_until(lambda: fleet.figures()["rejoined"] >= 10, "ten to have come back")
        check_all_is_well(fleet, received_since(fleet, 50 * COUNT))


def test_who_is_stalled_hears_nothing_and_is_not_missed(tmp_path: Path) -> None:
    with fleet_on_air(tmp_path, "--stall-share", "0.5") as fleet:
        fleet.tell("stall")
        while_stalled = received_since(fleet, 20 * COUNT)
        silent = [gap for gap in while_stalled["gaps_ms"] if not gap]
        assert len(silent) == COUNT // 2
        assert while_stalled["lost"] <= given_up(fleet), while_stalled
        fleet.tell("unstall")
        fleet.wait("joined", COUNT)
        check_all_is_well(fleet, received_since(fleet, 50 * COUNT))


def test_a_group_is_heard_by_all_that_joined_it(tmp_path: Path) -> None:
    with fleet_on_air(tmp_path, "--multicast", multicast=True) as fleet:
        check_all_is_well(fleet, received_since(fleet, 100 * COUNT))


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    with Bench(tmp_path) as bench:
        keys = prepare(bench.data, 2, 1)
        bench.start_station()
        fleet = Fleet(bench, keys)
        fleet.wait("joined", 2)
        assert fleet.process.stdin is not None
        fleet.process.stdin.close()
        assert fleet.process.wait(30) == 0
