"""`loa demo`: a station and four loudspeakers on this machine; a voice; and what was heard.

The loudspeakers have wrong clocks and wrong crystals that neither they nor the station know of.
Each records what a microphone in front of it would hear, in true time; the figures at the end
come from those recordings.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bench.measure import MeasureError, Recording, level_dbfs, spread_ms
from bench.processes import Bench, ProcessError, end

VOICE = Path(__file__).parent / "audio" / "voice.wav"
STORM = Path(__file__).parent / "audio" / "storm.wav"
# name: delivery
SPEAKERS = {
    "market": "multicast",
    "school": "multicast",
    "hamlet-1": "unicast",
    "hamlet-2": "unicast",
}
FEW = ("market", "hamlet-1")
_WINDOW_NS = 2_500_000_000
# A loudspeaker is given this long to begin, and the measurement stops this long before the end.
_EDGE_NS = 700_000_000
_SOUNDED_DBFS = -50.0
_SILENT_DBFS = -90.0


@dataclass(frozen=True, slots=True)
class Phase:
    """When a voice was on air, CLOCK_MONOTONIC, and for whom."""

    to: tuple[str, ...]
    began_ns: int
    ended_ns: int

    def windows(self) -> list[tuple[int, int]]:
        """Measuring windows that lie well inside."""
        first, last = self.began_ns + _EDGE_NS, self.ended_ns - _EDGE_NS
        return [(at, _WINDOW_NS) for at in range(first, last - _WINDOW_NS, _WINDOW_NS)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loa demo", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="on air (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--seed", type=int, default=1, help="of the wrong clocks (%(default)s)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep recordings and logs here")
    return parser


def wrong_world(draw: random.Random, number: int) -> dict[str, Any]:
    """A loudspeaker's hidden clock offset and skew, and its sound card's own crystal."""
    return {
        "clock_offset_s": draw.uniform(-10, 10),
        "clock_skew_ppm": draw.uniform(-50, 50),
        "dac_ppm": draw.uniform(-45, 45),
        "dac_wander_ppm": 5,
        "reading_noise_us": 30,
        "seed": number,
    }


def main(argv: list[str]) -> int:
    """Run it; the exit status is 0 only if everybody sounded when addressed, and only then."""
    options = _parser().parse_args(argv)
    console = Console()
    if options.seconds < 8:
        print(f"loa demo: --seconds {options.seconds:g}: use 8 or more", file=sys.stderr)
        return 2
    if options.json is not None and not options.json.absolute().parent.is_dir():
        print(f"loa demo: --json {options.json}: there is no such folder", file=sys.stderr)
        return 2
    try:
        if options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
            figures = _run(options, options.keep, console)
        else:
            with tempfile.TemporaryDirectory(prefix="loa-demo-") as folder:
                figures = _run(options, Path(folder), console)
    except (ProcessError, MeasureError, OSError) as error:
        print(f"loa demo: {error}", file=sys.stderr)
        return 1
    _summarise(figures, console)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    everybody = figures["sounded"] == figures["speakers"]
    return 0 if everybody and figures["silent_when_not_addressed"] else 1


def _run(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    draw = random.Random(options.seed)
    with Bench(folder) as bench:
        console.print("starting a station and four loudspeakers with wrong clocks ...")
        bench.start_station()
        for number, (name, delivery) in enumerate(SPEAKERS.items()):
            words = ("--buffer-ms", "30", *(["--multicast"] if delivery == "multicast" else []))
            bench.start_speaker(name, *words, simulate=wrong_world(draw, number))
        bench.wait_until_idle(tuple(SPEAKERS))
        console.print(f"station at http://{bench.address} (API: /api/docs)")
        half_s = options.seconds / 2
        phases = [
            _speak(bench, FEW, half_s, console),
            _speak(bench, tuple(SPEAKERS), half_s, console),
        ]
        rows = bench.speakers()
    return _figures(
        phases, {name: Recording.load(folder / f"{name}.wav") for name in SPEAKERS}, rows
    )


def _speak(bench: Bench, to: Sequence[str], seconds: float, console: Console) -> Phase:
    began_ns = time.monotonic_ns()
    words = [str(VOICE), "--repeat", "1000", "--server", bench.address, "--to", *to]
    # A newcomer's machine may be busy with other things.
    words += ["--playout-delay-ms", "120"]
    voice = bench.start("live", *words, log="live")
    title = f"a voice is on air to {', '.join(to)}"
    console.print(title)
    with Live(console=console, auto_refresh=False, transient=True) as screen:
        while (left_s := seconds - (time.monotonic_ns() - began_ns) / 1e9) > 0:
            if voice.poll() is not None:
                raise ProcessError(f"the voice broke off: {bench.log('live')}")
            if console.is_terminal:
                screen.update(_table(f"{left_s:.0f} s left", bench.speakers()), refresh=True)
            time.sleep(min(0.25, left_s))
    ended_ns = time.monotonic_ns()
    end(voice)
    time.sleep(1.0)  # what was said sounds D later, and is written within 0.2 s
    console.print(_table("afterwards", bench.speakers()))
    return Phase(tuple(to), began_ns, ended_ns)


def _table(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("speaker", "delivery", "state", "level", "sync error", "packets", "lost"):
        table.add_column(heading, justify="left" if heading in {"speaker", "delivery"} else "right")
    for name, delivery in SPEAKERS.items():
        row = rows.get(name, {})
        table.add_row(
            name,
            delivery,
            str(row.get("state", "?")),
            f"{row.get('level_dbfs', 0):.0f} dBFS",
            f"{row.get('sync_error_us', 0):.0f} µs",
            str(row.get("packets_received", 0)),
            str(row.get("packets_lost", 0) + row.get("packets_late", 0)),
        )
    return table


def _figures(
    phases: list[Phase], recordings: dict[str, Recording], rows: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    def levels(phase: Phase, names: set[str]) -> dict[str, float]:
        return {
            name: max(level_dbfs(recordings[name].window(*w).samples) for w in phase.windows())
            for name in names
        }

    sounded = [levels(phase, set(phase.to)) for phase in phases]
    quiet = [levels(phase, set(SPEAKERS) - set(phase.to)) for phase in phases]
    return {
        "speakers": len(SPEAKERS),
        "sounded": sum(
            all(level[name] > _SOUNDED_DBFS for level in sounded if name in level)
            for name in SPEAKERS
        ),
        "silent_when_not_addressed": all(
            value < _SILENT_DBFS for level in quiet for value in level.values()
        ),
        "spread_ms": round(
            max(spread_ms([recordings[n] for n in p.to], p.windows()) for p in phases), 4
        ),
        "frames_lost": sum(row["packets_lost"] + row["packets_late"] for row in rows.values()),
    }


def _summarise(figures: dict[str, Any], console: Console) -> None:
    silent = "yes" if figures["silent_when_not_addressed"] else "NO"
    table = Table(
        title="heard by a microphone at each loudspeaker", title_justify="left", show_header=False
    )
    table.add_row("sounded when addressed", f"{figures['sounded']} of {figures['speakers']}")
    table.add_row("silent when not addressed", silent)
    table.add_row("largest distance between any two", f"{figures['spread_ms'] * 1000:.0f} µs")
    table.add_row("frames lost", str(figures["frames_lost"]))
    console.print(table)
