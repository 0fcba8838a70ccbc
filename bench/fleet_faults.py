"""What a fleet can suffer: processes killed, a fifth of it that reads nothing, a power cut."""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.fleet_load import grown_bytes, own_bytes, senders_on_duty
from bench.fleet_process import Fleet
from bench.fleet_scene import Scene, Window
from bench.processes import ProcessError, wait_until
from server.remote import ApiError, call

_BEFORE_S, _AFTER_S = 1.0, 3.0
# A session that is cut off begins anew within this; with sound on air so many do in a second.
_BACK_S, _BACK_A_SECOND = 60.0, 25.0
# To be asked takes control time as well.
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class ControlKilled:
    """What the loudspeakers heard, when the API answered again, and when all sessions were back."""

    window: Window
    api_back_s: float
    sessions_back_s: float


@dataclass(frozen=True, slots=True)
class Stalled:
    """p99 of the lateness of those that read, with and without others that do not, in turns.

    `grown_bytes` is the memory of its own that each kind of process took during all of them;
    `window` is the last turn with stalled loudspeakers, as those that read saw it.
    """

    without_ms: tuple[float, ...]
    with_ms: tuple[float, ...]
    grown_bytes: dict[str, int]
    window: Window

    @property
    def moved_ms(self) -> float:
        """By how much the median of the turns rose."""
        return _median(self.with_ms) - _median(self.without_ms)

    @property
    def moved_share(self) -> float:
        """The same as a share of what it was; 0 where it was 0."""
        without_ms = _median(self.without_ms)
        return self.moved_ms / without_ms if without_ms else 0.0


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


@dataclass(frozen=True, slots=True)
class Stormed:
    """How long all took to be back, and what those that stayed noticed meanwhile."""

    join_s: float
    stayed: Window


def kill(scene: Scene, process: str) -> None:
    """Kill one without warning; of the senders, one that sends."""
    uses = scene.processes()
    pids = [use.pid for use in uses if use.process == process]
    if process == "sender":
        pids = senders_on_duty(uses)
    if not pids:
        raise ProcessError(f"there is no {process} to kill")
    os.kill(pids[0], signal.SIGKILL)


def killed(scene: Scene, process: str) -> Window:
    """What the loudspeakers heard while a process of the station was killed."""

    def during() -> None:
        scene.wait(_BEFORE_S, "on air")
        kill(scene, process)
        scene.wait(_AFTER_S, f"{process} killed")

    return scene.watch(during)


def control_killed(scene: Scene) -> ControlKilled:
    """The same with control, until all sessions are back."""
    back_s: list[float] = []

    def during() -> None:
        scene.wait(_BEFORE_S, "on air")
        kill(scene, "control")
        killed_s = time.monotonic()
        wait_until(lambda: _answers(scene), "the API")
        back_s.append(time.monotonic() - killed_s)
        count = scene.cast.endpoints
        patience_s = _BACK_S + count / _BACK_A_SECOND
        wait_until(lambda: _sessions(scene) >= count, "the sessions", patience_s, _LOOK_S)
        back_s.append(time.monotonic() - killed_s)
        scene.wait(_BEFORE_S, "control killed")

    window = scene.watch(during)
    return ControlKilled(window, *back_s)


def _answers(scene: Scene) -> bool:
    # One that hangs up and calls again is behind every loudspeaker that calls meanwhile.
    try:
        call(scene.bench.address, "GET", "/api/v1/station", None, _BACK_S, scene.bench.credentials)
    except ApiError:
        return False
    return True


def _sessions(scene: Scene) -> int:
    try:
        text = scene.bench.text("/metrics")
    except (ProcessError, OSError):
        return 0
    named = (line.split() for line in text.splitlines() if line.startswith("loa_control_sessions "))
    return next((int(float(value)) for _, value in named), 0)


def stalled(scene: Scene, fleets: Sequence[Fleet], turns: int = 5, turn_s: float = 5.0) -> Stalled:
    """These read nothing in every other turn; the others are watched."""
    others = [fleet for fleet in scene.fleets if fleet not in fleets]

    def turn(what: str) -> Window:
        return scene.watch(lambda: scene.wait(turn_s, what), others)

    before = own_bytes(scene.processes())
    reading, stalling = [], []
    for _ in range(turns):
        reading.append(turn("all read"))
        with ExitStack() as stalls:
            for fleet in fleets:
                stalls.enter_context(fleet.stalled())
            stalling.append(turn("some read nothing"))
    uses = scene.processes()
    grown = grown_bytes(uses, before, own_bytes(uses))
    return Stalled(_p99s_ms(reading), _p99s_ms(stalling), grown, stalling[-1])


def _p99s_ms(turns: Sequence[Window]) -> tuple[float, ...]:
    return tuple(turn.fleet.late_at_ms(0.99) for turn in turns)


def stormed(scene: Scene, fleets: Sequence[Fleet]) -> Stormed:
    """These vanish as in a power cut, and come back at once; the others are watched."""
    others = [fleet for fleet in scene.fleets if fleet not in fleets]
    took_s: list[float] = []
    for fleet in fleets:
        fleet.hush()
    wait_until(lambda: not any(fleet.joined for fleet in fleets), "the power cut")

    def during() -> None:
        scene.wait(_BEFORE_S, "after a power cut")
        for fleet in fleets:
            fleet.wake()
        took_s.append(scene.join(fleets, "coming back"))
        scene.wait(_BEFORE_S, "after the storm")

    window = scene.watch(during, others)
    return Stormed(took_s[0], window)
