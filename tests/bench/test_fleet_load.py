"""What is said of CPU time, memory and lateness follows from two readings."""

from math import inf
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from bench.fleet_figures import Histogram
from bench.fleet_load import (
    SenderCounts,
    cpu_seconds,
    grown_bytes,
    holders,
    microseconds_each,
    own_bytes,
    shares,
)
from server.usage import ProcessUse


def use(process: str, pid: int, cpu_s: float) -> ProcessUse:
    return ProcessUse(process, 0 if process == "sender" else None, pid, cpu_s, 0)


def exposition(datagrams: tuple[int, int], late: dict[str, tuple[int, int]]) -> str:
    lines = [f'loa_sender_datagrams_total{{shard="{n}"}} {of}' for n, of in enumerate(datagrams)]
    lines += ["# TYPE loa_sender_lateness_seconds histogram"]
    lines += [
        f'loa_sender_lateness_seconds_bucket{{shard="{n}",le="{bound}"}} {of}'
        for bound, counts in late.items()
        for n, of in enumerate(counts)
    ]
    return "\n".join([*lines, ""])


BEFORE = exposition((100, 50), {"0.001": (90, 50), "0.005": (100, 50), "+Inf": (100, 50)})
AFTER = exposition((1100, 150), {"0.001": (1080, 148), "0.005": (1095, 150), "+Inf": (1100, 150)})


# ------------------------------------------------------------------ CPU and memory
def test_cpu_time_is_that_between_the_readings_and_of_a_kind_together() -> None:
    before = [use("control", 1, 5.0), use("sender", 2, 1.0), use("sender", 3, 0.5)]
    after = [use("control", 1, 5.25), use("sender", 2, 3.0), use("sender", 3, 0.75)]
    assert cpu_seconds(before, after) == {"control": 0.25, "sender": 2.25}


def test_a_process_that_was_born_in_between_counts_from_its_birth() -> None:
    before = [use("control", 1, 5.0)]
    assert cpu_seconds(before, [use("control", 9, 0.5)]) == {"control": 0.5}


def test_memory_is_compared_only_where_a_process_is_the_same() -> None:
    uses = [use("sender", pid, 0) for pid in (1, 2, 3)] + [use("control", 4, 0)]
    before, after = {1: 1_000, 2: 9_000, 4: 7}, {1: 1_500, 3: 70_000, 4: 7}
    assert grown_bytes(uses, before, after) == {"sender": 500, "control": 0}


def test_memory_of_its_own_leaves_out_what_is_shared_and_whoever_has_ended(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tloa\nRssAnon:\t  30 kB\nRssShmem:\t 99 kB\n")
    assert own_bytes([use("sender", 7, 0), use("sender", 8, 0)], tmp_path) == {7: 30 << 10}


def test_shares_are_of_one_core() -> None:
    assert shares({"sender": 30.0, "control": 6.0}, 60.0) == {"control": 0.1, "sender": 0.5}


def test_a_cost_without_anything_done_is_infinite() -> None:
    assert microseconds_each(1.0, 0) == inf
    assert microseconds_each(1.5, 1_000_000) == 1.5


# ------------------------------------------------------------------ what the senders say
def test_shards_are_added_up_and_what_was_before_is_left_out() -> None:
    window = SenderCounts.parse(AFTER).since(SenderCounts.parse(BEFORE))
    assert window.datagrams == 1100
    assert window.late == Histogram(((1.0, 1088), (5.0, 7), (inf, 5)))


def test_metrics_without_senders_are_refused() -> None:
    registry = CollectorRegistry()
    Counter("something", "else", registry=registry)
    with pytest.raises(ValueError, match="nothing of its senders"):
        SenderCounts.parse(generate_latest(registry).decode())


# ------------------------------------------------------------------ who holds a lock
LOCKS = """\
1: POSIX  ADVISORY  WRITE 4711 00:01:2051 0 0
1: -> POSIX  ADVISORY  WRITE 4712 00:01:2051 0 0
2: FLOCK  ADVISORY  WRITE 4713 08:01:99 0 EOF
3: POSIX  ADVISORY  WRITE 4714 00:01:2051 1 1
"""


def test_who_holds_a_lock_is_on_duty_and_who_waits_is_the_spare() -> None:
    assert holders(LOCKS, [4711, 4712, 4713, 4714, 4715]) == [4711, 4714]
