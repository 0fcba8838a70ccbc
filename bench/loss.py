"""Speech over a network that loses packets: what is still heard, ours and others' schemes."""

import argparse
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from bench.loss_matrix import run_matrix
from bench.loss_measure import Row, Task, measure
from bench.loss_scene import scene_of
from bench.loss_sound import STIPA, VOICE
from bench.network import PROFILES
from bench.report import plot_cdf, table, write_json
from transport.control.delivery import DELIVERIES

_LEAST_MINUTES, _MOST_MINUTES = 0.1, 24 * 60
RESULTS = Path(__file__).with_name("results")
# How the table calls a figure, and by what it is multiplied there.
_COLUMNS = {
    "raw_loss": ("lost %", 100),
    "residual_loss": ("unheard %", 100),
    "pesq_wb": ("PESQ", 1),
    "stoi": ("STOI", 1),
    "sti": ("STI", 1),
    "payload_ratio": ("bytes x", 1),
    "wire_kbps": ("kb/s", 1),
    "up_kbps": ("up", 1),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this bench alone."""
    parser.add_argument(
        "--profile", default="R10", metavar="P", help=f"{', '.join(PROFILES)} (%(default)s)"
    )
    parser.add_argument(
        "--delivery", choices=tuple(DELIVERIES), default="wan", help="(%(default)s)"
    )
    parser.add_argument(
        "--playout-delay", type=float, metavar="MS", help="D (as the delivery asks for)"
    )
    parser.add_argument("--rtt-ms", type=float, metavar="MS", help="there and back, without jitter")
    parser.add_argument(
        "--buffer-ms",
        type=float,
        default=0.0,
        metavar="MS",
        help="of D, what the output keeps ready for its device (%(default)s)",
    )
    parser.add_argument("--multicast", action="store_true", help="nobody asks for anything again")
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="instead of a profile: a line a packet"
    )
    parser.add_argument("--audio", type=Path, metavar="FILE", help="speech (a human voice)")
    parser.add_argument("--stipa", action="store_true", help="IEC 60268-16's signal, not speech")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M", help="(%(default)s)")
    parser.add_argument("--no-peers", action="store_true", help="our own scheme alone")
    parser.add_argument("--matrix", action="store_true", help="all profiles, seeds and schemes")
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="of the matrix, from --seed (%(default)s)"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="for the matrix's files"
    )
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="for the matrix (%(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    """Measure and report."""
    if not _LEAST_MINUTES <= options.minutes <= _MOST_MINUTES:
        wanted = f"use {_LEAST_MINUTES:g} to {_MOST_MINUTES}"
        raise ValueError(f"--minutes {options.minutes:g}: {wanted}")
    if options.matrix:
        run_matrix(options)
        return
    task = task_of(options)
    with Progress() as progress:
        bar = progress.add_task(task.scene.profile, total=1.0)
        rows = measure(task, lambda share: progress.update(bar, completed=share))
    report(task, rows, options)


def task_of(options: argparse.Namespace) -> Task:
    """As the command line says; ValueError for what cannot be."""
    if options.stipa and options.audio is not None:
        raise ValueError("--stipa is a sound of its own: leave --audio out")
    name = options.profile.upper() if options.trace is None else f"trace {options.trace.name}"
    scene = scene_of(
        name,
        options.delivery,
        seed=options.seed,
        playout_delay_ms=options.playout_delay,
        rtt_ms=options.rtt_ms,
        multicast=options.multicast,
        trace=options.trace,
        buffer_ms=options.buffer_ms,
    )
    audio = STIPA if options.stipa else options.audio or VOICE
    return Task(scene, audio, options.minutes * 60, peers=not options.no_peers)


def shown(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Rows of the table on the screen; what was measured of no scheme is left out of it."""
    measured = [k for k in _COLUMNS if any(row.figures[k] is not None for row in rows)]
    return [{"scheme": row.figures["scheme"], **_cells(row.figures, measured)} for row in rows]


def _cells(figures: Mapping[str, Any], names: Sequence[str]) -> dict[str, object]:
    cells: dict[str, object] = {}
    for name in names:
        title, times = _COLUMNS[name]
        cells[title] = None if figures[name] is None else float(times * figures[name])
    return cells


def report(task: Task, rows: Sequence[Row], options: argparse.Namespace) -> None:
    """A table, and what else was asked for. Our own figures are the JSON's own keys."""
    scene = task.scene
    way = "multicast" if scene.multicast else "unicast"
    title = f"{scene.profile}, {scene.delivery} by {way}, D {scene.playout_delay_ms:g} ms"
    table(title, shown(rows))
    print(f"nothing lost: {_clean_line(rows[0].figures)}")
    if options.json is not None:
        figures = {**rows[0].figures, "schemes": [row.figures for row in rows]}
        write_json(options.json, {**figures, "audio": task.audio.name}, options.seed)
    if options.plot is not None:
        series = {row.figures["scheme"]: 100 * np.array(row.windows) for row in rows}
        plot_cdf(options.plot, series, "frames not heard in a window of 10 s, %", title)


def _clean_line(figures: Mapping[str, Any]) -> str:
    names = {"clean_pesq_wb": "PESQ-WB", "clean_stoi": "STOI", "clean_sti": "STI"}
    said = [f"{names[key]} {figures[key]:.3f}" for key in names if figures[key] is not None]
    if not said and any(find_spec(name) for name in ("pesq", "pystoi")):
        return "no speech to judge"
    return ", ".join(said) or "PESQ and STOI are not installed"
