"""Two hundred loudspeakers in one process, a real station, a real voice: nobody misses a packet."""

import json
from pathlib import Path

import pytest

from bench.fleet_faults import stormed
from bench.fleet_load import shares
from bench.processes import Bench
from tests.support.fleet import TWO_HUNDRED, on_air, undisturbed

pytestmark = pytest.mark.realtime

SECONDS = 4.0
PACKETS_A_SECOND = 50


def test_two_hundred_loudspeakers_receive_every_packet(tmp_path: Path) -> None:
    with on_air(tmp_path) as scene:
        window = undisturbed(scene, SECONDS)
    heard, sent = window.fleet, window.sent
    print(
        f"{heard.received} of {heard.expected} received, p99 {heard.late_at_ms(0.99):.2f} ms late "
        f"there and {sent.late.at_ms(0.99):.2f} ms at the sender; "
        f"cores: { {k: round(v, 3) for k, v in shares(window.cpu_s, window.seconds).items()} }"
    )
    assert heard.expected > TWO_HUNDRED * PACKETS_A_SECOND * SECONDS / 2
    assert heard.received_ratio >= 0.9999
    assert heard.corrupt == heard.simulator_dropped == 0
    # Its sender's word on either end of the window may be a second old, and judging takes longer.
    assert sent.datagrams >= heard.received * 0.6
    assert sent.stale == sent.overruns == sent.errors == 0


def test_a_storm_of_a_hundred_and_eighty_costs_the_other_twenty_nothing(tmp_path: Path) -> None:
    with on_air(tmp_path, apart=180) as scene:
        found = stormed(scene, scene.fleets[1:])
    stayed = found.stayed.fleet
    print(
        f"180 back after {found.join_s:.2f} s; {stayed.received} of {stayed.expected} received "
        f"by those that stayed, p99 {stayed.late_at_ms(0.99):.2f} ms late"
    )
    assert found.join_s < 15.0
    assert stayed.endpoints == 20
    assert stayed.expected > 20 * PACKETS_A_SECOND
    assert stayed.lost == stayed.rejoined == 0


def test_the_bench_says_what_others_look_for(bench: Bench, tmp_path: Path) -> None:
    file, rows = tmp_path / "fleet.json", tmp_path / "fleet.csv"
    words = ["--endpoints", "20", "--seconds", "2", "--json", str(file), "--csv", str(rows)]
    made = bench.run("bench", "fleet", *words, timeout=120)
    assert made.returncode == 0, made.stderr
    figures = json.loads(file.read_text())
    assert figures["endpoints"] == 20
    assert figures["received_ratio"] >= 0.999
    assert figures["cpu_us_per_endpoint_second"] > 0
    assert {"control", "sender", "usher", "producer", "gateway", "simulator", "voice"} <= set(
        figures["processes"]
    )
    assert figures["engine_alone"]["datagrams_per_second"] > 20 * PACKETS_A_SECOND / 2
    assert len(rows.read_text().splitlines()) > 2
