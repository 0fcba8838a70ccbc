"""Keys that change under a programme, and ways that close: real processes, in real time."""

import itertools
import json
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from bench.measure import Recording, offset_seconds
from bench.processes import Bench, end, wait_until
from endpoints.station.enrol import Enrolment, Wish
from endpoints.station.store import SpeakerStore
from tests.support.cable import STATION, Firewall, built_firewall
from tests.support.ports import port_of_its_own
from transport.net.clocks import now_ns
from transport.security.enrolment import EnrolmentCode

pytestmark = pytest.mark.realtime

SECOND = 1_000_000_000
# By unicast, and by multicast. All buffers are large: what a busy machine does is not the question.
STAYING = {"apart": (), "group": ("--multicast",)}
BUFFER = ("--buffer-ms", "200")
# Of those of whom no frame may be missing: half a second may be taken from them, or from a sender.
LARGE = ("--buffer-ms", "600")
DELAY_S = 1.2
# A peak of -20 dBFS is an RMS of 0.0707; a frame that is missing is a block without it.
TONE = 0.0707
BLOCK_S = 0.005


def enrol(bench: Bench, *names: str) -> None:
    """Loudspeakers that have a key here, and are not started."""

    async def one(name: str) -> None:
        code = EnrolmentCode.parse(bench.code(name))
        with closing(SpeakerStore.open(bench.state(name))) as store:
            wish = Wish(name, multicast=False)
            await Enrolment(
                store, code, wish, lambda: 0.5, secrets.token_bytes, lambda _: None
            ).run()

    for name in names:
        trio.run(one, name)


def speak(bench: Bench, source: str = "tone") -> subprocess.Popen[str]:
    """To everybody; returns when all that are there sound."""
    delay = ("--playout-delay-ms", f"{DELAY_S * 1e3:.0f}")
    voice = bench.start(
        "live", source, "--server", bench.address, "--to", "all", *delay, log="live"
    )
    wait_until(lambda: all(map(sounds, bench.speakers().values())), "sound")
    return voice


def sounds(row: dict[str, Any]) -> bool:
    """Whether a loudspeaker is heard, unless it is not there."""
    return row["state"] in {"offline", "not enrolled"} or row.get("level_dbfs", -96) > -60


def stays(bench: Bench) -> None:
    """The two that must not notice anything are there."""
    for name, words in STAYING.items():
        bench.start_speaker(name, *LARGE, *words)
    bench.wait_until_idle(list(STAYING))


def revoke(bench: Bench, name: str) -> int:
    """When it was done, CLOCK_BOOTTIME."""
    done = bench.run("speakers", "revoke", name)
    assert done.returncode == 0, done.stderr
    return now_ns()


def loud(recording: Recording) -> np.ndarray:
    """Of each block whether the tone is in it."""
    size = round(BLOCK_S * recording.rate)
    whole = len(recording.samples) // size * size
    blocks = recording.samples[:whole].reshape(-1, size)
    found: np.ndarray = np.sqrt(np.mean(blocks**2, axis=1)) > TONE / 2
    return found


def heard_ns(recording: Recording) -> tuple[int, int]:
    """When the tone was heard first, and last."""
    (found,) = np.nonzero(loud(recording))
    first, last = (int(block) * round(BLOCK_S * SECOND) for block in (found[0], found[-1]))
    return recording.first_sample_time_ns + first, recording.first_sample_time_ns + last


def holes(recording: Recording) -> int:
    """The blocks without the tone between its begin and its end."""
    there = loud(recording)
    (found,) = np.nonzero(there)
    return int(np.sum(~there[found[0] : found[-1] + 1]))


def assert_nothing_was_lost(bench: Bench) -> None:
    rows = bench.speakers()
    found = {}
    for name in STAYING:
        row = rows[name]
        found[name] = row["packets_lost"], holes(Recording.load(bench.recording(name)))
        figures = {k: row[k] for k in row if k.startswith("packets_")}
        # A busy machine makes holes too, and late packets or underruns tell them from lost frames.
        print(name, figures | {"underruns": row["underruns"], "holes": found[name][1]})
    assert found == dict.fromkeys(STAYING, (0, 0))


# ------------------------------------------------------------------ revocation
def test_ten_epochs_begin_and_nobody_who_stays_loses_a_frame(station: Bench) -> None:
    stays(station)
    gone = [f"gone-{number}" for number in range(10)]
    enrol(station, *gone, "late")
    speak(station)
    ssrcs = [_sounding(station)]
    for name in gone[:5]:
        _revoke_and_wait(station, name, ssrcs)
    station.start_speaker("late", *LARGE)
    for name in gone[5:]:
        _revoke_and_wait(station, name, ssrcs)
    wait_until(lambda: sounds(station.speakers()["late"]), "the late one")
    time.sleep(DELAY_S + 0.5)  # the newest epoch sounds so much later than it is sent
    assert len(set(ssrcs)) == 11
    assert_nothing_was_lost(station)
    late = Recording.load(station.recording("late"))
    # A busy machine begins a process late, so it counts from when its output is up. Whoever comes
    # hears what is said from then on, and that sounds so much later.
    began_s = (heard_ns(late)[0] - late.first_sample_time_ns) / SECOND - DELAY_S
    print(f"the late one hears what is said {began_s:.2f} s after its output began")
    assert holes(late) == 0
    assert began_s < 2


def _revoke_and_wait(bench: Bench, name: str, ssrcs: list[str]) -> None:
    revoke(bench, name)
    wait_until(lambda: _sounding(bench) != ssrcs[-1], "another epoch", 5)
    ssrcs.append(_sounding(bench))


def _sounding(bench: Bench) -> str:
    """The SSRC of the epoch that sounds."""
    (stream,) = bench.get("/api/v1/programmes/live-1/key")["streams"]
    return str(stream["ssrc"])


def test_one_that_is_revoked_is_silent_and_refused_soon_and_the_others_play_on(
    station: Bench,
) -> None:
    stays(station)
    speaker = station.start_speaker("gone", *BUFFER)
    away = station.start_speaker("away", "--output", "null")
    station.wait_until_idle(["gone", "away"])
    assert end(away, signal.SIGTERM) == 0
    speak(station)
    revoked_ns = revoke(station, "gone")
    revoke(station, "away")
    assert speaker.wait(10) == 1
    ended_s = (now_ns() - revoked_ns) / SECOND
    assert "not enrolled here (or was revoked)" in station.log("gone").splitlines()[-1]
    silent_s = (heard_ns(Recording.load(station.recording("gone")))[1] - revoked_ns) / SECOND
    print(f"after its revocation: sounds for {silent_s:.2f} s, ends after {ended_s:.2f} s")
    assert silent_s < 1
    assert ended_s < 3

    returned_s = time.monotonic()
    for name in ("gone", "away"):
        back = station.start_speaker(name, "--output", f"wav:{station.recording('never')}")
        assert back.wait(10) == 1
        assert not np.any(Recording.load(station.recording("never")).samples)
    print(f"both are refused {time.monotonic() - returned_s:.2f} s after they return")
    rows = station.speakers()
    assert [rows[name]["state"] for name in ("gone", "away")] == ["not enrolled"] * 2
    time.sleep(2)
    assert_nothing_was_lost(station)


# ------------------------------------------------------------------ the station's key
def test_the_station_s_key_is_rotated_under_a_programme_and_the_old_one_is_worth_nothing(
    bench: Bench,
) -> None:
    port = port_of_its_own()
    bench.start_station(port=port)
    stays(bench)
    before = bench.folder / "keys.before"
    shutil.copytree(bench.data.keys, before)
    speak(bench)
    assert bench.run("keys", "rotate").returncode == 0
    rotated_s = time.monotonic()
    wait_until(lambda: generations(bench) == [2, 2], "everybody to know the new key", 15)
    wait_until(lambda: everybody_plays(bench), "everybody to play")
    print(f"everybody is back {time.monotonic() - rotated_s:.2f} s after the key was rotated")
    time.sleep(3)
    assert_nothing_was_lost(bench)

    # A thief of the old key has all that the station had: its folder, as it was.
    end(bench.station)
    after = bench.data.keys.rename(bench.folder / "keys.after")
    shutil.copytree(before, bench.data.keys)
    lines = {name: len(bench.log(name).splitlines()) for name in STAYING}
    bench.start_station(port=port)
    for name, count in lines.items():
        _wait_for_word(bench, name, count, "its key has been replaced by a newer one")
    assert [row["state"] for row in bench.speakers().values()] == ["offline"] * 2

    end(bench.station)
    shutil.rmtree(bench.data.keys)
    after.rename(bench.data.keys)
    bench.start_station(port=port)
    bench.wait_until_idle(list(STAYING))


def _wait_for_word(bench: Bench, name: str, count: int, word: str) -> None:
    """After the first so many lines."""
    wait_until(lambda: word in "".join(bench.log(name).splitlines()[count:]), word)


def generations(bench: Bench) -> list[int]:
    """Which the loudspeakers know."""
    states = (json.loads(bench.state(name).read_text()) for name in STAYING)
    return [state["station"]["generation"] for state in states]


def everybody_plays(bench: Bench) -> bool:
    return all(row["state"] == "playing" for row in bench.speakers().values())


# ------------------------------------------------------------------ UDP that is blocked
@pytest.fixture
def firewall() -> Iterator[Firewall]:
    """Skips where there are no namespaces."""
    with built_firewall() as firewall:
        yield firewall


def _way(bench: Bench, name: str) -> str:
    return str(bench.speakers()[name].get("way", ""))


def test_where_udp_is_blocked_sound_comes_through_the_gateway_by_itself_and_in_step(
    firewall: Firewall, tmp_path: Path
) -> None:
    with Bench(tmp_path) as bench:
        bench.start_station("--bind", STATION)
        firewall.block_udp()
        bench.start_speaker("here", *BUFFER)
        with firewall.at_the_speakers():
            bench.start_speaker("behind", *BUFFER)
        bench.wait_until_idle(["here", "behind"])
        source = str(Path(__file__).parents[2] / "bench" / "audio" / "voice.wav")
        words = [source, "--repeat", "50", "--server", bench.address, "--to", "all"]
        bench.start("live", *words, "--playout-delay-ms", "500", log="live")
        wait_until(lambda: sounds(bench.speakers()["behind"]), "sound behind the firewall")
        assert (_way(bench, "here"), _way(bench, "behind")) == ("udp", "gateway")
        blocked = _watched(bench, 10)

        firewall.open_udp()
        opened_s = wait_until(lambda: _way(bench, "behind") == "udp", "the way by UDP", 40)
        opened = _watched(bench, 6)

        firewall.block_udp()
        closed_s = wait_until(lambda: _way(bench, "behind") == "gateway", "the gateway", 40)
        closed = _watched(bench, 6)
        rows = bench.speakers()
    print(f"by UDP {opened_s:.1f} s after it opened, by the gateway {closed_s:.1f} s after it shut")
    print({name: {k: v for k, v in row.items() if "packets" in k} for name, row in rows.items()})
    one, other = (Recording.load(bench.recording(name)) for name in ("here", "behind"))
    for what, windows in {"blocked": blocked, "open": opened, "blocked again": closed}.items():
        apart = [offset_seconds(one, other, at, 2 * SECOND) for at in windows]
        worst_us = max(abs(offset.seconds) for offset in apart) * 1e6
        print(f"{what}: {worst_us:.0f} us apart at most")
        # A moment that a busy machine takes from either is a hole in one of these windows.
        assert np.median([offset.correlation for offset in apart]) > 0.95
        assert worst_us < 1000


def _watched(bench: Bench, seconds: int) -> list[int]:
    """Windows of two seconds, after a second in which all settles; CLOCK_BOOTTIME."""
    time.sleep(1)
    began_ns = now_ns()
    time.sleep(seconds + 0.5)  # and is written within 0.2 s
    return [began_ns + at * SECOND for at in range(0, seconds - 1, 2)]


# ------------------------------------------------------------------ loudspeakers that are killed
def test_a_loudspeaker_that_is_killed_keeps_its_identity(station: Bench) -> None:
    """Also in the moments in which it writes its state, that is, when it is welcomed."""
    enrol(station, "a")
    kept = json.loads(station.state("a").read_text())
    numbers = [kept["station"]["session_number"]]
    for pause_s in itertools.islice(itertools.cycle([0.9, 1.0, 1.1, 1.2, 1.3]), 5):
        process = station.start_speaker("a", "--output", "null")
        time.sleep(pause_s)
        process.kill()
        process.wait()
        state = json.loads(station.state("a").read_text())
        assert (state["seed"], state["name"]) == (kept["seed"], "a")
        numbers.append(state["station"]["session_number"])
    assert numbers == sorted(numbers)
    station.start_speaker("a", "--output", "null")
    station.wait_until_idle(["a"])
    (row,) = station.speakers().values()
    assert row["enrolled"]
    assert [path.name for path in station.folder.glob(".a.state.json*")] == []
