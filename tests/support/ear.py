"""A loudspeaker's schedule of requests, and a stream of 20 ms frames that takes 50 ms to it."""

from collections.abc import Callable

from transport.recovery.nack import RepairSchedule

MS = 48
FRAME = 20 * MS
WAY = 50 * MS  # after the frame's end


class Ear:
    """A schedule that hears a stream; times are in ms since the start of its frame 0."""

    def __init__(
        self,
        *,
        delay_ms: int = 500,
        epoch: int = 0,
        first: int = 0,
        uniform: Callable[[], float] | None = None,
    ) -> None:
        self.schedule = RepairSchedule(FRAME, delay_ms * MS, uniform=uniform)
        self.epoch, self.first = epoch, first
        self.asked: list[tuple[float, int, tuple[int, ...]]] = []

    def number(self, frame: int) -> int:
        return (self.first + frame) & 0xFFFF

    def until(self, now_ms: float) -> None:
        """Ask whenever it is due."""
        while (due := self.schedule.next_due()) is not None and due <= now_ms * MS:
            for epoch, numbers in self.schedule.due(due).items():
                self.asked.append((due / MS, epoch, numbers))

    def hear(self, *frames: int, late_ms: int = 0) -> None:
        """Each at its time."""
        for frame in frames:
            now = (frame + 1) * FRAME + WAY + late_ms * MS
            self.until(now / MS - 0.001)
            self.schedule.arrived(self.epoch, self.number(frame), frame * FRAME, now)

    def repair(self, frame: int, at_ms: float) -> None:
        self.until(at_ms - 0.001)
        number = self.number(frame)
        start, now = frame * FRAME, round(at_ms * MS)
        self.schedule.arrived(self.epoch, number, start, now, repaired=True)

    def times_of(self, frame: int) -> list[float]:
        """When it was asked for."""
        return [at for at, _, numbers in self.asked if self.number(frame) in numbers]
