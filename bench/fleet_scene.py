"""A real station, a real voice on air, and thousands of simulated loudspeakers, watched."""

import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from bench.demo import VOICE
from bench.fleet_figures import FleetFigures, merged
from bench.fleet_keys import prepare
from bench.fleet_load import SenderCounts, cpu_seconds
from bench.fleet_process import Fleet, Part, frozen
from bench.processes import Bench, ProcessError, wait_until
from server.usage import ProcessUse, station_use

# What a frame's length means for the loudspeakers' network: see transport/control/delivery.py.
DELIVERY_OF_FRAME_MS = {10.0: "lan", 20.0: "wan", 60.0: "saver"}
# Above this many, control's own descriptors do not suffice: limits are often 20,000.
_HALL_FROM = 12_000
_JOIN_A_SECOND, _JOIN_LEAST_S = 50.0, 60.0
# A voice repeats for longer than any bench.
_REPEATS = "100000"
_LOOK_S = 0.2
# Until sockets that nobody reads are full: to fill them takes the kernel new memory, and time.
_FULL_S = 3.0
# A fleet judges a packet when two seconds have passed: until then a copy may still come.
_JUDGED_S = 2.2


@dataclass(frozen=True, slots=True)
class Cast:
    """How many loudspeakers, in which processes, and how the station is started for them."""

    parts: tuple[Part, ...]
    frame_ms: float = 20.0
    senders: int = 1
    seed: int = 1
    multicast: bool = False

    @property
    def endpoints(self) -> int:
        """How many loudspeakers there are."""
        return sum(part.count for part in self.parts)

    @property
    def delivery(self) -> str:
        """The network that they all have; ValueError where no network has such frames."""
        if self.frame_ms not in DELIVERY_OF_FRAME_MS:
            raise ValueError(f"--frame-ms {self.frame_ms:g}: use 10, 20 or 60")
        return DELIVERY_OF_FRAME_MS[self.frame_ms]

    @property
    def station_options(self) -> list[str]:
        """For `loa serve`."""
        halls = ["--halls", "1"] if self.endpoints > _HALL_FROM else []
        return ["--senders", str(self.senders), *halls]


@dataclass(frozen=True, slots=True)
class Window:
    """What happened in some seconds: at the loudspeakers, at the senders, and to the machine.

    `fleet` may be of some of the loudspeakers only, `endpoints` are all. CPU seconds are those of
    each kind of process of the station; the simulator's and the voice's are apart.
    """

    endpoints: int
    seconds: float
    fleet: FleetFigures
    sent: SenderCounts
    cpu_s: dict[str, float]
    simulator_cpu_s: float
    voice_cpu_s: float

    @property
    def station_cpu_s(self) -> float:
        """Of all processes of the station."""
        return sum(self.cpu_s.values())


class Scene:
    """A station with a fleet; `staged` makes one."""

    def __init__(self, bench: Bench, cast: Cast, fleets: Sequence[Fleet], bar: Progress) -> None:
        self.bench = bench
        self.cast = cast
        self.fleets = fleets
        self.bar = bar
        self._voice: subprocess.Popen[str] | None = None

    def processes(self) -> list[ProcessUse]:
        """The station's, as they are now."""
        return station_use(self.bench.station.pid)

    def sent(self) -> SenderCounts:
        """What the senders have done so far."""
        return SenderCounts.parse(self.bench.text("/metrics"))

    def join(self, fleets: Sequence[Fleet], what: str) -> float:
        """Wait until all of these have a session; the seconds that took, from now on."""
        count = sum(fleet.part.count for fleet in fleets)
        task = self.bar.add_task(what, total=count)

        def joined() -> bool:
            now = sum(fleet.joined for fleet in fleets)
            self.bar.update(task, completed=now)
            return now >= count

        try:
            return wait_until(joined, f"all {count}", _JOIN_LEAST_S + count / _JOIN_A_SECOND)
        except ProcessError as error:
            now = sum(fleet.joined for fleet in fleets)
            said = " ".join(fleet.said for fleet in fleets)
            raise ProcessError(f"{error}: {now} joined; {said}") from None
        finally:
            self.bar.remove_task(task)

    def speak(self, *whom: str) -> None:
        """A voice to everybody, or as `loa live` has it, until the end; returns when on air."""
        words = [str(VOICE), "--repeat", _REPEATS, "--server", self.bench.address]
        words += whom or ("--to", "all")
        self._voice = self.bench.start("live", *words, log="live")
        assert self._voice.stdout is not None  # noqa: S101 - it was opened as a pipe
        # One line that names everybody: nobody else would empty the pipe.
        if " on air to " not in self._voice.stdout.readline():
            raise ProcessError(f"there is no voice: {self.bench.log('live')}")
        before = self.sent().datagrams
        wait_until(lambda: self.sent().datagrams > before, "sound")

    def wait(self, seconds: float, what: str) -> None:
        """Let time pass, in sight of whoever waits; ProcessError if the voice breaks off."""
        task = self.bar.add_task(what, total=seconds)
        began_s = time.monotonic()
        while (passed_s := time.monotonic() - began_s) < seconds:
            self._check_voice()
            self.bar.update(task, completed=passed_s)
            time.sleep(min(_LOOK_S, seconds - passed_s))
        self.bar.remove_task(task)

    def _check_voice(self) -> None:
        if self._voice is not None and self._voice.poll() is not None:
            raise ProcessError(f"the voice broke off: {self.bench.log('live')}")

    def watch(self, during: Callable[[], None], fleets: Sequence[Fleet] | None = None) -> Window:
        """What happens to these loudspeakers (all) and to the station while `during` runs."""
        watched = self.fleets if fleets is None else fleets
        for fleet in watched:
            fleet.begin()
        sent, uses, others = self.sent(), self.processes(), self._cpu_of_others()
        began_s = time.monotonic()
        during()
        after, simulator_and_voice = self.processes(), self._cpu_of_others()
        seconds, sent = time.monotonic() - began_s, self.sent().since(sent)
        self.wait(_JUDGED_S, "judging")
        return Window(
            self.cast.endpoints,
            seconds,
            merged([fleet.figures() for fleet in watched]),
            sent,
            cpu_seconds(uses, after),
            *(
                now_s - before_s
                for before_s, now_s in zip(others, simulator_and_voice, strict=True)
            ),
        )

    def _cpu_of_others(self) -> tuple[float, float]:
        """CPU seconds of the simulator and of the voice so far."""
        voice = [] if self._voice is None else station_use(self._voice.pid)
        return sum(fleet.cpu_s for fleet in self.fleets), sum(use.cpu_s for use in voice)

    def watch_senders_alone(self, seconds: float) -> "EngineAlone":
        """What the senders reach while no simulator takes time of this machine."""
        with frozen(self.fleets):
            self.wait(_FULL_S, "the engine alone")
            sent, uses, began_s = self.sent(), self.processes(), time.monotonic()
            self.wait(seconds, "the engine alone")
            took_s = time.monotonic() - began_s
            done, cpu_s = self.sent().since(sent), cpu_seconds(uses, self.processes())
        return EngineAlone(took_s, done, cpu_s.get("sender", 0.0))


@dataclass(frozen=True, slots=True)
class EngineAlone:
    """What the senders did in some seconds in which nobody read."""

    seconds: float
    sent: SenderCounts
    sender_cpu_s: float


@contextmanager
def staged(folder: Path, cast: Cast, bar: Progress) -> Iterator[Scene]:
    """A station with this fleet, which has been told to join; everything ends with the block."""
    allow_descriptors()
    with Bench(folder) as bench:
        delivery = cast.delivery
        keys = prepare(bench.data, cast.endpoints, cast.seed, delivery, multicast=cast.multicast)
        bench.start_station(*cast.station_options)
        words = ["--delivery", delivery, *(["--multicast"] if cast.multicast else [])]
        fleets = [Fleet(bench, keys, part, *words) for part in cast.parts]
        yield Scene(bench, cast, fleets, bar)


def allow_descriptors() -> None:
    """As many as the system lets this user's processes have; children inherit that."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
