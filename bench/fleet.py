"""A real station, a real voice, and thousands of loudspeakers: what all of it takes, and bears.

The loudspeakers are simulated, `loa fleet` (endpoints/fleet/): they join, prove their keys, keep
time and compare every packet; they do not decode. Station, voice and simulator share this machine,
so that CPU time is told by process, and what the simulator itself had no time to read is counted
apart. Lateness is that of each packet against its paced slot, when the chunk it leaves with has
left. Beside it stands that at the loudspeakers, of each packet against the quickest of its second
there: in that are the jitter of the voice and of the producer as well.
"""

import argparse
import csv
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from bench import fleet_faults as faults
from bench.fleet_line import CostLine, fit, sizes
from bench.fleet_load import microseconds_each, shares
from bench.fleet_process import parts
from bench.fleet_scene import Cast, EngineAlone, Scene, Window, staged
from bench.report import plot_cdf, plot_line, table, write_json

Figures = dict[str, object]

# What coming in leaves behind: each has yet to learn the time, and to say that it listens.
_SETTLE_S, _SETTLING_A_SECOND = 3.0, 500.0
_ALONE_S = 5.0
_STORM_STAYS = 10
_STALLED_SHARE = 5
_RANKS = 1_000
_COUNTS = (
    *("received", "expected", "lost", "duplicate", "corrupt", "too_late", "simulator_dropped"),
    "rejoined",
)
# What the table of a cost line has room for: its heading, and the figure's name.
_BRIEF = {
    "N": "endpoints",
    "received": "received_ratio",
    "dropped": "simulator_dropped",
    "p99 ms": "late_p99_ms",
    "us/packet": "us_per_packet_sender",
    "us/N/s": "cpu_us_per_endpoint_second",
    "simulator": "cpu_us_per_endpoint_second_simulator",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this bench alone."""
    parser.add_argument("--endpoints", type=int, default=1_000, metavar="N", help="(%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=60.0, metavar="S", help="measured (%(default)s)"
    )
    parser.add_argument(
        "--frame-ms", type=float, default=20.0, metavar="F", help="10, 20 or 60 (%(default)s)"
    )
    parser.add_argument("--senders", type=int, default=1, metavar="K", help="(%(default)s)")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--storm", action="store_true", help="nine in ten vanish and come back")
    kind.add_argument("--faults", action="store_true", help="kill, and stall a fifth of them")
    kind.add_argument("--cost-line", action="store_true", help="at 100, 300, 1,000 ... up to N")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write what each second was like")


def run(options: argparse.Namespace) -> None:
    """Measure and report."""
    _ = Cast((), options.frame_ms).delivery  # refused before anything is started
    if options.cost_line:
        _run_line(options)
        return
    done = _play(options, options.endpoints, _act(options))
    title = f"{options.endpoints} loudspeakers, frames of {options.frame_ms:g} ms"
    _show(title, done.figures)
    if options.json is not None:
        write_json(options.json, done.figures, options.seed)
    if options.plot is not None:
        plot_cdf(options.plot, _lateness(done.window), "lateness of a packet, ms", title)
    if options.csv is not None:
        _write_csv(options.csv, done.seconds)


@dataclass(frozen=True, slots=True)
class Act:
    """What is done once all are on air: the figures of it, and the window that a plot shows.

    `apart` of the loudspeakers, the last ones, are in processes of their own.
    """

    play: Callable[[Scene], tuple[Figures, Window]]
    apart: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """What one act brought: figures, the window to plot, and what each fleet said each second."""

    figures: Figures
    window: Window
    seconds: list[Figures]


def _act(options: argparse.Namespace) -> Act:
    if options.storm:
        return Act(_storm, options.endpoints - options.endpoints // _STORM_STAYS)
    if options.faults:
        return Act(_faults, options.endpoints // _STALLED_SHARE)
    return Act(lambda scene: _whole(scene, options.seconds))


def _play(options: argparse.Namespace, endpoints: int, act: Act) -> Done:
    cast = Cast(tuple(parts(endpoints, act.apart)), options.frame_ms, options.senders, options.seed)
    with (
        Progress(console=Console(stderr=True), transient=True) as bar,
        tempfile.TemporaryDirectory(prefix="loa-bench-") as folder,
        staged(Path(folder), cast, bar) as scene,
    ):
        join_s = scene.join(scene.fleets, "joining")
        scene.speak()
        scene.wait(_SETTLE_S + scene.cast.endpoints / _SETTLING_A_SECOND, "settling")
        figures, window = act.play(scene)
        head: Figures = {"endpoints": endpoints, "frame_ms": cast.frame_ms, "join_seconds": join_s}
        seconds = [{"first": f.part.first, **row} for f in scene.fleets for row in f.rows]
    return Done(head | figures, window, seconds)


# ---------------------------------------------------------------- what is done
def _whole(scene: Scene, seconds: float) -> tuple[Figures, Window]:
    window = scene.watch(lambda: scene.wait(seconds, "on air"))
    alone = scene.watch_senders_alone(_ALONE_S)
    return window_figures(window) | {"engine_alone": _alone_figures(alone)}, window


def _storm(scene: Scene) -> tuple[Figures, Window]:
    gone = [fleet for fleet in scene.fleets if fleet.part.first >= scene.cast.endpoints // 10]
    found = faults.stormed(scene, gone)
    came_back = sum(fleet.part.count for fleet in gone)
    figures = window_figures(found.stayed) | {"came_back": came_back, "join_seconds": found.join_s}
    return figures, found.stayed


def _faults(scene: Scene) -> tuple[Figures, Window]:
    killed = {name: faults.killed(scene, name) for name in ("sender", "producer")}
    control = faults.control_killed(scene)
    found = faults.stalled(scene, scene.fleets[-1:])
    figures: Figures = {
        **{f"f1_{name}_longest_gap_ms": w.fleet.longest_gap_ms for name, w in killed.items()},
        **{f"f1_{name}_lost": window.fleet.lost for name, window in killed.items()},
        "f2_lost": control.window.fleet.lost,
        "f2_simulator_dropped": control.window.fleet.simulator_dropped,
        "f2_longest_gap_ms": control.window.fleet.longest_gap_ms,
        "f2_api_back_s": control.api_back_s,
        "f2_sessions_back_s": control.sessions_back_s,
        "f5_stalled": scene.fleets[-1].part.count,
        "f5_p99_without_ms": found.without_ms,
        "f5_p99_with_ms": found.with_ms,
        "f5_moved_ms": found.moved_ms,
        "f5_moved_share": found.moved_share,
        "f5_grown_mb": {name: count / 1e6 for name, count in found.grown_bytes.items()},
    }
    return figures, found.window


# ---------------------------------------------------------------- figures
def window_figures(window: Window) -> Figures:
    """What a window says, under the names that numbers are published by."""
    fleet, sent = window.fleet, window.sent
    endpoint_seconds = window.endpoints * window.seconds
    counts = {name: getattr(fleet, name) for name in _COUNTS}
    processes = {**window.cpu_s, "simulator": window.simulator_cpu_s, "voice": window.voice_cpu_s}
    return {
        "received_ratio": fleet.received_ratio,
        **counts,
        "late_p50_ms": sent.late.at_ms(0.5),
        "late_p99_ms": sent.late.at_ms(0.99),
        "late_p50_ms_at_endpoints": fleet.late_at_ms(0.5),
        "late_p99_ms_at_endpoints": fleet.late_at_ms(0.99),
        "late_max_ms_at_endpoints": fleet.late_max_ms,
        "transit_p99_ms": fleet.transit.at_ms(0.99),
        "longest_gap_ms": fleet.longest_gap_ms,
        "sender_stale": sent.stale,
        "sender_errors": sent.errors,
        "cpu_us_per_endpoint_second": microseconds_each(window.station_cpu_s, endpoint_seconds),
        "cpu_us_per_endpoint_second_simulator": microseconds_each(
            window.simulator_cpu_s, endpoint_seconds
        ),
        "us_per_packet_sender": microseconds_each(window.cpu_s["sender"], sent.datagrams),
        "processes": shares(processes, window.seconds),
    }


def _alone_figures(alone: EngineAlone) -> Figures:
    return {
        "datagrams_per_second": alone.sent.datagrams / alone.seconds,
        "us_per_packet": microseconds_each(alone.sender_cpu_s, alone.sent.datagrams),
        "sender_share": alone.sender_cpu_s / alone.seconds,
        "late_p99_ms": alone.sent.late.at_ms(0.99),
        "stale": alone.sent.stale,
    }


def _lateness(window: Window) -> dict[str, np.ndarray]:
    """So many ranks of each histogram, for a plot."""
    ranks = np.arange(1, _RANKS + 1) / _RANKS
    series = {"at the loudspeakers": window.fleet.late, "at the senders": window.sent.late}
    found = {name: np.array([of.at_ms(r) for r in ranks]) for name, of in series.items() if of.rows}
    return {name: values[np.isfinite(values)] for name, values in found.items()}


def _show(title: str, figures: Mapping[str, object]) -> None:
    table(title, [{"figure": name, "value": value} for name, value in _flat(figures)])


def _flat(figures: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif isinstance(value, tuple):
            yield above + name, ", ".join(f"{part:.3g}" for part in value)
        else:
            yield above + name, value


def _write_csv(file: Path, seconds: Sequence[Figures]) -> None:
    """A row a second and fleet process; `first` is the number of its first loudspeaker."""
    columns = list(dict.fromkeys(name for row in seconds for name in row if name != "event"))
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(seconds)


# ---------------------------------------------------------------- the cost line
def _run_line(options: argparse.Namespace) -> None:
    """The same at several sizes, each with a station of its own."""
    play = Act(lambda scene: _whole(scene, options.seconds))
    done = [_play(options, size, play) for size in sizes(options.endpoints)]
    points = [(w.endpoints, w.station_cpu_s / w.seconds * 1e6) for w in (d.window for d in done)]
    line = fit(points)
    rows = [
        {
            **_brief(one.figures),
            "ms/s": round(cost_us / 1_000),
            "off %": round(100 * line.off(size, cost_us), 1),
        }
        for one, (size, cost_us) in zip(done, points, strict=True)
    ]
    title = f"fixed {line.fixed_us:.0f} us + {line.slope_us:.1f} us a loudspeaker, each second"
    table(title, rows)
    if options.json is not None:
        write_json(options.json, _line_figures(options.frame_ms, line, done, points), options.seed)
    if options.plot is not None:
        plot_line(options.plot, points, line.cost_us, "loudspeakers", "CPU us a second", title)
    if options.csv is not None:
        _write_csv(options.csv, [row for one in done for row in one.seconds])


def _line_figures(
    frame_ms: float, line: CostLine, done: Sequence[Done], points: Sequence[tuple[float, float]]
) -> Figures:
    off = [line.off(*point) for point in points]
    return {
        "frame_ms": frame_ms,
        "fixed_us": line.fixed_us,
        "slope_us": line.slope_us,
        "most_off": max(map(abs, off)),
        "points": [
            {**one.figures, "cpu_us_per_second": cost_us, "off_line": share}
            for one, (_, cost_us), share in zip(done, points, off, strict=True)
        ],
    }


def _brief(figures: Figures) -> Figures:
    return {heading: figures[name] for heading, name in _BRIEF.items()}
