"""A station with a voice on air to simulated loudspeakers, real processes all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import Progress

from bench.fleet_process import parts
from bench.fleet_scene import Cast, Scene, Window, staged

TWO_HUNDRED = 200
# Of each frame length, after the first packet: all know of the programme, and the way is open.
_SETTLE_S = 2.0
_WINDOWS = 3


@contextmanager
def on_air(
    folder: Path,
    endpoints: int = TWO_HUNDRED,
    apart: int = 0,
    *,
    frame_ms: float = 20.0,
    multicast: bool = False,
) -> Iterator[Scene]:
    """So many that hear it; the last `apart` of them are in a process of their own."""
    cast = Cast(tuple(parts(endpoints, apart)), frame_ms, multicast=multicast)
    with Progress(disable=True) as bar, staged(folder, cast, bar) as scene:
        scene.join(scene.fleets, "joining")
        scene.speak()
        scene.wait(_SETTLE_S, "settling")
        yield scene


def undisturbed(scene: Scene, seconds: float) -> Window:
    """Some seconds on air in which nobody here slept; if there are none, the last.

    A sender that comes late to what it has to send says so, and a simulator that does not come to
    read. Those that lose packets for another reason lose them in the first.
    """

    def watched() -> Window:
        return scene.watch(lambda: scene.wait(seconds, "on air"))

    for _ in range(_WINDOWS - 1):
        before, window = scene.sent(), watched()
        # Asked anew: what it said at the end of the window may have been half a second old.
        if not (scene.sent().since(before).stale or window.fleet.simulator_dropped):
            return window
    return watched()
