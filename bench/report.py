"""Figures leave a bench here: as a table, as JSON with the machine and commit, as a plot."""

import importlib
import json
import math
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

PACKAGES = ("av", "numpy", "opuslib-next", "trio", "uvloop")
_HERE = Path(__file__).resolve().parent


class ReportError(RuntimeError):
    """A report cannot be made in this environment; the message says what to do."""


def environment() -> dict[str, object]:
    """Describe machine, commit and libraries; what cannot be found out is None."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": _commit(),
        "versions": {name: _version(name) for name in PACKAGES},
        "libopus": _libopus_version(),
        "dred": _has_dred(),
    }


def percentiles(values: ArrayLike, unit: str = "") -> dict[str, float]:
    """Return p50, p95, p99 and max of one-dimensional values, named `p50_ms` for unit "ms".

    Each is a value that was measured, the next higher one where the rank falls between two, so
    that one infinite value does not spoil the others.

    ReportError if there are none: a figure without a measurement would be a lie.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ReportError("no values were measured")
    suffix = f"_{unit}" if unit else ""
    names, ranks = ("p50", "p95", "p99", "max"), (50.0, 95.0, 99.0, 100.0)
    measured = np.percentile(array, ranks, method="higher")
    return {name + suffix: float(value) for name, value in zip(names, measured, strict=True)}


def table(title: str, rows: Sequence[Mapping[str, object]], console: Console | None = None) -> None:
    """Print rows under the union of their keys, in order of first appearance."""
    grid = Table(title=Text(title))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        numeric = all(_is_number(row.get(column)) for row in rows)
        grid.add_column(Text(column), justify="right" if numeric else "left")
    for row in rows:
        # Text, because a plain string would be searched for markup.
        grid.add_row(*(Text(_shown(row.get(column))) for column in columns))
    (console or Console()).print(grid)


def write_json(path: str | Path, figures: Mapping[str, object], seed: int) -> None:
    """Write the figures as top-level keys, with the seed and the environment beside them.

    numpy values become plain ones, and what JSON cannot say (NaN, infinity) null. ReportError if
    a figure is called `seed` or `environment`, or is of a type that JSON has not.
    """
    if clash := {"seed", "environment"} & figures.keys():
        raise ReportError(f"{', '.join(sorted(clash))} is not for a bench to set")
    document = {**figures, "seed": seed, "environment": environment()}
    text = json.dumps(_plain(document), indent=2, allow_nan=False, ensure_ascii=False)
    Path(path).write_text(text + "\n", encoding="utf-8")


def plot_cdf(
    path_svg: str | Path, series: Mapping[str, NDArray[np.float64]], xlabel: str, title: str
) -> None:
    """Draw the share of values at or below x, one step curve a series; equal data, equal bytes.

    ReportError if matplotlib is missing, or a series is empty.
    """
    with drawn(path_svg, xlabel=xlabel, ylabel="share at or below", title=title) as axes:
        for name, values in series.items():
            if len(values) == 0:
                raise ReportError(f"no values were measured for {name}")
            axes.ecdf(values, label=name)
        if series:
            axes.legend()


def plot_line(
    path_svg: str | Path,
    points: Sequence[tuple[float, float]],
    line: Callable[[float], float],
    xlabel: str,
    ylabel: str,
    title: str,
) -> None:
    """Draw measured (x, y) and the line fitted to them, both axes logarithmic; likewise.

    Everything must be above 0. ReportError if matplotlib is missing, or there are no points.
    """
    if not points:
        raise ReportError("no points were measured")
    across, up = zip(*points, strict=True)
    along = np.geomspace(min(across), max(across), 100)
    with drawn(path_svg, xlabel=xlabel, ylabel=ylabel, title=title) as axes:
        axes.loglog(along, [line(x) for x in along], label="fixed + slope x N")
        axes.loglog(across, up, "o", label="measured")
        axes.legend()


@contextmanager
def drawn(path_svg: str | Path, **labels: str) -> Iterator[Any]:
    """Axes to draw on, which are written at the end of the block."""
    try:
        matplotlib = importlib.import_module("matplotlib")
        figure = importlib.import_module("matplotlib.figure").Figure(
            figsize=(8, 4.5), layout="constrained"
        )
    except ImportError as error:
        raise ReportError("plots need matplotlib: pip install loa[dev] (or make check)") from error
    axes = figure.add_subplot(**labels)
    axes.grid(visible=True, alpha=0.3)
    yield axes
    # Ids are hashed from a salt and the date is left out, or no two files would be alike.
    with matplotlib.rc_context({"svg.hashsalt": "loa"}):
        figure.savefig(path_svg, format="svg", metadata={"Date": None})


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or None)


def _commit() -> str | None:
    head = _git("rev-parse", "HEAD")
    if not head:
        return None
    return f"{head}+dirty" if _git("status", "--porcelain") else head


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_HERE), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _libopus_version() -> str | None:
    try:
        version = importlib.import_module("codec.libopus").version
        return str(version() if callable(version) else version)
    except (ImportError, AttributeError, OSError):
        return None


def _has_dred() -> bool | None:
    try:
        return bool(importlib.import_module("codec.libopus").has_dred())
    except (ImportError, AttributeError, OSError):
        return None


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float | np.number)


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case float() | np.floating():
            return f"{float(value):.4g}"
        case int() | np.integer() if not isinstance(value, bool):
            return f"{int(value):,}"
        case _:
            return str(value)


def _plain(value: object) -> object:
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case np.generic() | np.ndarray():
            return _plain(value.tolist())
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            raise ReportError(f"JSON has no {type(value).__name__}")
