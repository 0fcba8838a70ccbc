"""One run of the bench of loss: our scheme and the peers' in one scene, as rows of figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.loss_chain import Chain
from bench.loss_scene import Outcome, Scene
from bench.loss_schemes import SCHEMES, Scheme
from bench.loss_sound import STIPA, Speech, clean, scores, speech
from bench.stipa import stipa
from codec.format import SAMPLE_RATE, Samples
from codec.opus import EncoderSettings

JUDGED_S = 60.0
BITRATE = 24_000
# Losses are counted in windows of so long for the plot.
_WINDOW_MS = 10_000


@dataclass(frozen=True, slots=True)
class Task:
    """One run: a scene, and what is said in it for how long."""

    scene: Scene
    audio: Path
    seconds: float
    peers: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One scheme's figures, as JSON has them, and the residual loss of each ten seconds."""

    figures: dict[str, Any]
    windows: tuple[float, ...]


def measure(task: Task, tick: Callable[[float], None] = lambda _: None) -> list[Row]:
    """Ours first, then the peers'; `tick` is called with the share that is done."""
    scene = task.scene
    settings = EncoderSettings(bitrate=BITRATE, frame_ms=scene.frame_ms)
    said = speech(task.audio, task.seconds, settings)
    judge = _Judge(task.audio, said)
    schemes = [s for s in SCHEMES if task.peers and not (s.asks and scene.multicast)]
    parts = 1.0 + 0.25 * len(schemes)
    ours = Chain(scene, said, judge.clips, lambda share: tick(0.9 * share / parts)).run()
    rows = [_row(task, said, ours, judge)]
    # What a sender would be told by its receivers, in steps of 5 %; told of less than 10 %, libopus
    # at this bit rate sends no in-band FEC at all.
    loss_percent = min(30, max(10, 5 * round(20 * float(np.mean(ours.lost)))))
    for number, scheme in enumerate(schemes):
        tick((1.0 + 0.25 * number) / parts)
        rows.append(_peer_row(task, scheme, said, judge, loss_percent))
    tick(1.0)
    return rows


def _peer_row(task: Task, scheme: Scheme, said: Speech, judge: "_Judge", loss: int) -> Row:
    if scheme.inband_fec:
        settings = EncoderSettings(
            bitrate=BITRATE,
            frame_ms=task.scene.frame_ms,
            inband_fec=True,
            expected_loss_percent=loss,
        )
        said = speech(task.audio, task.seconds, settings)
    return _row(task, said, scheme.run(scheme.name, task.scene, said, judge.clips), judge)


class _Judge:
    """Says how good clips are; what nothing was lost of is judged once."""

    def __init__(self, audio: Path, said: Speech) -> None:
        self.clips = said.clips(JUDGED_S)
        self._is_stipa = audio == STIPA
        self._said = [said.sound[clip.start : clip.stop] for clip in self.clips]
        self.clean = self.of(clean(said, self.clips))

    def of(self, heard: Sequence[Samples]) -> dict[str, float | None]:
        """Speech by PESQ-WB and STOI, the test signal by its index."""
        if not self._is_stipa:
            found = scores(self._said, heard)
            return {"pesq_wb": found.pesq_wb, "stoi": found.stoi, "sti": None}
        indexes = [stipa(said, clip) for said, clip in zip(self._said, heard, strict=True)]
        return {"pesq_wb": None, "stoi": None, "sti": float(np.mean(indexes))}


def _row(task: Task, said: Speech, outcome: Outcome, judge: _Judge) -> Row:
    scene = task.scene
    seconds = len(said.payloads) * said.frame / SAMPLE_RATE
    # In-band FEC makes frames larger, so all are beside what the sound takes without anything.
    plain = sum(map(len, _plain(task).payloads))
    figures = {
        "profile": scene.profile,
        "scheme": outcome.scheme,
        "delivery": scene.delivery,
        "multicast": scene.multicast,
        "playout_delay_ms": scene.playout_delay_ms,
        "rtt_ms": scene.rtt_ms,
        "frame_ms": scene.frame_ms,
        "seconds": seconds,
        "frames": len(outcome.heard),
        "raw_loss": float(np.mean(outcome.lost)),
        "residual_loss": float(np.mean(~outcome.heard)),
        **judge.of(outcome.clips),
        **{f"clean_{name}": value for name, value in judge.clean.items()},
        "payload_ratio": outcome.opus_bytes / plain,
        "wire_kbps": outcome.wire_bytes * 8 / seconds / 1e3,
        "up_kbps": outcome.up_bytes * 8 / seconds / 1e3,
    }
    return Row(figures, _windows(outcome, scene.frame_ms))


def _plain(task: Task) -> Speech:
    settings = EncoderSettings(bitrate=BITRATE, frame_ms=task.scene.frame_ms)
    return speech(task.audio, task.seconds, settings)


def _windows(outcome: Outcome, frame_ms: float) -> tuple[float, ...]:
    """The residual loss of each ten seconds; of all there is, if that is less."""
    each = min(round(_WINDOW_MS / frame_ms), len(outcome.heard))
    whole = len(outcome.heard) // each * each
    return tuple(np.mean(~outcome.heard[:whole].reshape(-1, each), axis=1).tolist())
