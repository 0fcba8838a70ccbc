"""How far neighbouring loudspeakers are apart, at the sample clock, by network and by estimator.

Loudspeakers with unknown clock offsets, whose clocks and sound cards each have a wandering crystal
of 20 ppm, learn the media clock over seeded links on virtual time. Any two are apart by the
difference between the media positions that sound at them at one true time; looked at ten times a
second, from a minute after they were switched on. Peers' estimators are given the same exchanges.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from bench.network import PROFILES, Impairments, Profile, profile
from bench.report import percentiles, plot_cdf, table, write_json
from bench.sync_pairs import (
    CRYSTAL_PPM,
    SCHEMES,
    SETTLE_S,
    TRIM_S,
    Outcome,
    Plan,
    headline,
    measure,
)
from bench.trace import load_trace
from server.pace import time_s

Figures = dict[str, object]
# What half of a path's asymmetry costs nobody can see from within, so 4G is trimmed by ear once.
_TRIMMED = ("M1", "M2", "M3")
_MATRIX_SEEDS = 3
_RESULTS = Path(__file__).parent / "results"
_DRAWN = "L1"
_RANKS = 100
# What the matrix's table has room for: its heading, and the figure's name.
_BRIEF = {
    "P": "profile",
    "scheme": "scheme",
    "p50": "p50_us",
    "p95": "p95_us",
    "max": "max_us",
    "spread": "spread_us",
    "worst p95": "worst_p95_us",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this bench alone."""
    parser.add_argument("--profile", default="L1", metavar="P", help="(%(default)s)")
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="delays of both ways, in place of a profile"
    )
    parser.add_argument(
        "--trace-back", type=Path, metavar="FILE", help="those to the station, if they are others"
    )
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M", help="(%(default)s)")
    parser.add_argument(
        "--endpoints", type=int, default=2, metavar="K", help="any two are a pair (%(default)s)"
    )
    parser.add_argument(
        "--every",
        type=float,
        metavar="S",
        help="how often each asks for the time (as a station of K has them ask)",
    )
    parser.add_argument(
        "--trim",
        action=argparse.BooleanOptionalAction,
        help="put right once, by ear, after settling (4G profiles are)",
    )
    parser.add_argument(
        "--matrix",
        action="store_true",
        help=f"every profile, seeds 1 to {_MATRIX_SEEDS}; writes bench/results/sync.json and .svg",
    )


def run(options: argparse.Namespace) -> None:
    """Measure and report."""
    if options.matrix:
        _run_matrix(options)
        return
    name, path = _network(options)
    trim = name in _TRIMMED if options.trim is None else options.trim
    plan = _plan(options, path, trim, options.seed)
    with _bar(name) as passed:
        outcome = measure(plan, passed)
    if np.isnan(outcome.apart[headline(name)].signed_us).any():
        raise ValueError(f"{name}: not everybody could learn the time there: too much is lost")
    rows = {scheme: _figures([outcome], scheme) for scheme in SCHEMES}
    table(_title(options, name, trim), [{"scheme": s, **row} for s, row in rows.items()])
    if options.json is not None:
        scheme = headline(name)
        about = {"scheme": scheme, **_about(plan), "schemes": rows}
        figures = {"profile": name, **rows[scheme], **about}
        counts = {"questions": outcome.questions, "exchanges": outcome.exchanges}
        write_json(options.json, {**figures, **counts}, options.seed)
    if options.plot is not None:
        _draw(options.plot, [outcome], _title(options, name, trim))


def _network(options: argparse.Namespace) -> tuple[str, Profile]:
    if options.trace is None:
        if options.trace_back is not None:
            raise ValueError("--trace-back is for a way up beside --trace FILE: give both")
        return options.profile.upper(), profile(options.profile)
    path = Profile(Impairments(trace=load_trace(options.trace)))
    if options.trace_back is not None:
        path = path.with_uplink(Profile(Impairments(trace=load_trace(options.trace_back))))
    return options.trace.name, path


def _plan(options: argparse.Namespace, path: Profile, trim: bool, seed: int) -> Plan:
    every_s = time_s(options.endpoints) if options.every is None else options.every
    return Plan(path, options.endpoints, options.minutes, seed, every_s, trim)


def _about(plan: Plan) -> Figures:
    """What the figures were measured with."""
    return {
        "minutes": plan.minutes,
        "endpoints": plan.endpoints,
        "every_s": plan.every_s,
        "crystal_ppm": CRYSTAL_PPM,
        "settle_s": SETTLE_S,
        "trim_s": TRIM_S if plan.trim else 0.0,
    }


def _title(options: argparse.Namespace, name: str, trim: bool) -> str:
    after = f"{SETTLE_S:g} s" + (" and one trim" if trim else "")
    return f"{name}: {options.minutes:g} min of {options.endpoints} loudspeakers, after {after}"


def _figures(outcomes: Sequence[Outcome], scheme: str) -> Figures:
    """One scheme's row, over all outcomes."""
    apart = [outcome.apart[scheme] for outcome in outcomes]
    found = percentiles(np.concatenate([one.distances_us for one in apart]), "us")
    return {
        **{name: found[name] for name in ("p50_us", "p95_us", "max_us")},
        "spread_us": max(one.spread_us for one in apart),
        "untrimmed_us": max((us for one in apart if (us := one.untrimmed_us)), default=None),
    }


# ------------------------------------------------------------------ every profile
def _run_matrix(options: argparse.Namespace) -> None:
    rows: list[Figures] = []
    seeds = range(1, 1 + _MATRIX_SEEDS)
    plans: list[Plan] = []
    for name, path in PROFILES.items():
        plans = [_plan(options, path, name in _TRIMMED, seed) for seed in seeds]
        outcomes = []
        for plan in plans:
            with _bar(f"{name}, seed {plan.seed}") as passed:
                outcomes.append(measure(plan, passed))
        rows += [_matrix_row(name, scheme, outcomes) for scheme in SCHEMES]
        if name == _DRAWN:
            title = f"{name}, {len(seeds)} seeds of {options.minutes:g} min"
            _draw(options.plot or _RESULTS / "sync.svg", outcomes, title)
    table("microseconds apart", [{new: row[old] for new, old in _BRIEF.items()} for row in rows])
    about = {**_about(plans[0]), "trim_s": TRIM_S, "trimmed": _TRIMMED}
    figures = {"seeds": list(seeds), **about, "rows": rows}
    write_json(options.json or _RESULTS / "sync.json", figures, options.seed)


def _matrix_row(name: str, scheme: str, outcomes: Sequence[Outcome]) -> Figures:
    """Over all seeds, and the p95 of the worst."""
    worst_us = max(percentiles(one.apart[scheme].distances_us, "us")["p95_us"] for one in outcomes)
    figures = _figures(outcomes, scheme)
    return {"profile": name, "scheme": scheme, **figures, "worst_p95_us": worst_us}


def _draw(path: Path, outcomes: Sequence[Outcome], title: str) -> None:
    series: Mapping[str, NDArray[np.float64]] = {
        # So many ranks are as good as every moment, and the file is small.
        scheme: np.percentile(
            np.concatenate([outcome.apart[scheme].distances_us for outcome in outcomes]),
            np.linspace(0, 100, _RANKS),
        )
        for scheme in SCHEMES
    }
    plot_cdf(path, series, "apart, us", title)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[float], None]]:
    """A progress bar, gone at the end."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=1.0)
        yield lambda share: progress.update(task, completed=share)
