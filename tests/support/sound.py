"""A sound server of a test's own, and the loudspeakers that play through it.

PulseAudio's null sink is a sound card without hardware, whose monitor is a microphone. Two mono
sinks are the two channels of one such card, so one recording hears two loudspeakers, and where
they are apart in it they are apart.
"""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bench.demo import VOICE
from bench.measure import MeasureError, Recording, offset_seconds
from bench.processes import LOA, Bench, end, wait_until
from codec.format import SAMPLE_RATE

TOOLS = ("pulseaudio", "pactl", "pacat", "parec")
SIDES = {"left": "front-left", "right": "front-right"}
SECOND = 1_000_000_000
_WINDOW_S = 2.0
_ON_END = 5
_FAST = "--latency-msec=20"
_LINE = "loa speaker: "
_OF_THE_STATION = (f"{_LINE}enrolled as", f"{_LINE}joined the station")


@dataclass(frozen=True, slots=True)
class SoundServer:
    """PulseAudio, its files in `folder`; the environment leads this process's children to it."""

    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """The environment in which it is the sound server."""
        folder = str(self.folder)
        return {
            "HOME": folder,
            "XDG_RUNTIME_DIR": folder,
            "PULSE_RUNTIME_PATH": folder,
            "PULSE_SERVER": f"unix:{folder}/native",
        }

    def ask(self, *words: str) -> str:
        """What `pactl` answers."""
        return subprocess.check_output(["pactl", *words], text=True).strip()

    def streams(self, kind: str) -> set[str]:
        """The numbers of all "sink-inputs" or "source-outputs" that are not the server's own."""
        rows = self.ask("list", "short", kind).splitlines()
        return {row.split("\t")[0] for row in rows if "module-" not in row}

    def kill(self, kind: str, number: str) -> None:
        """End a "sink-input" or a "source-output", as when its device is pulled out."""
        with socket.socket(socket.AF_UNIX) as commands:
            commands.connect(str(self.folder / "cli"))
            commands.sendall(f"kill-{kind} {number}\n".encode())
            wait_until(
                lambda: number not in self.streams(f"{kind}s"), f"the end of {kind} {number}"
            )

    def add_card(self, name: str) -> str:
        """A card without hardware; its module's number."""
        return self.ask("load-module", "module-null-sink", f"sink_name={name}", "rate=48000")

    def add_side(self, name: str) -> str:
        """A mono card that is one side of the card `both`; its module's number."""
        words = [f"sink_name={name}", "master=both", "channels=1", "channel_map=mono", "remix=no"]
        side = f"master_channel_map={SIDES[name]}"
        return self.ask("load-module", "module-remap-sink", *words, side)


@contextmanager
def sound_server(folder: Path) -> Iterator[SoundServer]:
    """Runs until the block ends; skips the test where something for it is not installed."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    server = SoundServer(folder)
    with ExitStack() as held:
        patch = held.enter_context(pytest.MonkeyPatch.context())
        for name, value in server.variables.items():
            patch.setenv(name, value)
        log = held.enter_context((folder / "pulseaudio.log").open("w"))
        options = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        modules = [
            f"--load=module-native-protocol-unix auth-anonymous=1 socket={folder}/native",
            f"--load=module-cli-protocol-unix socket={folder}/cli",
        ]
        process = subprocess.Popen(
            ["pulseaudio", *options, "--system=false", *modules], stderr=log, text=True
        )
        held.callback(end, process)
        wait_until(_answers, "the sound server")
        server.add_card("both")
        devices = subprocess.run(
            [*LOA, "speaker", "--output", "device:?"], capture_output=True, text=True, check=False
        )
        if "pulse" not in devices.stdout:
            pytest.skip(f"PortAudio has no device pulse: {devices.stderr.strip()}")
        yield server


def _answers() -> bool:
    return subprocess.run(["pactl", "info"], capture_output=True, check=False).returncode == 0


class Duet:
    """Two loudspeakers, `left` and `right`, each on its side of one recorded card."""

    def __init__(self, server: SoundServer, bench: Bench) -> None:
        self.server = server
        self.bench = bench
        self.sides = {name: server.add_side(name) for name in SIDES}
        self.stream: dict[str, str] = {}
        self._raw = bench.folder / "both.raw"

    def start(self, output: str, *options: str) -> None:
        """The station and both loudspeakers, each on its card by the environment."""
        self.bench.start_station()
        for name in SIDES:
            before = self.server.streams("sink-inputs")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PULSE_SINK", name)
                self.bench.start_speaker(name, "--output", output, *options)
            self.stream[name] = self._stream_beside(before, name)
        self.bench.wait_until_idle(list(SIDES))

    def lose(self, name: str) -> None:
        """Take a card away for good: a server that only loses it moves its stream to another."""
        self.server.ask("unload-module", self.sides[name])
        self.server.kill("sink-input", self.stream[name])

    def _stream_beside(self, others: set[str], name: str) -> str:
        def new() -> set[str]:
            return self.server.streams("sink-inputs") - others

        wait_until(lambda: bool(new()), f"the sound of {name}")
        (number,) = new()
        return number

    @contextmanager
    def recording(self) -> Iterator[None]:
        """The voice is on air and recorded within the block."""
        words = ["--rate=48000", "--format=s16le", "--channels=2", _FAST]
        with self._raw.open("wb") as raw:
            recorder = subprocess.Popen(
                ["parec", "--raw", "-d", "both.monitor", *words], stdout=raw, text=True
            )
        try:
            live = [str(VOICE), "--repeat", "50", "--server", self.bench.address, "--to", "all"]
            self.bench.start("live", *live, "--playout-delay-ms", "200", log="live")
            wait_until(lambda: self._loud(-1.0), "sound in the recording")
            yield
        finally:
            end(recorder)

    @property
    def now_s(self) -> float:
        """How much has been recorded."""
        return self._raw.stat().st_size / 4 / SAMPLE_RATE

    def wait(self, seconds: float) -> None:
        """Let so much more be recorded."""
        until_s = self.now_s + seconds
        wait_until(lambda: self.now_s > until_s, f"{seconds} s of sound", seconds + 30)

    def heard(self, name: str) -> np.ndarray:
        """What the recording has of one of them, float32."""
        data = np.fromfile(self._raw, "<i2")
        both = data[: len(data) // 2 * 2].reshape(-1, 2).astype(np.float32) / np.float32(32768)
        return np.ascontiguousarray(both[:, list(SIDES).index(name)])

    def peak(self, name: str, begin_s: float, end_s: float) -> float:
        """The loudest sample within these seconds of the recording."""
        stretch = self.heard(name)[round(begin_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]
        return float(np.max(np.abs(stretch), initial=0.0))

    def wait_until_in_step(self, limit_us: float, within_s: float) -> None:
        """Until five windows on end have `right` no further than this from `left`."""
        began_s, apart_us = self.now_s, list[float]()
        while sum(apart < limit_us for apart in apart_us[-_ON_END:]) < _ON_END:
            at_s = began_s + len(apart_us) * _WINDOW_S
            assert at_s + _WINDOW_S <= began_s + within_s, f"us apart: {apart_us}"
            self.wait(at_s + _WINDOW_S - self.now_s)
            apart_us.append(self._apart_us(at_s))
        print("us apart:", [round(apart, 1) for apart in apart_us])

    def _apart_us(self, at_s: float) -> float:
        """Infinite where more than one offset fits, as when one of them leaps within the window."""
        one, two = (Recording(self.heard(name), SAMPLE_RATE, 0) for name in SIDES)
        try:
            offset = offset_seconds(one, two, int(at_s * SECOND), int(_WINDOW_S * SECOND))
        except MeasureError as error:
            print(f"at {at_s:.1f} s: {error}")
            return np.inf
        return abs(offset.seconds) * 1e6

    def said(self, name: str) -> list[str]:
        """The lines of its standard error that are about sound."""
        lines = self.bench.log(name).splitlines()
        return [line for line in lines if not line.startswith(_OF_THE_STATION)]

    def _loud(self, since_s: float) -> bool:
        sides = (self.heard(name)[round(since_s * SAMPLE_RATE) :] for name in SIDES)
        return all(np.max(np.abs(side), initial=0.0) > 0.01 for side in sides)
