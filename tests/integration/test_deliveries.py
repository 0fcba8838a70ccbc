"""One D for a programme: loudspeakers on unlike networks sound as one, a slower newcomer later."""

import random
import time
from dataclasses import dataclass
from typing import Any

import pytest

from bench.demo import VOICE, wrong_world
from bench.measure import Recording, offset_seconds, spread_ms
from bench.processes import Bench, end, wait_until
from transport.net.clocks import now_ns

pytestmark = pytest.mark.realtime

MEMBERS = {
    "lan": ("--delivery", "lan"),
    "lan-group": ("--delivery", "lan", "--multicast"),
    "wan": ("--delivery", "wan"),
}
NEWCOMER = "saver"
WINDOW_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Heard:
    recordings: dict[str, Recording]
    before: dict[str, Any]
    after: dict[str, Any]
    rows: dict[str, dict[str, Any]]
    stale: int
    came_ns: int
    ended_ns: int


def _hear(bench: Bench, *names: str) -> bool:
    rows = bench.speakers()
    return all(rows.get(name, {}).get("hearing") for name in names)


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    draw = random.Random(20261122)
    with Bench(tmp_path_factory.mktemp("deliveries")) as bench:
        bench.start_station()
        for number, (name, words) in enumerate(MEMBERS.items()):
            world = wrong_world(draw, number)
            bench.start_speaker(name, "--buffer-ms", "120", *words, simulate=world)
        bench.wait_until_idle(tuple(MEMBERS))
        what = (str(VOICE), "--repeat", "9", "--zone", "all", "--server", bench.address)
        voice = bench.start("live", *what, log="live")
        wait_until(lambda: _hear(bench, *MEMBERS), "the programme")
        time.sleep(5)  # it is heard by its first listeners alone
        (before,) = bench.get("/api/v1/programmes")
        world = wrong_world(draw, len(MEMBERS))
        late = ("--delivery", NEWCOMER, "--buffer-ms", "120")
        bench.start_speaker(NEWCOMER, *late, simulate=world)
        wait_until(lambda: _hear(bench, NEWCOMER), "the newcomer's sound")
        came_ns = now_ns()
        time.sleep(6)
        (after,), rows = bench.get("/api/v1/programmes"), bench.speakers()
        ended_ns = now_ns()
        assert end(voice) == 0
        wait_until(lambda: not bench.get("/api/v1/programmes"), "the programme's end")
        stale = bench.get("/api/v1/station")["sender"]["stale"]
    recordings = {n: Recording.load(bench.recording(n)) for n in (*MEMBERS, NEWCOMER)}
    return Heard(recordings, before, after, rows, stale, came_ns, ended_ns)


def test_d_is_the_slowest_members_and_a_slower_newcomer_does_not_change_it(heard: Heard) -> None:
    assert heard.before["playout_delay_ms"] == heard.after["playout_delay_ms"] == 500.0
    assert heard.before["frames_ms"] == heard.after["frames_ms"] == [10.0, 20.0]


def test_lan_and_wan_sound_as_one_before_and_after_the_newcomer(heard: Heard) -> None:
    members = [heard.recordings[name] for name in MEMBERS]
    first_ns = heard.came_ns - 2 * WINDOW_NS
    starts = range(first_ns, heard.ended_ns - 2 * WINDOW_NS, WINDOW_NS)
    worst_ms = spread_ms(members, [(at, WINDOW_NS) for at in starts])
    print(f"lan and wan, any two, any 2 s: {worst_ms * 1000:.0f} us apart at most")
    assert worst_ms < 0.2


def test_the_newcomer_is_marked_and_heard_at_its_own_d(heard: Heard) -> None:
    assert heard.rows[NEWCOMER]["in_step"] is False
    assert [heard.rows[name]["in_step"] for name in MEMBERS] == [True] * 3
    assert heard.after["not_in_step"] == [NEWCOMER]
    pair = heard.recordings["lan"], heard.recordings[NEWCOMER]
    late = offset_seconds(*pair, heard.came_ns + 10**9, 2 * 10**9, 1.0)
    assert late.seconds == pytest.approx(0.5, abs=0.001)


def test_nobody_lost_a_packet(heard: Heard) -> None:
    # What the sender slept over it does not send, and says so: nothing else may be missing.
    lost = {n: heard.rows[n]["packets_lost"] for n in MEMBERS}
    assert {name: n for name, n in lost.items() if n > heard.stale} == {}
