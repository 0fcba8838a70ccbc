"""What Prometheus would see of a real station that speaks to a real loudspeaker."""

import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.processes import Bench, wait_until

pytestmark = pytest.mark.realtime

PROCESSES = {"supervisor", "control", "producer", "sender", "usher", "gateway"}


def figures(station: Bench) -> dict[str, float]:
    """By name; samples of one name added up."""
    told: dict[str, float] = {}
    for family in text_string_to_metric_families(station.text("/metrics")):
        for sample in family.samples:
            told[sample.name] = told.get(sample.name, 0) + sample.value
    return told


@pytest.fixture
def on_air(station: Bench) -> Bench:
    station.start_speaker("a", "--output", "null")
    station.wait_until_idle(["a"])
    station.start("live", "tone", "--server", station.address, "--to", "a", log="live")

    def is_seen() -> bool:
        told = figures(station)  # each process reports for itself, and when it comes to it
        sent = told["loa_sender_datagrams_total"] > 100
        return sent and told["loa_usher_paths"] == told["loa_sender_destinations"] == 1

    wait_until(is_seen, "sound on its way", 30)
    return station


def test_sound_that_is_sent_is_seen(on_air: Bench) -> None:
    told = figures(on_air)
    assert told["loa_control_joins_total"] == told["loa_control_sessions"] == 1
    assert told["loa_speakers_enrolled"] == told["loa_speakers_online"] == 1
    assert told["loa_usher_paths"] == told["loa_sender_destinations"] == 1
    assert told["loa_usher_time_answers_total"] > 0
    # What is counted as late or in time is what was sent; reports are not of the same moment.
    assert told["loa_sender_lateness_seconds_count"] == told["loa_sender_datagrams_total"]
    assert told["loa_sender_stale_total"] == told["loa_sender_overruns_total"] == 0
    wait_until(
        lambda: figures(on_air).get("loa_programme_level_dbfs", -96) > -24, "the tone's level", 30
    )


def test_every_process_is_seen_with_what_it_takes(on_air: Bench) -> None:
    seen: dict[str, float] = {}
    for family in text_string_to_metric_families(on_air.text("/metrics")):
        if family.name == "loa_process_resident_memory_bytes":
            seen = {sample.labels["process"]: sample.value for sample in family.samples}
    assert seen.keys() == PROCESSES
    assert all(10_000_000 < resident < 1_000_000_000 for resident in seen.values())


def test_prometheus_itself_finds_nothing_wrong(on_air: Bench) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool")
    said = subprocess.run(
        ["promtool", "check", "metrics"],
        input=on_air.text("/metrics"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
