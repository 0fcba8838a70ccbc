"""`loa demo`: a station, six loudspeakers in two overlapping zones, two voices; and what was heard.

The loudspeakers have wrong clocks and wrong crystals that neither they nor the station know of. A
storm warning interrupts the voice wherever both are meant, and the voice resumes. Each loudspeaker
records what a microphone in front of it would hear, in true time; the figures come from that.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from bench.measure import (
    MeasureError,
    Recording,
    apart_ns,
    change_over_ns,
    level_dbfs,
    offset_seconds,
    spread_ms,
)
from bench.processes import Bench, ProcessError, end
from transport.net.clocks import now_ns

VOICE = Path(__file__).parent / "audio" / "voice.wav"
STORM = Path(__file__).parent / "audio" / "storm.wav"
# name: whether it hears the multicast group
SPEAKERS = {
    "market": True,
    "school": False,
    "hamlet-1": True,
    "hamlet-2": False,
    "pier": True,
    "ferry": False,
}
ZONES = {
    "centre": ("market", "school", "hamlet-1", "hamlet-2"),
    "riverside": ("hamlet-1", "hamlet-2", "pier", "ferry"),
}
_BOTH = tuple(name for name in ZONES["centre"] if name in ZONES["riverside"])
_VOICE_ALONE = tuple(name for name in ZONES["centre"] if name not in _BOTH)
_WINDOW_NS = 2_500_000_000
# A loudspeaker is given this long to begin, and the measurement stops this long before the end.
_EDGE_NS = 700_000_000
_SOUNDED_DBFS = -50.0
_SILENT_DBFS = -90.0
# A newcomer's machine may be busy with other things.
_PLAYOUT_DELAY_MS = 120


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of CLOCK_BOOTTIME, and who shall hear the same in it."""

    groups: tuple[tuple[str, ...], ...]
    began_ns: int
    ended_ns: int

    def windows(self) -> list[tuple[int, int]]:
        """Measuring windows that lie well inside."""
        first, last = self.began_ns + _EDGE_NS, self.ended_ns - _EDGE_NS
        length_ns = min(_WINDOW_NS, last - first)
        return [(at, length_ns) for at in range(first, last - length_ns + 1, length_ns)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loa demo", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=24.0, help="on air (%(default)s)")
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
    except MeasureError as error:
        print(f"loa demo: {error}; is this machine busy? try again", file=sys.stderr)
        return 1
    except (ProcessError, OSError) as error:
        print(f"loa demo: {error}", file=sys.stderr)
        return 1
    _summarise(figures, console)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    everybody = figures["sounded"] == figures["speakers"]
    right = figures["silent_when_not_addressed"] and figures["interrupted_and_resumed"]
    return 0 if everybody and right else 1


def _run(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    draw = random.Random(options.seed)
    with Bench(folder) as bench:
        console.print("starting a station and six loudspeakers with wrong clocks ...")
        bench.start_station()
        console.print(f"station at https://{bench.address} (API: /api/v1/docs)")
        for number, (name, multicast) in enumerate(SPEAKERS.items()):
            words = ("--buffer-ms", "30", *(["--multicast"] if multicast else []))
            bench.start_speaker(name, *words, simulate=wrong_world(draw, number))
        bench.wait_until_idle(tuple(SPEAKERS))
        bench.define_zones(ZONES)
        phases = _speak(bench, options.seconds / 3, console)
        rows = bench.speakers()
    recordings = {name: Recording.load(folder / f"{name}.wav") for name in SPEAKERS}
    return _figures(phases, recordings, rows)


def _speak(bench: Bench, seconds: float, console: Console) -> list[Phase]:
    """A voice; a warning that interrupts it; the voice again. So many seconds each."""
    centre, riverside = ZONES["centre"], ZONES["riverside"]
    voice = _start_voice(bench, VOICE, "centre", "live")
    title = f"a voice to zone centre: {', '.join(centre)}"
    phases = [_watch(bench, title, (centre,), seconds, voice, console)]
    warning = _start_voice(bench, STORM, "riverside", "priority")
    title = f"a storm warning interrupts it in zone riverside: {', '.join(riverside)}"
    groups = (_VOICE_ALONE, riverside)
    phases.append(_watch(bench, title, groups, seconds, warning, console))
    end(warning)
    phases.append(_watch(bench, "the voice resumes", (centre,), seconds, voice, console))
    end(voice)
    time.sleep(1.0)  # what was said sounds D later, and is written within 0.2 s
    return phases


def _start_voice(bench: Bench, file: Path, zone: str, priority: str) -> subprocess.Popen[str]:
    words = [str(file), "--repeat", "1000", "--server", bench.address, "--zone", zone]
    words += ["--priority", priority, "--playout-delay-ms", str(_PLAYOUT_DELAY_MS)]
    voice = bench.start("live", *words, log=f"live-{zone}")
    assert voice.stdout is not None  # noqa: S101 - it is a pipe
    voice.stdout.readline()  # it is on air: a busy machine may begin a process seconds late
    return voice


def _watch(
    bench: Bench,
    title: str,
    groups: tuple[tuple[str, ...], ...],
    seconds: float,
    voice: subprocess.Popen[str],
    console: Console,
) -> Phase:
    began_ns = now_ns()
    console.print(title)
    with Live(console=console, auto_refresh=False, transient=True) as screen:
        while (left_s := seconds - (now_ns() - began_ns) / 1e9) > 0:
            if voice.poll() is not None:
                said = " ".join(bench.log(f"live-{zone}") for zone in ZONES)
                raise ProcessError(f"the voice broke off: {said}")
            if console.is_terminal:
                screen.update(_table(f"{left_s:.0f} s left", bench.speakers()), refresh=True)
            time.sleep(min(0.25, left_s))
        console.print(_table("", bench.speakers()))
    return Phase(groups, began_ns, now_ns())


def _table(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=title or None, title_justify="left")
    for heading in ("speaker", "delivery", "hearing", "level", "sync error", "packets", "lost"):
        left = heading in {"speaker", "delivery", "hearing"}
        table.add_column(heading, justify="left" if left else "right")
    for name, multicast in SPEAKERS.items():
        row = rows.get(name, {})
        table.add_row(
            name,
            "multicast" if multicast else "unicast",
            row.get("hearing") or "-",
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

    everybody = set(SPEAKERS)
    addressed = [{name for group in phase.groups for name in group} for phase in phases]
    sounded = [levels(p, names) for p, names in zip(phases, addressed, strict=True)]
    quiet = [levels(p, everybody - names) for p, names in zip(phases, addressed, strict=True)]
    return {
        "speakers": len(SPEAKERS),
        "sounded": sum(
            all(level[name] > _SOUNDED_DBFS for level in sounded if name in level)
            for name in SPEAKERS
        ),
        "silent_when_not_addressed": all(
            value < _SILENT_DBFS for level in quiet for value in level.values()
        ),
        "interrupted_and_resumed": _each_group_hears_its_own(phases, recordings),
        "spread_ms": round(
            max(
                spread_ms([recordings[n] for n in group], phase.windows())
                for phase in phases
                for group in phase.groups
            ),
            4,
        ),
        "change_over_ms": _change_over_ms(phases, recordings),
        "frames_lost": sum(row["packets_lost"] + row["packets_late"] for row in rows.values()),
    }


def _each_group_hears_its_own(phases: list[Phase], recordings: dict[str, Recording]) -> bool:
    """Whether all of a group are alike in every window, which two voices never are."""
    return all(
        offset_seconds(recordings[group[0]], recordings[name], *window).correlation > 0.9
        for phase in phases
        for group in phase.groups
        for name in group[1:]
        for window in phase.windows()
    )


def _change_over_ms(phases: list[Phase], recordings: dict[str, Recording]) -> float | None:
    """How far apart those in both zones turn from the voice to the warning, at least.

    None if one of the two paused just then.
    """
    near_ns = _begins_ns(recordings["pier"], phases[1].began_ns)
    pair = recordings["market"], recordings["pier"]
    try:
        moments = [change_over_ns(recordings[name], *pair, near_ns, 0.1) for name in _BOTH]
    except MeasureError:
        return None
    return round(apart_ns(moments) / 1e6, 4)


def _begins_ns(recording: Recording, after_ns: int) -> int:
    """When a loudspeaker that was silent is first heard."""
    start, _ = recording.index_at(after_ns)
    first = start + int(np.argmax(np.abs(recording.samples[start:]) > 0.01))
    return recording.first_sample_time_ns + first * 1_000_000_000 // recording.rate


def _summarise(figures: dict[str, Any], console: Console) -> None:
    silent = "yes" if figures["silent_when_not_addressed"] else "NO"
    table = Table(
        title="heard by a microphone at each loudspeaker", title_justify="left", show_header=False
    )
    table.add_row("sounded when addressed", f"{figures['sounded']} of {figures['speakers']}")
    table.add_row("silent when not addressed", silent)
    resumed = "yes" if figures["interrupted_and_resumed"] else "NO"
    table.add_row("interrupted where both are meant, and resumed", resumed)
    table.add_row("largest distance between any two", f"{figures['spread_ms'] * 1000:.0f} µs")
    apart = "together, as far as can be told"
    if figures["change_over_ms"]:
        apart = f"{figures['change_over_ms'] * 1000:.0f} µs apart"
    table.add_row("the two in both zones change over", apart)
    table.add_row("frames lost", str(figures["frames_lost"]))
    console.print(table)
    if "NO" in (silent, resumed):
        console.print(
            "NO: a machine that is busy with other things tears holes; try again, or look at the "
            "recordings with --keep DIR"
        )
