"""What an operator does at a desk, with a real station and two real loudspeakers."""

import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.processes import LOA, Bench, end, wait_until
from tests.support.ports import port_of_its_own

pytestmark = pytest.mark.realtime

# 1 kHz at a peak of -20 dBFS.
TONE_DBFS = -23.0
# What the station may take at most to notice that one is gone.
NOTICED_S = 100.0


def _loa(bench: Bench, *words: str) -> subprocess.CompletedProcess[str]:
    return bench.run(*words)


def _does(bench: Bench, *words: str) -> str:
    done = _loa(bench, *words)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def _show(bench: Bench, name: str) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(_does(bench, "speakers", "show", name, "--json"))
    return row


def _sounds(bench: Bench, name: str, dbfs: float) -> Callable[[], bool]:
    return lambda: abs(bench.speakers()[name]["level_dbfs"] - dbfs) < 1


@pytest.fixture
def commune(station: Bench) -> Bench:
    """A station with two loudspeakers that are ready."""
    for name in ("chợ", "trường"):
        station.start_speaker(name, "--output", "null")
    station.wait_until_idle(["chợ", "trường"])
    return station


def test_zones_follow_where_loudspeakers_belong(commune: Bench) -> None:
    _does(commune, "units", "add", "Bench/Thôn 3")
    assert "0 loudspeakers" in _does(commune, "zones", "add", "Bắc", "--unit", "Bench/Thôn 3")
    _does(commune, "speakers", "set", "chợ", "--unit", "Bench/Thôn 3", "--position", "21,105.5")
    assert _does(commune, "zones", "show", "Bắc").splitlines()[1:] == ["  chợ"]
    assert [
        line.split()[0] for line in _does(commune, "speakers", "--zone", "Bắc").splitlines()
    ] == [
        "name",
        "chợ",
    ]
    square = "20,105 20,106 22,106 22,105"
    assert "  chợ\n" in _does(commune, "zones", "add", "x", "--polygon", square, "--preview")


def test_a_tone_is_as_loud_as_was_said(commune: Bench) -> None:
    tone = ("tone", "--to", "chợ", "--seconds", "60")
    assert _does(commune, *tone) == "tone: chợ\n"
    wait_until(_sounds(commune, "chợ", TONE_DBFS), "the tone")
    assert _show(commune, "trường")["level_dbfs"] == -96.0
    _does(commune, "volume", "50", "--to", "all")
    wait_until(lambda: commune.speakers()["chợ"]["level_dbfs"] < TONE_DBFS - 3, "less")
    _does(commune, "mute", "--to", "chợ")
    wait_until(_sounds(commune, "chợ", -96.0), "silence")
    _does(commune, "mute", "--to", "chợ", "--off")
    _does(commune, "volume", "100", "--to", "all")
    wait_until(_sounds(commune, "chợ", TONE_DBFS), "the tone again")


def test_one_that_identifies_itself_is_heard(commune: Bench) -> None:
    # Three beeps may be over before a busy machine has ended the command.
    words = ("--to", "trường", "--server", commune.address)
    asked = commune.start("identify", *words, log="identify")
    wait_until(lambda: commune.speakers()["trường"]["level_dbfs"] > -60, "a beep", 30)
    assert asked.wait(10) == 0
    assert asked.stdout is not None
    assert (asked.stdout.read(), commune.log("identify")) == ("identify: trường\n", "")


def test_one_that_restarts_begins_anew_in_its_own_process(station: Bench) -> None:
    speaker = station.start_speaker("chợ", "--output", "null")
    station.wait_until_idle(["chợ"])
    wait_until(lambda: station.speakers()["chợ"]["uptime_s"] > 3, "some time")
    assert _does(station, "restart", "--to", "chợ") == "restart: chợ\n"
    wait_until(lambda: station.speakers()["chợ"].get("uptime_s", 9) < 3, "another life", 20)
    wait_until(lambda: station.speakers()["chợ"]["state"] == "idle", "its return", 20)
    assert speaker.poll() is None, "it is the same process"


def test_stop_ends_a_voice_that_says_so_in_one_line(commune: Bench) -> None:
    words = ["tone", "--server", commune.address, "--to", "all"]
    voice = commune.start("live", *words, log="voice")
    wait_until(lambda: commune.speakers()["chợ"]["packets_received"] > 0, "the voice")
    assert "live-1" in _does(commune, "programmes")
    assert _does(commune, "stop") == "live-1 ended\n"
    status = voice.wait(10)
    assert voice.stdout is not None
    said = (voice.stdout.read() + commune.log("voice")).splitlines()[1:]
    # Who has not answered in 0.3 s, of a busy machine, joins a moment later.
    said = [line for line in said if not line.startswith("not listening yet: ")]
    print(f"loa live was stopped: {status}, {said}")
    assert status in {0, 1}
    assert len(said) == 1
    assert "ended" in said[0]
    wait_until(lambda: not commune.get("/api/v1/programmes"), "the programme's end", 20)
    assert "it was stopped" in _does(commune, "programmes", "--past")


@pytest.mark.parametrize(
    ("number", "how"), [(signal.SIGKILL, "killed"), (signal.SIGSTOP, "cut off")]
)
def test_one_that_is_gone_is_shown_as_offline(station: Bench, number: int, how: str) -> None:
    speaker = station.start_speaker("chợ", "--output", "null")
    station.start_speaker("trường", "--output", "null")
    station.wait_until_idle(["chợ", "trường"])
    speaker.send_signal(number)
    gone_s = time.monotonic()

    def is_offline() -> bool:
        return bool(_show(station, "chợ")["state"] == "offline")

    try:
        wait_until(is_offline, "the station to notice", NOTICED_S)
        print(f"a loudspeaker that was {how} is offline after {time.monotonic() - gone_s:.1f} s")
        table = _does(station, "speakers").splitlines()
        assert re.fullmatch(r"chợ .* offline .* it cannot be reached", table[1])
        assert " idle " in table[2]
        done = _loa(station, "identify", "--to", "all")
        assert (done.returncode, done.stdout) == (1, "identify: trường\n")
        assert done.stderr.startswith("loa identify: not chợ: ")
        assert len(done.stderr.splitlines()) == 1
    finally:
        if number == signal.SIGSTOP:
            speaker.send_signal(signal.SIGCONT)


class Screen:
    """What a program has written to a terminal of 100 columns and 24 lines."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int) -> None:
        self.process = process
        self._master = master
        self._written = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:
                return
            self._written += data

    def wait_for(self, text: str) -> None:
        """Until it is written anew."""
        before = len(self._written)
        wait_until(lambda: text in self._written[before:].decode(errors="replace"), text)


@contextmanager
def on_terminal(bench: Bench, *words: str) -> Iterator[Screen]:
    """A verb on a terminal of its own."""
    master, slave = pty.openpty()
    env = {**bench.environment, "TERM": "xterm", "COLUMNS": "100", "LINES": "24"}
    process = subprocess.Popen(
        [*LOA, *words], stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
    )
    os.close(slave)
    try:
        yield Screen(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_top_outlives_its_station_and_ends_with_ctrl_c(bench: Bench) -> None:
    port = port_of_its_own()
    bench.start_station(port=port)
    with on_terminal(bench, "top", "--server", bench.address) as screen:
        screen.wait_for("0/0 online")
        end(bench.station)
        screen.wait_for("station not found")
        bench.start_station(port=port)
        bench.start_speaker("chợ", "--output", "null")
        screen.wait_for("1/1 online")
        screen.process.send_signal(signal.SIGINT)
        assert screen.process.wait(5) == 0
        assert b"Traceback" not in screen._written


def test_top_without_a_terminal_is_one_look(commune: Bench) -> None:
    lines = _does(commune, "top").splitlines()
    assert lines[0].startswith("Bench   2/2 online")
    assert [line.split()[0] for line in lines[-2:]] == ["chợ", "trường"]


def test_an_output_that_cannot_be_written_is_one_line(station: Bench) -> None:
    with Path("/dev/full").open("wb") as full:
        done = station.run("zones", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "loa: the output cannot be written: No space left on device\n"
