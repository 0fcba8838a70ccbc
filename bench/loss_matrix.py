"""The bench of loss over all networks, seeds and schemes, written down in `bench/results/`."""

import argparse
import multiprocessing
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from bench.loss_measure import Row, Task, measure
from bench.loss_scene import scene_of
from bench.loss_sound import VOICE
from bench.report import drawn, table, write_json

# A residual loss of none has no place on a logarithmic axis: it is drawn at the bottom.
_LEAST_PERCENT = 0.001
_SAME = (
    "profile",
    "scheme",
    "delivery",
    "multicast",
    "playout_delay_ms",
    "rtt_ms",
    "clean_pesq_wb",
)
_MEANS = ("raw_loss", "residual_loss", "pesq_wb", "stoi", "payload_ratio", "wire_kbps", "up_kbps")
_CELLS = {
    "scheme": "scheme",
    "lost": "raw_loss",
    "unheard": "residual_loss",
    "worst": "residual_loss_worst",
    "PESQ": "pesq_wb",
    "lowest": "pesq_wb_worst",
    "STOI": "stoi",
    "bytes x": "payload_ratio",
    "kb/s": "wire_kbps",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A network and how it is used."""

    profile: str
    delivery: str = "wan"
    playout_delay_ms: float | None = None
    multicast: bool = False

    @property
    def name(self) -> str:
        """As tables and plots have it."""
        way = "multicast" if self.multicast else "unicast"
        delay_ms = scene_of(self.profile, self.delivery, seed=1).playout_delay_ms
        if self.playout_delay_ms is not None:
            delay_ms = self.playout_delay_ms
        return f"{self.profile} {self.delivery} {way} D {delay_ms:g}"

    def task(self, seed: int, audio: Path, seconds: float) -> Task:
        """One run of it."""
        scene = scene_of(
            self.profile,
            self.delivery,
            seed=seed,
            playout_delay_ms=self.playout_delay_ms,
            multicast=self.multicast,
        )
        return Task(scene, audio, seconds)


CONDITIONS = (
    *(Condition(profile) for profile in ("R5", "R10", "R20", "R30", "M1", "M2", "M3", "O1")),
    *(Condition(profile, playout_delay_ms=700.0) for profile in ("M3", "O1")),
    *(Condition(profile, "saver") for profile in ("R10", "M2")),
    *(Condition(profile, "lan", multicast=True) for profile in ("L0", "R5")),
    *(Condition(profile, "lan", 500.0, multicast=True) for profile in ("R20", "R30")),
    *(Condition(profile, "wifi", multicast=True) for profile in ("L1", "L2")),
)


def run_matrix(options: argparse.Namespace) -> None:
    """All conditions with all seeds; tables, JSON and plots into `--results`."""
    if options.json is not None or options.plot is not None:
        raise ValueError("--matrix writes its files into --results DIR: leave --json, --plot out")
    if not 1 <= options.seeds <= 100 or not 1 <= options.processes <= 256:
        raise ValueError("--seeds has 1 to 100, --processes 1 to 256")
    if not options.results.is_dir():
        raise ValueError(f"{options.results}: there is no such folder")
    audio = options.audio or VOICE
    seeds = range(options.seed, options.seed + options.seeds)
    tasks = {
        (condition.name, seed): condition.task(seed, audio, options.minutes * 60)
        for condition in CONDITIONS
        for seed in seeds
    }
    with Progress() as progress:
        done = _measured(tasks, options.processes)
        found = dict(progress.track(done, total=len(tasks), description="matrix"))
    summaries = {
        condition.name: summarised([found[condition.name, seed] for seed in seeds])
        for condition in CONDITIONS
    }
    _write(summaries, options, audio)
    for name, rows in summaries.items():
        table(name, [_cells(row) for row in rows])


def _measured(
    tasks: Mapping[tuple[str, int], Task], processes: int
) -> Iterator[tuple[tuple[str, int], list[Row]]]:
    """The rows of each task, in the order in which they are done."""
    if processes == 1:
        for key, task in tasks.items():
            yield key, measure(task)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        running = {pool.submit(measure, task): key for key, task in tasks.items()}
        for done in as_completed(running):
            yield running[done], done.result()


def summarised(runs: Sequence[Sequence[Row]]) -> list[dict[str, Any]]:
    """One row a scheme: means over the seeds, and the worst of residual loss and of PESQ-WB.

    `runs` are of one condition; each has the same schemes in the same order.
    """
    rows = []
    for same in zip(*runs, strict=True):
        figures = [row.figures for row in same]
        row = {name: figures[0][name] for name in _SAME}
        for name in _MEANS:
            row[name] = _over(np.mean, (one[name] for one in figures))
        row["residual_loss_worst"] = _over(np.max, (one["residual_loss"] for one in figures))
        row["pesq_wb_worst"] = _over(np.min, (one["pesq_wb"] for one in figures))
        rows.append(row)
    return rows


def _over(how: Any, values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(how(known)), 6) if known else None


def _cells(row: Mapping[str, Any]) -> dict[str, object]:
    return {title: row[name] for title, name in _CELLS.items()}


def _write(
    summaries: Mapping[str, Sequence[dict[str, Any]]], options: argparse.Namespace, audio: Path
) -> None:
    folder, words = options.results, ["loa", "bench", "loss", "--matrix"]
    words += ["--minutes", f"{options.minutes:g}", "--seeds", str(options.seeds)]
    words += ["--seed", str(options.seed)]
    figures = {
        "command": shlex.join(words),
        "minutes": options.minutes,
        "seeds": options.seeds,
        "audio": audio.name,
        "runs": [{"condition": name, **row} for name, rows in summaries.items() for row in rows],
    }
    write_json(folder / "loss.json", figures, options.seed)
    (folder / "loss.md").write_text(markdown(summaries, shlex.join(words)), encoding="utf-8")
    _plot(folder / "loss-pesq.svg", summaries, "pesq_wb", "PESQ-WB")
    _plot(
        folder / "loss-residual.svg",
        summaries,
        "residual_loss",
        "frames not heard, % (none: 0.001)",
    )


def markdown(summaries: Mapping[str, Sequence[Mapping[str, Any]]], command: str) -> str:
    """Two tables, of residual loss and of PESQ-WB: a line a network, a column a scheme."""
    schemes = list(dict.fromkeys(row["scheme"] for rows in summaries.values() for row in rows))
    parts = [
        "# Speech under loss\n",
        f"`{command}`; means over the seeds. `clean` is what Opus alone makes of it.\n",
    ]
    for title, cell in (
        ("Frames not heard, %", partial(_percent, "residual_loss")),
        ("PESQ-WB", partial(_number, "pesq_wb")),
        ("Opus bytes sent beside those of the frames", partial(_number, "payload_ratio")),
    ):
        parts += [f"## {title}\n", _line(["network", "raw %", "clean", *schemes])]
        parts.append(_line(["---"] * (3 + len(schemes))))
        for name, rows in summaries.items():
            by_scheme = {row["scheme"]: row for row in rows}
            raw, clean = _percent("raw_loss", rows[0]), _number("clean_pesq_wb", rows[0])
            cells = [cell(by_scheme.get(scheme, {})) for scheme in schemes]
            parts.append(_line([name, raw, clean, *cells]))
        parts.append("")
    return "\n".join(parts)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(name: str, row: Mapping[str, Any]) -> str:
    value = row.get(name)
    return "" if value is None else f"{100 * value:.3f}"


def _number(name: str, row: Mapping[str, Any]) -> str:
    value = row.get(name)
    return "" if value is None else f"{value:.2f}"


def _plot(
    path: Path, summaries: Mapping[str, Sequence[Mapping[str, Any]]], name: str, label: str
) -> None:
    """Each network a place from left to right, in it the schemes side by side."""
    schemes = list(dict.fromkeys(row["scheme"] for rows in summaries.values() for row in rows))
    with drawn(path, ylabel=label, title="speech under loss, 24 kb/s") as axes:
        for number, scheme in enumerate(schemes):
            points = [
                (place + 0.09 * (number - len(schemes) / 2), row[name])
                for place, rows in enumerate(summaries.values())
                for row in rows
                if row["scheme"] == scheme and row[name] is not None
            ]
            across = [place for place, _ in points]
            up = [value for _, value in points]
            if name == "residual_loss":
                up = [max(100 * value, _LEAST_PERCENT) for value in up]
            mark = "D" if number == 0 else "."
            axes.plot(across, up, linestyle="none", marker=mark, markersize=5, label=scheme)
        if name == "residual_loss":
            axes.set_yscale("log")
        axes.set_xticks(range(len(summaries)), list(summaries), rotation=45, ha="right", size=7)
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
