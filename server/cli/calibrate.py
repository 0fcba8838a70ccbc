"""`loa calibrate`: bring two loudspeakers in step by ear, the ear being a telephone's.

Clocks cannot see what comes after them: the delay of an amplifier, a Bluetooth link, half the
asymmetry of a mobile network. A recording can. Whoever stands between two loudspeakers records,
the station plays sweeps to the one and the other in turn (`--play`), and is given the recording.
The two are told apart by the rhythm of their sweeps, so that the recording may begin and end
anywhere; no file need be carried to a loudspeaker, and nobody need note a time.
"""

import argparse
import os
import wave
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from codec.dsp import sweep
from codec.dsp.sweep import SweepError
from codec.errors import SourceError
from codec.format import SAMPLE_RATE, Samples
from codec.pcm import pcm16
from codec.sources.file import FileSource
from server.cli.api import OK, UsageError, complain, parser, run
from server.cli.table import show_json
from server.cli.text import microseconds, printable
from server.directory import nearest
from server.distance import speed_of_sound
from server.live.station import LiveError
from server.live.timed import play_together
from server.remote import ApiError, call, path_of, rows
from transport.control.messages import MAX_TRIM_US, spelt_alike

_SPEAKERS = "/api/v1/speakers"
_MOST_M = 1000.0
_MOST_WAIT_S = 600.0
# What is less certain than this would be no better than no trim.
_MOST_UNCERTAIN_S = 0.5e-3


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "calibrate",
        "Measure by how much later loudspeaker B is heard than A, and trim B. Start recording "
        "between the two, on a telephone say, and run with --play; then run with --recording. A "
        "recording counts once: it tells of the trims that there were when it was made.",
    )
    made.add_argument("a", nargs="?", metavar="A", help="the loudspeaker that is right")
    made.add_argument("b", nargs="?", metavar="B", help="the one that is trimmed to it")
    how = made.add_mutually_exclusive_group(required=True)
    how.add_argument("--play", action="store_true", help="play sweeps to A and B in turn, 12 s")
    how.add_argument("--recording", metavar="FILE", help="what was recorded: WAV, M4A, MP3, ...")
    how.add_argument(
        "--sweep",
        metavar="FILE.wav",
        help="write what --play plays, to be played by other means: A's left, B's right",
    )
    made.add_argument(
        "--after",
        type=_wait_s,
        default=3.0,
        metavar="S",
        help="with --play, seconds before the first sweep (%(default)g)",
    )
    for one in "ab":
        made.add_argument(
            f"--distance-{one}",
            type=_metres,
            metavar="M",
            help=f"from the microphone to {one.upper()} in metres; 1 cm is 29 µs "
            "(without both: equally far)",
        )
    made.add_argument(
        "--temperature", type=float, default=20.0, metavar="C", help="of the air (%(default)g)"
    )
    made.add_argument("--dry-run", action="store_true", help="say it, and store nothing")
    return made


def _metres(text: str) -> float:
    return _within(text, 0.0, _MOST_M, "distance", "metres")


def _wait_s(text: str) -> float:
    return _within(text, 0.0, _MOST_WAIT_S, "wait", "seconds")


def _within(text: str, least: float, most: float, what: str, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = most + 1
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no {what}: use {least:g} to {most:g} {unit}")
    return value


def main(argv: list[str]) -> int:
    """Play, measure or write."""
    return run(_parser(), argv, _calibrate)


def _calibrate(options: argparse.Namespace) -> int:
    _check(options)
    try:
        if options.sweep is not None:
            return _write(Path(options.sweep))
        if options.play:
            return _play(options)
        return _measure(options)
    except (SourceError, LiveError) as error:
        return complain("loa calibrate", str(error))


def _check(options: argparse.Namespace) -> None:
    if options.sweep is None and options.b is None:
        raise UsageError("which two? name the loudspeaker that is right, and the one to trim")
    options.a, options.b = (spelt_alike(name or "") for name in (options.a, options.b))
    if options.sweep is None and options.a == options.b:
        raise UsageError(f"{options.a} is always in step with itself: name two loudspeakers")
    if (options.distance_a is None) != (options.distance_b is None):
        raise UsageError("give both --distance-a and --distance-b, or neither")
    if not -40 <= options.temperature <= 60:
        raise UsageError(f"--temperature {options.temperature:g}: use -40 to 60")


def _write(path: Path) -> int:
    try:
        with path.open("wb") as file, closing(wave.open(file, "wb")) as sound:
            sound.setparams((2, 2, SAMPLE_RATE, 0, "NONE", ""))
            sound.writeframes(pcm16(sweep.schedule()))
    except OSError as error:
        raise SourceError(
            f"{path}: it cannot be written: {os.strerror(error.errno or 0)}"
        ) from None
    print(f"{printable(path)}: the first loudspeaker's sweeps left, the second's right")
    return OK


def _play(options: argparse.Namespace) -> int:
    for name in (options.a, options.b):
        _row(options.server, name)
    silence = np.zeros((round(options.after * SAMPLE_RATE), 2), np.float32)
    print(f"{options.a} and {options.b} sweep in turn: record now", flush=True)
    played = np.concatenate((silence, sweep.schedule()))
    play_together(options.server, (options.a, options.b), played)
    print("that was all: give the recording with --recording FILE")
    return OK


def _measure(options: argparse.Namespace) -> int:
    name = options.recording
    try:
        measured = sweep.measure(_recorded(name))
    except SweepError as error:
        raise SweepError(f"{name}: {error}") from None
    later_s = measured.later_s
    if options.distance_a is not None:
        later_s -= (options.distance_b - options.distance_a) / speed_of_sound(options.temperature)
    answer: dict[str, Any] = {
        "a": options.a,
        "b": options.b,
        "later_us": round(later_s * 1e6, 1),
        "uncertainty_us": round(measured.uncertainty_s * 1e6, 1),
        "snr_db": round(measured.snr_db, 1),
        "recorder_ppm": round(measured.drift_ppm, 1),
        "trim_us": None,
        "stored": False,
    }
    if not options.json:
        _say(answer)
    if measured.uncertainty_s > _MOST_UNCERTAIN_S:
        raise SweepError(f"{name}: that is too uncertain: record nearer, or where it is quieter")
    if not options.dry_run:
        _store(options, answer)
    if options.json:
        show_json(answer)
    return OK


def _recorded(name: str) -> Samples:
    """The louder channel: the mean of two microphones would hear everything twice."""
    blocks, length = [], 0
    for block in FileSource(name, channels=2):
        blocks.append(block)
        length += len(block)
        if length > sweep.MAX_RECORDING_S * SAMPLE_RATE:
            break  # it will be refused
    both = np.concatenate(blocks)
    louder: Samples = both[:, int(np.argmax((both**2).sum(axis=0)))]
    return louder


def _say(answer: dict[str, Any]) -> None:
    later_us = answer["later_us"]
    how = "after" if later_us >= 0 else "before"
    drift = answer["recorder_ppm"]
    print(
        f"{answer['b']} sounds {microseconds(abs(later_us))} {how} {answer['a']}, "
        f"± {microseconds(answer['uncertainty_us'])} "
        f"({answer['snr_db']:.0f} dB above the noise, recorder {drift:+.0f} ppm)"
    )


def _row(server: str, name: str) -> dict[str, Any]:
    found = {row["name"]: row for row in rows(server, _SPEAKERS)}
    if name not in found:
        raise ApiError(f"no loudspeaker {name!r}{nearest(name, found)}")
    return found[name]


def _store(options: argparse.Namespace, answer: dict[str, Any]) -> None:
    _row(options.server, options.a)
    before_us = _row(options.server, options.b)["trim_us"]
    trim_us = round(before_us - answer["later_us"])
    if abs(trim_us) > MAX_TRIM_US:
        raise ApiError(
            f"{options.b} would need a trim of {trim_us} µs, and {MAX_TRIM_US} is the most: "
            f"trim {options.a} halfway first, with `loa speakers set {options.a} --trim-us`"
        )
    call(options.server, "PATCH", path_of(_SPEAKERS, options.b), {"trim_us": trim_us})
    answer |= {"trim_us": trim_us, "stored": True}
    if not options.json:
        print(f"trim of {options.b}: {before_us} µs before, {trim_us} µs from now on")
        print("to be sure, play and record again: this recording has served")
