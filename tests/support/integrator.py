"""Loudspeakers that integrators wrote: how long they are, and how they do at a station."""

import ast
import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.demo import VOICE
from bench.measure import MeasureError, Offset, Recording, offset_seconds
from bench.processes import Bench, wait_until
from bench.quality import through_opus
from codec.format import SAMPLE_RATE, Samples
from codec.opus import EncoderSettings
from codec.sources.file import FileSource
from tests.protocol.page import VECTORS
from tests.support.hostile import Seal
from transport.net.clocks import now_ns
from transport.rtp.packet import Extension, RtpPacket

NAME = "tower"
THIRD_PARTY = {"av", "cryptography", "msgpack", "numpy", "websockets"}
SECOND_NS = 1_000_000_000
# On a busy machine the source may be late, and a second with a hole is not as it was spoken.
ENOUGH = 4
_WAV_HEAD_BYTES = 44


def code_lines(text: str) -> list[str]:
    """All lines but empty ones, comments and the docstring."""
    after = text.splitlines()[ast.parse(text).body[0].end_lineno :]
    return [line for line in after if line.strip() and not line.lstrip().startswith("#")]


def imported(client: Path) -> set[str]:
    """The packages that a client imports, but for the standard library's."""
    found = set()
    for node in ast.walk(ast.parse(client.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            found.add((node.module or "").partition(".")[0])
    assert "importlib" not in found
    return found - sys.stdlib_module_names


def those(use: str, *kinds: str) -> list[str]:
    """The names of the vectors of these kinds, with that use."""
    return [name for name, v in VECTORS.items() if v.kind in kinds and v.use == use]


def loaded(client: Path) -> Any:
    """A client as a module."""
    spec = importlib.util.spec_from_file_location(client.stem, client)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True)
class Scene:
    """A station, and the integrator's loudspeaker at it."""

    bench: Bench
    process: subprocess.Popen[bytes] | None
    name: str = NAME

    @property
    def row(self) -> dict[str, Any]:
        """What the station says of the loudspeaker."""
        return self.bench.speakers()[self.name]

    def post(self, what: str, **body: object) -> Any:
        """An order to the loudspeaker; what became of it."""
        return self.bench.send("POST", f"/api/v1/{what}", {"to": [self.name], **body})

    def samples(self) -> int:
        """How many have been played."""
        size = self.bench.recording(self.name).stat().st_size
        return max(0, size - _WAV_HEAD_BYTES) // 2

    def played(self, since: int) -> Samples:
        """Those from this one on."""
        data = self.bench.recording(self.name).read_bytes()[_WAV_HEAD_BYTES + 2 * since :]
        sound = np.frombuffer(data[: len(data) // 2 * 2], "<i2")
        return sound.astype(np.float32) / np.float32(32767)

    def began_ns(self) -> int:
        """When its recording began: its end is now, or up to some blocks ago, at each look."""
        looks = []
        for _ in range(200):
            played_ns = self.samples() * SECOND_NS // SAMPLE_RATE
            looks.append(now_ns() - played_ns)
            time.sleep(0.002)
        return min(looks)

    def speak(self, *others: str) -> subprocess.Popen[str]:
        """A voice, to this loudspeaker and others; D leaves a busy machine time."""
        options = ("--to", self.name, *others, "--playout-delay-ms", "1000")
        options += ("--server", self.bench.address)
        return self.bench.start("live", str(VOICE), *options, log="live")

    def wait_until_hearing(self) -> None:
        """Until the station knows that a programme is heard."""
        wait_until(lambda: self.row["hearing"] != "", "the programme to be heard", 20)

    def wait_until_idle(self) -> None:
        """Until nothing is heard any more, and the time is known."""
        wait_until(lambda: self.row["state"] == "idle", "the loudspeaker to be idle", 30)


def loudest_hz(sound: Samples) -> float:
    """The frequency that it has most of."""
    spectrum = np.abs(np.fft.rfft(sound))
    return float(np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)[np.argmax(spectrum)])


def beeps(sound: Samples) -> int:
    """How often sound begins, to 10 ms."""
    blocks = np.abs(sound[: len(sound) // 480 * 480]).reshape(-1, 480).max(axis=1) > 0.05
    # It may begin with the first sample.
    return int(np.count_nonzero(np.diff(blocks.astype(int), prepend=0) == 1))


def seconds_heard(played: Samples) -> int:
    """How many of the voice's first six seconds are in it as they were spoken."""
    spoken = through_opus(np.concatenate([*FileSource(VOICE)]), EncoderSettings(frame_ms=10.0))
    begin = int(np.argmax(np.abs(played) > 0.02)) - int(np.argmax(np.abs(spoken) > 0.02))
    heard = Recording(played[max(0, begin) :], SAMPLE_RATE, 0)
    reference = Recording(spoken, SAMPLE_RATE, 0)
    fits = [fit(reference, heard, at * SECOND_NS) for at in range(6)]
    return sum(offset.correlation > 0.9 for offset in fits)


def fit(a: Recording, b: Recording, at_ns: int) -> Offset:
    """Where the second of `a` that begins there fits best in `b`: a busy machine leaves holes."""
    try:
        return offset_seconds(a, b, at_ns, SECOND_NS, search_s=2.0)
    except MeasureError:
        return Offset(0.0, 0.0)


def with_a_wrong_tag(data: bytes) -> bytes:
    """A packet that has not come, but for one bit as somebody without the key could make it."""
    ahead = (int.from_bytes(data[2:4], "big") + 2000) % 65536
    return data[:2] + ahead.to_bytes(2, "big") + data[4:]


def stolen(told: dict[str, Any], data: bytes) -> list[bytes]:
    """What whoever stole the group's key can make: sealed as it should be, signed by nobody."""
    seal, ssrc = Seal(bytes.fromhex(told["key"])), int(told["ssrc"], 16)
    extension = Extension(0x1000, b"\x01\x40" + os.urandom(64) + bytes(2))
    frame, now = bytes.fromhex("f0fffe"), int.from_bytes(data[4:8], "big")
    times = [(now + 480 * n) % 2**32 for n in range(10)]
    packets = [
        RtpPacket(96, 5000 + n, at, ssrc, frame, extension=extension) for n, at in enumerate(times)
    ]
    return [seal.seal(packet) for packet in packets]
