"""`loa events` at a real station: a loudspeaker comes and goes, a programme begins and ends."""

import json
import os
import queue
import signal
import subprocess
import threading
from typing import Any

import pytest

from bench.processes import Bench

pytestmark = pytest.mark.realtime

PATIENCE_S = 30.0


class Followed:
    """What `loa events --json` prints, as it does."""

    def __init__(self, station: Bench, *options: str) -> None:
        words = ["--server", station.address, "--json", *options]
        self.process = station.start("events", *words, log="events")
        self._lines: queue.Queue[str] = queue.Queue()
        self.seen: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def until(self, event: str, name: str = "", what: str = "", **row: Any) -> dict[str, Any]:
        """The next that is like this, as far as it is said; AssertionError if none comes."""
        wanted = {"event": event, "name": name, "what": what}
        while True:
            try:
                told: dict[str, Any] = json.loads(self._lines.get(timeout=PATIENCE_S))
            except queue.Empty:
                seen = [(t["event"], t.get("name"), t.get("what")) for t in self.seen]
                raise AssertionError(f"no {wanted} {row} came after {seen}") from None
            self.seen.append(told)
            of_row = told.get("row") or {}
            if all(told.get(key) == value for key, value in wanted.items() if value) and all(
                of_row.get(key) == value for key, value in row.items()
            ):
                return told


def _place(told: dict[str, Any]) -> tuple[int, ...]:
    return tuple(map(int, told["id"].split("-")[:2]))


def test_what_happens_is_printed_as_it_does(station: Bench) -> None:
    followed = Followed(station)
    followed.until("reset")
    station.code("b")
    assert followed.until("enrolment", what="added")["row"]["name"] == "b"
    speaker = station.start_speaker("a", "--output", "null")
    if followed.until("speaker", "a", "added")["row"]["state"] != "idle":
        followed.until("speaker", "a", state="idle")
    live = station.start("live", "tone", "--server", station.address, "--to", "a", log="live")
    begun = followed.until("programme", "live-1", "begun")
    assert begun["row"]["to"] == ["a"]
    followed.until("speaker", "a", "changed", hearing="live-1")
    live.terminate()
    assert followed.until("programme", "live-1", "ended")["row"]["state"] == "ended"
    assert followed.until("programme", "live-1", "removed")["row"] is None
    speaker.terminate()
    assert followed.until("speaker", "a", "offline")["row"]["state"] == "offline"
    assert followed.seen == sorted(followed.seen, key=_place)


def test_a_control_that_is_born_again_is_followed_from_there_on(station: Bench) -> None:
    followed = Followed(station, "--kinds", "unit")
    life, _ = _place(followed.until("reset"))
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(station.station.pid)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (control,) = [line.split()[0] for line in listed.splitlines() if "-m server " in line]
    os.kill(int(control), signal.SIGKILL)
    again, _ = _place(followed.until("reset"))
    assert again > life
    unit = f"{station.get('/api/v1/units')[0]}/x"
    station.send("POST", "/api/v1/units", {"path": unit})
    assert followed.until("unit", unit, "added")["row"] == unit
