"""`loa bench NAME`: measure, show a table, and write JSON and a plot on request."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bench import fanout, fleet, impair_bench, latency, loss, operators, seal, sync
from bench.measure import MeasureError
from bench.processes import ProcessError
from bench.report import ReportError
from server.live.station import LiveError

# name: (adds its own options, runs)
BENCHES: dict[
    str,
    tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], None]],
] = {
    "fanout": (fanout.add_options, fanout.run),
    "fleet": (fleet.add_options, fleet.run),
    "impair": (impair_bench.add_options, impair_bench.run),
    "latency": (latency.add_options, latency.run),
    "loss": (loss.add_options, loss.run),
    "operators": (operators.add_options, operators.run),
    "seal": (seal.add_options, seal.run),
    "sync": (sync.add_options, sync.run),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loa bench", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, (add_options, run) in BENCHES.items():
        described = (sys.modules[run.__module__].__doc__ or "").splitlines()[0]
        one = names.add_parser(name, help=described, description=described)
        one.add_argument("--seed", type=int, default=1, help="(%(default)s)")
        one.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
        one.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the distribution")
        add_options(one)
        one.set_defaults(run=run)
    return parser


def main(argv: list[str]) -> int:
    """Run one bench."""
    options = _parser().parse_args(argv)
    for file in (options.json, options.plot, getattr(options, "csv", None)):
        if file is not None and not file.absolute().parent.is_dir():
            print(f"loa bench {options.name}: {file}: there is no such folder", file=sys.stderr)
            return 2
    try:
        if options.seed < 0:
            raise ValueError(f"--seed {options.seed}: a seed is not negative")
        options.run(options)
    except (ReportError, MeasureError, ProcessError, LiveError, OSError, ValueError) as error:
        print(f"loa bench {options.name}: {error}", file=sys.stderr)
        return 1
    return 0
