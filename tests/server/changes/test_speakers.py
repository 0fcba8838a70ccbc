"""Loudspeakers: what a person would look at is told, once a second each, and nothing else."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from server.changes.log import Changes
from server.changes.speakers import SpeakerWatch
from server.directory import Endpoint
from server.station import Station
from server.stepping import Step, Steps
from tests.support.stations import ROOT, S, a_station, join
from transport.control.messages import Telemetry

A, B = f"{ROOT}/A", f"{ROOT}/B"
WELL = Telemetry("idle", -96.0, 10.0, 5.0, 100, 0, 0, 0, 60.0)


class Watched:
    """A station, and what is told of it since it was looked at first."""

    def __init__(self, *names: str) -> None:
        self.station: Station = a_station()
        self.station.directory.units |= {A, B}
        for name in names:
            self.put(name)
        self.changes = Changes(1)
        self.steps = Steps()
        self.watch = SpeakerWatch(self.station, self.changes, lambda: self.steps)
        assert self.look(0) == []

    def put(self, name: str, **parts: Any) -> None:
        directory = self.station.directory
        known = directory.endpoints.get(name) or Endpoint(name, A)
        directory.put_endpoint(replace(known, **parts))

    def join(self, name: str, now_ns: int) -> object:
        return join(self.station, name, now_ns=now_ns)

    def says(self, name: str, now_ns: int, **parts: Any) -> None:
        """As a session does when telemetry comes."""
        speaker = self.station.speakers[name]
        speaker.last_seen_ns = now_ns
        speaker.told(replace(WELL, **parts))
        self.station.directory.touched.add(name)

    def look(self, now_ns: int) -> list[tuple[str, str]]:
        """Who was told of, and what."""
        before = self.changes.head
        for _ in self.watch.look(now_ns):
            pass
        found = self.changes.after(before, 100_000)
        assert found is not None
        return [(change.name, change.what.value) for change in found]


def test_what_there_was_at_the_beginning_is_no_news() -> None:
    watched = Watched("a", "b")
    assert watched.look(1 * S) == []


def test_one_is_added_comes_goes_and_is_removed() -> None:
    watched = Watched()
    watched.put("a")
    assert watched.look(1 * S) == [("a", "added")]
    session = watched.join("a", 3 * S)
    assert watched.look(3 * S) == [("a", "online")]
    watched.station.leave("a", session)
    assert watched.look(5 * S) == [("a", "offline")]
    session = watched.join("a", 6 * S)  # with nothing new about it
    assert watched.look(6 * S) == [("a", "online")]
    watched.station.leave("a", session)
    watched.look(7 * S)
    watched.station.revoke("a")
    assert watched.look(8 * S) == [("a", "changed")]
    watched.station.forget("a")
    assert watched.look(9 * S) == [("a", "removed")]


@pytest.mark.parametrize(
    "parts",
    [{"state": "playing"}, {"hearing": "live-1"}, {"way": "udp"}, {"authenticated": False}],
    ids=str,
)
def test_what_a_person_would_look_at_is_told(parts: dict[str, Any]) -> None:
    watched = Watched("a")
    watched.join("a", 1 * S)
    watched.says("a", 1 * S)
    watched.look(1 * S)
    watched.says("a", 3 * S, **parts)
    assert watched.look(3 * S) == [("a", "changed")]


@pytest.mark.parametrize(
    "parts",
    [
        {"packets_received": 900, "packets_lost": 3},
        {"level_dbfs": -20.0},
        {"sync_error_us": 900.0, "uptime_s": 99.0},
        {"loss": 0.1, "jitter_ms": 7.0},
    ],
    ids=str,
)
def test_figures_are_not(parts: dict[str, Any]) -> None:
    watched = Watched("a")
    watched.join("a", 1 * S)
    watched.says("a", 1 * S)
    watched.look(1 * S)
    watched.says("a", 3 * S, **parts)
    assert watched.look(3 * S) == []


@pytest.mark.parametrize(
    "parts", [{"volume": 5}, {"muted": True}, {"trim_us": 9}, {"tags": frozenset({"t"})}], ids=str
)
def test_what_an_operator_changes_is_told(parts: dict[str, Any]) -> None:
    watched = Watched("a")
    watched.put("a", **parts)
    assert watched.look(2 * S) == [("a", "changed")]
    watched.put("a", **parts)
    assert watched.look(4 * S) == []


def test_a_fault_is_told_as_one_and_so_is_another_and_then_that_there_is_none() -> None:
    watched = Watched("a")
    watched.join("a", 1 * S)
    watched.look(1 * S)
    watched.says("a", 3 * S, fault="no sound device")
    assert watched.look(3 * S) == [("a", "fault")]
    watched.says("a", 5 * S, fault="too hot")
    assert watched.look(5 * S) == [("a", "fault")]
    watched.says("a", 7 * S)
    assert watched.look(7 * S) == [("a", "changed")]


def test_a_fault_that_its_neighbours_tell_is_one_as_well() -> None:
    watched = Watched("a")
    watched.join("a", 1 * S)
    watched.says("a", 1 * S)
    watched.look(1 * S)
    watched.steps = Steps({"a": Step(5_000.0, 7)})
    watched.says("a", 3 * S)
    assert watched.look(3 * S) == [("a", "fault")]


def test_however_often_it_changes_it_is_told_once_a_second_and_at_last_as_it_is() -> None:
    watched = Watched("a")
    watched.join("a", 1 * S)
    for step in range(41):
        now_ns = 1 * S + step * S // 10
        watched.says("a", now_ns, state="playing" if step % 2 else "idle", way="udp")
        watched.look(now_ns)
    found = watched.changes.after(0, 99)
    assert found is not None
    at_ns = [change.at_ns for change in found]
    assert len(at_ns) == 4
    assert all(after - before >= S for before, after in itertools.pairwise(at_ns))
    # What it has come to in the end is held back, and not forgotten.
    assert watched.look(6 * S) == [("a", "changed")]
    watched.says("a", 6 * S + S // 2, state="playing", way="udp")
    assert watched.look(6 * S + S // 2) == []
    assert watched.look(7 * S) == [("a", "changed")]


def test_who_falls_silent_is_missed_though_nothing_is_heard_of_it() -> None:
    names = [f"s{number:04}" for number in range(1200)]
    watched = Watched(*names)
    for name in names:
        watched.join(name, 1 * S)
    assert len(watched.look(1 * S)) == 1200
    for name in names[1:]:
        watched.says(name, 100 * S)
    told = watched.look(100 * S)
    for step in range(1, 5):  # a part of them each time
        told += watched.look(100 * S + step * S // 4)
    assert [told for told in told if told[1] != "changed"] == [("s0000", "offline")]


def test_whose_session_ends_is_missed_at_once_however_many_there_are() -> None:
    names = [f"s{number:04}" for number in range(1200)]
    watched = Watched(*names)
    sessions = {name: watched.join(name, 1 * S) for name in names}
    watched.look(1 * S)
    watched.station.leave(names[-1], sessions[names[-1]])
    assert watched.look(2 * S) == [(names[-1], "offline")]


def test_who_is_moved_concerns_both_units() -> None:
    watched = Watched("a")
    watched.put("a", unit=B)
    watched.look(2 * S)
    watched.put("a", volume=3)
    watched.look(4 * S)
    watched.station.forget("a")
    watched.look(6 * S)
    found = watched.changes.after(0, 9)
    assert found is not None
    assert [change.units for change in found] == [(A, B), (B,), (B,)]


def test_it_is_looked_at_in_slices() -> None:
    watched = Watched()
    for number in range(1000):
        watched.put(f"s{number}")
    assert sum(1 for _ in watched.watch.look(2 * S)) == 5
    assert watched.changes.head == 1000
