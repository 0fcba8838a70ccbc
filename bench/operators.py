"""A fleet that tells how it is, and its operators at their consoles: how long a call takes.

A real station, a voice on air, thousands of simulated loudspeakers (`loa fleet`), and operators
who have signed in, each by a connection of his own: they list, look, change, and sometimes speak.
A call's time is from sending to the last byte of the answer. Station, loudspeakers, voice and
operators share this machine, and so their CPU time is told apart.
"""

import argparse
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from bench import operators_database as database
from bench import operators_figures as told
from bench import operators_machine as machine
from bench.fleet import window_figures
from bench.fleet_figures import Histogram
from bench.fleet_keys import prepare
from bench.fleet_process import Fleet, parts
from bench.fleet_scene import Cast, Scene, Window, allow_descriptors
from bench.operators_figures import Call
from bench.operators_mix import Province
from bench.operators_people import LISTENERS, settle
from bench.operators_process import Desk
from bench.processes import Bench, ProcessError
from bench.report import percentiles, plot_cdf, table, write_json
from server.directory import MAX_ENDPOINTS
from server.settings import Settings

Figures = dict[str, object]

# Of so many that are on one is away: registered, and never seen.
_AWAY = 50
_SETTLE_S, _SETTLING_A_SECOND = 3.0, 500.0
_MINUTE_S = 60.0
_BESIDE = "received_ratio", "late_p99_ms", "late_p99_ms_at_endpoints", "longest_gap_ms"
# What the table of calls has room for: its heading, and the figure's name.
_HEADINGS = {
    "calls": "calls",
    "in vain": "in_vain",
    "min": "min_ms",
    "p50": "p50_ms",
    "p95": "p95_ms",
    "p99": "p99_ms",
    "max": "max_ms",
    "bytes": "bytes_mean",
}
# Beside a simulator that does not give way a call's p99 was half as much again: what it has no time
# for is counted apart, and a late packet is late at the sender.
_YIELDING = 10
# How long the same is watched without operators, beside which the rest stands.
_ALONE_S = 20.0
_LAG = re.compile(r'^loa_control_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this bench alone."""
    for option, default, letter in (
        ("--endpoints", 10_000, "N"),
        ("--listeners", 1_000, "L"),
        ("--operators", 100, "K"),
        ("--communes", 100, "C"),
        ("--audit-days", Settings().audit_days, "DAYS"),
        ("--programmes-days", Settings().programmes_days, "DAYS"),
    ):
        parser.add_argument(option, type=int, default=default, metavar=letter, help="(%(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=60.0, metavar="M", help="measured (%(default)s)"
    )
    parser.add_argument(
        "--think-s",
        type=float,
        default=2.0,
        metavar="S",
        help="between two calls of one operator, on average (%(default)s)",
    )
    parser.add_argument(
        "--hours",
        type=float,
        default=8.0,
        metavar="H",
        help="operators are at work so long each day, for what is kept (%(default)s)",
    )
    parser.add_argument(
        "--frame-ms", type=float, default=60.0, metavar="F", help="10, 20 or 60 (%(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    """Measure and report."""
    options.listeners = min(options.listeners, options.endpoints)
    options.communes = min(options.communes, options.endpoints)
    _check(options)
    seen = _play(options)
    figures = _figures(options, seen)
    title = f"{options.endpoints} loudspeakers, {options.operators} operators"
    calls = list(filter(told.is_counted, seen.calls))
    _show(title, figures, seen.calls)
    if options.json is not None:
        write_json(options.json, figures, options.seed)
    if options.plot is not None:
        series = {name: told.took(some) for name, some in told.by_group(calls).items()}
        plot_cdf(options.plot, series, "time of a call, ms", title)


def _check(options: argparse.Namespace) -> None:
    """Refused before anything is started: ValueError."""
    _ = _cast(options).delivery
    Province(options.endpoints, options.communes)
    for name in (
        "listeners",
        "operators",
        "minutes",
        "think_s",
        "hours",
        "audit_days",
        "programmes_days",
    ):
        if not getattr(options, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')}: use more than 0")


def _cast(options: argparse.Namespace) -> Cast:
    return Cast(tuple(parts(options.endpoints)), options.frame_ms, seed=options.seed)


# ---------------------------------------------------------------- what is done
@dataclass(slots=True)
class Seen:
    """What was measured; what is None could not be, as the run was cut short."""

    join_s: float
    began_s: float = 0.0
    seconds: float = 0.0
    calls: list[Call] = field(default_factory=list)
    signed_in: list[Call] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    alone: Window | None = None
    window: Window | None = None
    growth: database.Growth | None = None
    lag: Histogram | None = None
    desk_cpu_s: float = 0.0
    readings: tuple[machine.Reading, machine.Reading] | None = None
    cut_short: str = ""


def _play(options: argparse.Namespace) -> Seen:
    with (
        Progress(console=Console(stderr=True), transient=True) as bar,
        tempfile.TemporaryDirectory(prefix="loa-bench-") as folder,
        _staged(Path(folder), options, bar) as (scene, people),
    ):
        seen = Seen(scene.join(scene.fleets, "joining"))
        scene.speak("--zone", LISTENERS)
        scene.wait(_SETTLE_S + scene.cast.endpoints / _SETTLING_A_SECOND, "settling")
        seen.alone = scene.watch(lambda: scene.wait(_ALONE_S, "nobody at the consoles"))
        with Desk(scene.bench, people, options.think_s) as desk:
            task = bar.add_task("signing in", total=options.operators)
            desk.wait_until_signed_in(
                options.operators, lambda count: bar.update(task, completed=count)
            )
            bar.remove_task(task)
            _watch(scene, desk, options, seen)
    return seen


@contextmanager
def _staged(
    folder: Path, options: argparse.Namespace, bar: Progress
) -> Iterator[tuple[Scene, Path]]:
    """A station of this province, its fleet on the way in, and the file of its operators."""
    allow_descriptors()
    cast = _cast(options)
    with Bench(folder) as bench:
        delivery = cast.delivery
        away = min(options.endpoints // _AWAY, MAX_ENDPOINTS - options.endpoints)
        keys = prepare(bench.data, options.endpoints + away, cast.seed, delivery)
        province = Province(options.endpoints, options.communes)
        people = settle(bench.data, province, options.operators, options.listeners, options.seed)
        bench.start_station(*cast.station_options)
        words = "--delivery", delivery
        fleets = [Fleet(bench, keys, part, *words, niceness=_YIELDING) for part in cast.parts]
        yield Scene(bench, cast, fleets, bar), people


def _watch(scene: Scene, desk: Desk, options: argparse.Namespace, seen: Seen) -> None:
    """Fill in what is seen; whatever breaks off, what there is until then stays."""
    path = scene.bench.data.database
    before, lag, cpu_s = database.read(path), _lag(scene), desk.cpu_s
    first = machine.Reading.of(scene.processes())
    seen.signed_in = [call for call in desk.calls(0.0) if call.kind == "sign in"]
    late = len(desk.late_ms())
    seen.began_s = time.monotonic()

    def during() -> None:
        try:
            _minutes(scene, desk, options.minutes, seen.began_s)
        except KeyboardInterrupt:
            seen.cut_short = "interrupted"
        except ProcessError as error:
            seen.cut_short = str(error)
        seen.seconds = time.monotonic() - seen.began_s
        # Before the loudspeakers are asked for what they heard, which takes a while.
        seen.desk_cpu_s = desk.cpu_s - cpu_s
        with suppress(ProcessError):
            seen.readings = first, machine.Reading.of(scene.processes())
        desk.stop()

    try:
        seen.window = scene.watch(during)
        seen.lag = _lag(scene).minus(lag)
    except (ProcessError, OSError, ValueError, KeyboardInterrupt) as error:
        seen.cut_short = seen.cut_short or str(error) or "interrupted"
    ended_s = seen.began_s + seen.seconds
    seen.calls = [call for call in desk.calls(seen.began_s) if call.at_s <= ended_s]
    seen.late_ms = desk.late_ms()[late:]
    with suppress(sqlite3.Error, OSError):
        seen.growth = database.Growth(before, database.read(path), seen.seconds)


def _minutes(scene: Scene, desk: Desk, minutes: float, began_s: float) -> None:
    """One after the other, with a line about each for whoever looks."""
    until_s = began_s + minutes * _MINUTE_S
    minute = 0
    while (left_s := until_s - time.monotonic()) > 0:
        minute += 1
        since_s = time.monotonic()
        scene.wait(min(left_s, _MINUTE_S), f"minute {minute} of {minutes:g}")
        desk.check()
        calls = list(filter(told.is_counted, desk.calls(since_s)))
        if calls:
            found = percentiles(told.took(calls), "ms")
            in_vain = sum(not call.ok for call in calls)
            scene.bar.console.print(
                f"minute {minute}: {len(calls)} calls, {in_vain} in vain, "
                f"p50 {found['p50_ms']:.1f} ms, p99 {found['p99_ms']:.1f} ms, "
                f"max {found['max_ms']:.0f} ms",
                highlight=False,
            )


def _lag(scene: Scene) -> Histogram:
    """How late control's loop was so far."""
    found = _LAG.findall(scene.bench.text("/metrics"))
    below = sorted((float(bound) * 1e3, int(float(count))) for bound, count in found)
    steps = pairwise([(0.0, 0), *below])
    return Histogram.of((bound_ms, count - less) for (_, less), (bound_ms, count) in steps)


# ---------------------------------------------------------------- figures
def _figures(options: argparse.Namespace, seen: Seen) -> Figures:
    calls = list(filter(told.is_counted, seen.calls))
    found: Figures = {
        name: getattr(options, name)
        for name in ("endpoints", "listeners", "operators", "communes", "frame_ms")
    }
    found |= {"join_seconds": seen.join_s, "seconds": seen.seconds, "cut_short": seen.cut_short}
    found |= told.row(calls)
    found |= {
        "p99_ms_with_connecting": percentiles([c.took_ms + c.connect_ms for c in calls])["p99"],
        "calls_per_second": len(calls) / seen.seconds,
        "statuses": told.statuses(seen.calls),
        "errors": told.in_vain(seen.calls),
        "kinds": {kind: told.row(some) for kind, some in told.by_kind(seen.calls).items()},
        "groups": {kind: told.row(some) for kind, some in told.by_group(calls).items()},
        "minutes": told.by_minute(seen.calls, seen.began_s),
        "sign_in_before": told.row(seen.signed_in),
        "operators_late_ms": percentiles(seen.late_ms),
        "operators_share": seen.desk_cpu_s / seen.seconds,
    }
    return found | _of_station(seen, len(calls)) | _of_database(options, seen)


def _of_station(seen: Seen, counted: int) -> Figures:
    found: Figures = {}
    if seen.window is not None:
        found["media"] = _media(seen.window)
        found["control_share"] = _control_share(seen.window)
    if seen.alone is not None:
        found["media_without_operators"] = _media(seen.alone)
        found["control_share_without_operators"] = _control_share(seen.alone)
    if seen.alone is not None and seen.window is not None and counted:
        share = _control_share(seen.window) - _control_share(seen.alone)
        found["control_ms_per_call"] = share * seen.seconds / counted * 1e3
    if seen.lag is not None:
        ranks = {"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1.0}
        found["control_lag_ms"] = {name: seen.lag.at_ms(rank) for name, rank in ranks.items()}
    if seen.readings is not None:
        before, after = seen.readings
        more = {
            "control_waited_share": after.waited_s - before.waited_s,
            "control_written_bytes_per_second": after.written_bytes - before.written_bytes,
            "machine_share": after.busy_s - before.busy_s,
        }
        found |= {name: value / seen.seconds for name, value in more.items()}
        found["control_mb"] = {"before": before.own_bytes / 1e6, "after": after.own_bytes / 1e6}
    if seen.readings is not None and seen.window is not None:
        window = seen.window
        ours_s = window.station_cpu_s + window.simulator_cpu_s + window.voice_cpu_s
        busy_s = seen.readings[1].busy_s - seen.readings[0].busy_s
        found["others_share"] = (busy_s - ours_s - seen.desk_cpu_s) / seen.seconds
    return found


def _media(window: Window) -> Figures:
    return {**window_figures(window), "sender_overruns": window.sent.overruns}


def _control_share(window: Window) -> float:
    return window.cpu_s.get("control", 0.0) / window.seconds


def _of_database(options: argparse.Namespace, seen: Seen) -> Figures:
    if seen.growth is None:
        return {}
    grown = database.figures(seen.growth, options.endpoints, options.operators, options.hours)
    days = {"audit_days": options.audit_days, "programmes_days": options.programmes_days}
    kept = seen.growth.kept_bytes(**days, hours=options.hours)
    return {"database": {**grown, **days, "mb_with_retention": kept / 1e6}}


def _show(title: str, figures: Mapping[str, object], calls: list[Call]) -> None:
    counted = list(filter(told.is_counted, calls))
    rows = [*told.by_kind(calls).items(), *told.by_group(counted).items(), ("all", counted)]
    table(f"{title}: each kind of call, ms", [_brief(name, told.row(some)) for name, some in rows])
    left_out = {"kinds", "groups", "minutes", "database", "media_without_operators"}
    rest = [(name, value) for name, value in figures.items() if name not in left_out]
    grown = figures.get("database")
    if isinstance(grown, Mapping):
        table(f"{title}: the database", grown["tables"])
        rest += [(f"database.{name}", value) for name, value in database.flat(grown).items()]
    if isinstance(alone := figures.get("media_without_operators"), Mapping):
        rest += [(f"without operators.{name}", alone[name]) for name in _BESIDE]
    table(title, [{"figure": name, "value": value} for name, value in _flat(rest)])
    if figures["cut_short"]:
        print(f"cut short: {figures['cut_short']}", file=sys.stderr)


def _brief(name: str, row: Figures) -> Figures:
    return {"call": name, **{heading: row[key] for heading, key in _HEADINGS.items()}}


def _flat(figures: list[tuple[str, object]]) -> Iterator[tuple[str, object]]:
    for name, value in figures:
        if isinstance(value, Mapping):
            yield from _flat([(f"{name}.{inner}", one) for inner, one in value.items()])
        else:
            yield name, value
