"""The station's figures in Prometheus' text format. Pure.

Names and units follow https://prometheus.io/docs/practices/naming/; a figure of a process that has
not reported yet is left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from typing_extensions import override

from server.lag import LAG_BOUNDS_S
from server.processes.bus import (
    LATENESS_BOUNDS_US,
    GatewayReport,
    ProducerReport,
    SenderReport,
    UsherReport,
)
from server.stepping import Steps
from server.usage import ProcessUse

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_US = 1e-6
# As `bus.pack_sessions` makes them.
_SESSION_BYTES = 8
_NO_STEPS = Steps()


@dataclass(frozen=True, slots=True)
class ControlFigures:
    """What control counts: of loudspeakers, sessions and what waits.

    `joins` are sessions that were welcomed; `handshakes` are connections that are not through TLS;
    `queue` are changes that the disk has yet to take. `lag` counts how late the loop was, one
    figure for each of `LAG_BOUNDS_S` and one beyond; `lag_s` is their sum. `steps` is how far
    neighbours are apart.
    """

    name: str
    registered: int
    enrolled: int
    online: int
    faulty: int
    zones: int
    programmes: int
    sessions: int
    joins: int
    handshakes: int
    queue: int
    lag: Sequence[int]
    lag_s: float
    steps: Steps = _NO_STEPS


@dataclass(frozen=True, slots=True)
class Figures:
    """All that there is to see; reports are None, and shards missing, before the first of them."""

    control: ControlFigures
    senders: Mapping[int, SenderReport]
    usher: UsherReport | None
    gateway: GatewayReport | None
    producer: ProducerReport | None
    processes: Sequence[ProcessUse]


# (metric, what it is, the report's field); counters end in _total.
_Table = tuple[tuple[str, str, str], ...]
_CONTROL: _Table = (
    ("loa_speakers_registered", "Loudspeakers that the station knows.", "registered"),
    ("loa_speakers_enrolled", "Loudspeakers that have a key here.", "enrolled"),
    ("loa_speakers_online", "Loudspeakers that have been heard of of late.", "online"),
    ("loa_speakers_faulty", "Loudspeakers with a session that tell a fault.", "faulty"),
    ("loa_zones", "Zones.", "zones"),
    ("loa_programmes", "Programmes that are on air or about to be.", "programmes"),
    ("loa_control_sessions", "Open sessions of loudspeakers.", "sessions"),
    ("loa_control_joins_total", "Sessions that were welcomed.", "joins"),
    ("loa_control_handshakes", "Connections that are not through TLS.", "handshakes"),
    ("loa_control_keeper_queue", "Changes that the disk has yet to take.", "queue"),
)
_SENDER: _Table = (
    ("loa_sender_datagrams_total", "Datagrams that the kernel took.", "datagrams"),
    ("loa_sender_errors_total", "Datagrams that the kernel refused.", "errors"),
    ("loa_sender_stale_total", "Datagrams not sent, for their time was over.", "stale"),
    ("loa_sender_overruns_total", "Packets of the ring that were lost.", "overruns"),
    ("loa_sender_queue", "Packets that are being fanned out.", "queue"),
    ("loa_sender_queue_deepest", "The most packets there were at once.", "deepest"),
    ("loa_sender_destinations", "Destinations of all streams together.", "destinations"),
)
_USHER: _Table = (
    ("loa_usher_time_answers_total", "Answers to who asked the time.", "time_answers"),
    ("loa_usher_malformed_total", "Datagrams that make no sense.", "malformed"),
    ("loa_usher_refused_total", "Datagrams under a wrong key.", "refused"),
    ("loa_usher_dropped_total", "Datagrams that the kernel had no room for.", "dropped"),
    ("loa_usher_repair_requests_total", "Requests for what was lost.", "repair_requests"),
    ("loa_usher_repair_bundles_total", "Datagrams that answer them.", "repair_bundles"),
    ("loa_usher_repairs_total", "Packets sent again, each in two of those.", "repairs"),
    ("loa_usher_repairs_unknown_total", "Packets asked for in vain.", "repairs_unknown"),
    ("loa_usher_repairs_limited_total", "Packets beyond what one may have.", "repairs_limited"),
    ("loa_usher_repairs_to_groups_total", "Of those, sent to whole groups.", "repairs_to_groups"),
    ("loa_usher_repairs_covered_total", "Asked for while a group had them.", "repairs_covered"),
    ("loa_usher_overruns_total", "Packets of the ring that were lost.", "overruns"),
    ("loa_usher_paths", "Open ways for unicast.", "paths"),
    ("loa_usher_receivers", "Stock receivers that report by RTCP.", "receivers"),
    (
        "loa_usher_worst_loss_ratio",
        "The most of them that one loses, 0 to 1.",
        "worst_fraction_lost",
    ),
)
_GATEWAY: _Table = (
    ("loa_gateway_datagrams_total", "Datagrams sent through TLS.", "datagrams"),
    ("loa_gateway_dropped_total", "Datagrams for who does not read.", "dropped"),
    ("loa_gateway_overruns_total", "Packets of the ring that were lost.", "overruns"),
    ("loa_gateway_malformed_total", "Frames that make no sense.", "malformed"),
    ("loa_gateway_refused_total", "Callers without a good token.", "refused"),
)
_STATES = ("waiting", "live", "ended")


def exposition(figures: Figures) -> bytes:
    """All of it, as `CONTENT_TYPE` says."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(figures))
    return generate_latest(registry)


class _Collected(Collector):
    """What the library asks for metrics, once."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    @override
    def collect(self) -> Iterable[Metric]:
        figures = self._figures
        yield from _control(figures.control)
        yield from _senders(figures.senders)
        if figures.usher is not None:
            yield from _rows(_USHER, (), [((), figures.usher)])
        if figures.gateway is not None:
            yield from _gateway(figures.gateway)
        if figures.producer is not None:
            yield from _producer(figures.producer)
        yield from _processes(figures.processes)

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand, so that to register it collects nothing."""
        return ()


def _rows(
    table: _Table, labels: Sequence[str], rows: Sequence[tuple[Sequence[str], Any]]
) -> Iterator[Metric]:
    """Each metric of a table, for each row of label values and a record with the fields."""
    for name, what, field in table:
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        family: CounterMetricFamily | GaugeMetricFamily = kind(name, what, labels=labels)
        for values, record in rows:
            family.add_metric(values, getattr(record, field))
        yield family


def _add_histogram(
    family: HistogramMetricFamily,
    labels: dict[str, str],
    bounds_s: Sequence[float],
    counts: Sequence[int],
    total_s: float | None,
) -> None:
    """`total_s` is None where nobody has added up; then there is a count, but no sum."""
    names = [f"{bound_s:g}" for bound_s in bounds_s] + ["+Inf"]
    below = list(accumulate(counts))
    family.add_metric(list(labels.values()), list(zip(names, below, strict=True)), total_s)
    if total_s is None:
        family.add_sample(f"{family.name}_count", labels, below[-1])


def _control(control: ControlFigures) -> Iterator[Metric]:
    station = GaugeMetricFamily("loa_station_info", "What the station is called.", labels=["name"])
    station.add_metric([control.name], 1)
    yield station
    yield from _rows(_CONTROL, (), [((), control)])
    yield from _steps(control.steps)
    lag = HistogramMetricFamily(
        "loa_control_loop_lag_seconds", "How late control comes to what is due.", labels=[]
    )
    _add_histogram(lag, {}, LAG_BOUNDS_S, control.lag, control.lag_s)
    yield lag


def _steps(steps: Steps) -> Iterator[Metric]:
    """Of nobody who can be compared there is no distance."""
    for name, what, value in (
        (
            "loa_speakers_compared",
            "Loudspeakers whose clock can be held against neighbours'.",
            len(steps.by_name),
        ),
        ("loa_speakers_out_of_step", "Those that are 1 ms or more from them.", steps.out),
        (
            "loa_speakers_step_error_seconds",
            "No further from its neighbours is 95 % of them.",
            steps.p95_us,
        ),
        (
            "loa_speakers_step_pair_max_seconds",
            "How far the two neighbours are apart that are furthest.",
            steps.worst_us,
        ),
    ):
        if value is not None:
            in_seconds = name.endswith("_seconds")
            yield GaugeMetricFamily(name, what, value * _US if in_seconds else value)


def _senders(senders: Mapping[int, SenderReport]) -> Iterator[Metric]:
    shards = sorted(senders)
    yield from _rows(_SENDER, ["shard"], [((str(shard),), senders[shard]) for shard in shards])
    latest = GaugeMetricFamily(
        "loa_sender_late_max_seconds",
        "The latest that a datagram left after its time, ever.",
        labels=["shard"],
    )
    lateness = HistogramMetricFamily(
        "loa_sender_lateness_seconds",
        "How late after their time datagrams left.",
        labels=["shard"],
    )
    bounds_s = [round(bound_us * _US, 9) for bound_us in LATENESS_BOUNDS_US]
    for shard in shards:
        report = senders[shard]
        latest.add_metric([str(shard)], report.late_max_us * _US)
        _add_histogram(lateness, {"shard": str(shard)}, bounds_s, report.lateness, None)
    yield latest
    yield lateness


def _gateway(report: GatewayReport) -> Iterator[Metric]:
    yield from _rows(_GATEWAY, (), [((), report)])
    sessions = GaugeMetricFamily("loa_gateway_sessions", "Loudspeakers that hear through TLS.")
    sessions.add_metric([], len(report.sessions) // _SESSION_BYTES)
    yield sessions


def _producer(report: ProducerReport) -> Iterator[Metric]:
    programmes = GaugeMetricFamily(
        "loa_producer_programmes", "Programmes that are encoded, by how they are.", labels=["state"]
    )
    for state in _STATES:
        count = sum(programme.state == state for programme in report.programmes)
        programmes.add_metric([state], count)
    yield programmes
    level = GaugeMetricFamily(
        "loa_programme_level_dbfs", "How loud a programme is.", labels=["programme"]
    )
    for programme in report.programmes:
        if programme.state == "live":
            level.add_metric([programme.programme], programme.level_dbfs)
    yield level


def _processes(uses: Sequence[ProcessUse]) -> Iterator[Metric]:
    table: _Table = (
        ("loa_process_cpu_seconds_total", "CPU time, the system's for it included.", "cpu_s"),
        ("loa_process_resident_memory_bytes", "Memory that is resident.", "resident_bytes"),
    )
    rows = [
        ((use.process, "" if use.shard is None else str(use.shard), str(use.pid)), use)
        for use in uses
    ]
    yield from _rows(table, ["process", "shard", "pid"], rows)
