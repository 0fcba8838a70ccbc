"""What Prometheus is told, read back by its own parser."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.metrics import ControlFigures, Figures, exposition
from server.processes.bus import (
    LATENESS_BOUNDS_US,
    GatewayReport,
    ProducerReport,
    ProgrammeReport,
    SenderReport,
    UsherReport,
    pack_sessions,
)
from server.stepping import Step, Steps
from server.usage import ProcessUse

DOCS = Path(__file__).parents[2] / "docs"
DASHBOARD = DOCS / "grafana.json"
LATENESS = tuple(range(1, len(LATENESS_BOUNDS_US) + 2))
CONTROL = ControlFigures(
    name='Tân "Phú"\n',
    registered=5,
    enrolled=4,
    online=3,
    faulty=2,
    zones=1,
    programmes=6,
    sessions=7,
    joins=8,
    handshakes=9,
    queue=10,
    lag=(4, 2, *(0,) * 8, 1),
    lag_s=1.5,
    steps=Steps({"a": Step(-40.0, 1), "b": Step(40.0, 1)}, 40.0, ("a", "b")),
)
SENDERS = {
    shard: SenderReport(f"life {shard}", shard, 100, 1, 2, 3, LATENESS, 1_500, 4, 5, 6)
    for shard in (1, 0)
}
FIGURES = Figures(
    CONTROL,
    SENDERS,
    UsherReport("life", 11, 12, 13, 14, 0.25, 15, 16, 22, 23, 24, 25, 26, 27, 28, 29),
    GatewayReport("life", pack_sessions([1, 2, 3]), 17, 18, 19, 20, 21),
    ProducerReport(
        "life",
        (
            ProgrammeReport("live-1", "live", -20.5, 1.0, ()),
            ProgrammeReport("live-2", "waiting", -96.0, 0.0, ()),
        ),
    ),
    (ProcessUse("control", None, 7, 1.5, 4096), ProcessUse("sender", 1, 8, 2.5, 8192)),
)
NOTHING_YET = Figures(CONTROL, {}, None, None, None, ())


def samples(figures: Figures) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Each sample by its name and its labels."""
    text = exposition(figures).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_shard_has_its_own_figures() -> None:
    other = replace(SENDERS[1], datagrams=200)
    told = samples(replace(FIGURES, senders={0: SENDERS[0], 1: other}))
    assert told["loa_sender_datagrams_total", (("shard", "0"),)] == 100
    assert told["loa_sender_datagrams_total", (("shard", "1"),)] == 200
    assert told["loa_sender_stale_total", (("shard", "0"),)] == 3
    assert told["loa_sender_queue_deepest", (("shard", "0"),)] == 5


def test_lateness_is_a_histogram_in_seconds_each_bucket_with_those_below() -> None:
    told = samples(FIGURES)

    def below(bound: str) -> float:
        return told["loa_sender_lateness_seconds_bucket", (("le", bound), ("shard", "0"))]

    assert below("5e-05") == 1
    assert below("0.0001") == 1 + 2
    assert below("0.1") == sum(LATENESS[:-1])
    assert below("+Inf") == sum(LATENESS)
    assert told["loa_sender_lateness_seconds_count", (("shard", "0"),)] == sum(LATENESS)
    assert told["loa_sender_late_max_seconds", (("shard", "0"),)] == 0.0015


def test_how_late_the_loop_is_is_a_histogram_with_its_sum() -> None:
    told = samples(FIGURES)
    assert told["loa_control_loop_lag_seconds_bucket", (("le", "0.002"),)] == 6
    assert told["loa_control_loop_lag_seconds_count", ()] == 7
    assert told["loa_control_loop_lag_seconds_sum", ()] == 1.5


def test_every_process_is_told_of() -> None:
    told = samples(FIGURES)
    assert told["loa_usher_dropped_total", ()] == 16
    assert told["loa_usher_worst_loss_ratio", ()] == 0.25
    assert told["loa_usher_repair_requests_total", ()] == 22
    assert told["loa_usher_repair_bundles_total", ()] == 23
    assert told["loa_usher_repairs_total", ()] == 24
    assert told["loa_usher_repairs_unknown_total", ()] == 25
    assert told["loa_usher_repairs_limited_total", ()] == 26
    assert told["loa_usher_overruns_total", ()] == 27
    assert told["loa_usher_repairs_to_groups_total", ()] == 28
    assert told["loa_usher_repairs_covered_total", ()] == 29
    assert told["loa_gateway_sessions", ()] == 3
    assert told["loa_gateway_dropped_total", ()] == 18
    assert told["loa_control_joins_total", ()] == 8
    assert told["loa_producer_programmes", (("state", "live"),)] == 1
    assert told["loa_producer_programmes", (("state", "ended"),)] == 0
    assert told["loa_programme_level_dbfs", (("programme", "live-1"),)] == -20.5
    assert ("loa_programme_level_dbfs", (("programme", "live-2"),)) not in told
    sender = (("pid", "8"), ("process", "sender"), ("shard", "1"))
    assert told["loa_process_cpu_seconds_total", sender] == 2.5
    assert told["loa_process_resident_memory_bytes", sender] == 8192


def test_a_name_with_what_the_format_minds_survives() -> None:
    assert ("loa_station_info", (("name", 'Tân "Phú"\n'),)) in samples(FIGURES)


def test_what_has_not_reported_yet_is_left_out() -> None:
    told = samples(NOTHING_YET)
    assert told["loa_speakers_online", ()] == 3
    assert not [name for name, _ in told if name.startswith(("loa_sender", "loa_usher"))]


def test_names_are_as_prometheus_wants_them() -> None:
    for family in text_string_to_metric_families(exposition(FIGURES).decode()):
        assert re.fullmatch(r"loa(_[a-z]+)+", family.name)
        assert family.documentation.endswith(".")
        assert (family.type == "counter") == any(s.name.endswith("_total") for s in family.samples)
        assert family.type in {"counter", "gauge", "histogram"}


def test_what_the_page_about_watching_names_is_there() -> None:
    there = {name for name, _ in samples(FIGURES)}
    named = re.findall(r"\bloa_\w+", (DOCS / "watching.md").read_text())
    assert len(named) > 10
    for name in named:
        assert name in there or any(is_.startswith(name) for is_ in there), name


def test_how_far_neighbours_are_apart_is_in_seconds_and_unknown_where_nobody_is_compared() -> None:
    there = samples(FIGURES)
    names = "compared", "out_of_step", "step_error_seconds", "step_pair_max_seconds"
    values = [there[f"loa_speakers_{name}", ()] for name in names]
    assert values == [2, 0, pytest.approx(40e-6), pytest.approx(40e-6)]
    alone = samples(replace(FIGURES, control=replace(CONTROL, steps=Steps())))
    assert alone["loa_speakers_compared", ()] == 0
    assert not [name for name, _ in alone if "step_error" in name or "step_pair" in name]


# ------------------------------------------------------------------ the dashboard
def expressions() -> dict[str, list[str]]:
    """What the dashboard asks Prometheus, by the title of the panel."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return {
        panel["title"]: [target["expr"] for target in panel["targets"]]
        for panel in panels
        if panel["type"] != "row"
    }


def test_every_metric_of_the_dashboard_is_there() -> None:
    there = {name for name, _ in samples(FIGURES)}
    for title, asked in expressions().items():
        assert asked, title
        for expression in asked:
            named = set(re.findall(r"\bloa_\w+", expression))
            assert named, f"{title}: {expression}"
            assert named <= there, title


def test_the_dashboard_shows_every_metric() -> None:
    asked = " ".join(expression for shown in expressions().values() for expression in shown)
    for family in text_string_to_metric_families(exposition(FIGURES).decode()):
        assert re.search(rf"\b{family.name}(_total|_bucket)?\b", asked), family.name


def test_counters_are_shown_as_rates_and_everything_else_as_it_is() -> None:
    for title, asked in expressions().items():
        for expression in asked:
            for name in re.findall(r"\bloa_\w+", expression):
                counted = name.endswith(("_total", "_bucket"))
                assert counted == bool(re.search(rf"rate\({name}\b", expression)), title


def test_panels_do_not_overlap_and_have_numbers_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert x < 24
                assert (x, y) not in taken, panel["title"]
                taken.add((x, y))
    assert len({panel["id"] for panel in panels}) == len(panels)
