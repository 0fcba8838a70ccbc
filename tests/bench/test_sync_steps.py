"""Clocks that are set while a programme sounds, a machine that slept, a station restarted.

On virtual time, with the real packets of the time exchange at the real pace, and a real player
that hears a group, and has its clock told of the packets that come.
What sounds says itself when it is of: each half second of the programme has a pitch of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from bench.network import MS, PROFILES, SECOND, Profile
from bench.sync_asking import Asking, Station
from bench.sync_clocks import Oscillator, OwnTime
from codec.format import SAMPLE_RATE, Samples
from endpoints.player import Player
from tests.support.chain import TRUSTED, Packet, Programme
from transport.clock.estimator import ClockEstimator
from transport.control.messages import Listen

# Asking has become slow by then.
BEGIN_S, CHANGE_S, END_S = 70, 75, 90
BACK_S = 10
STEP_S = 300
_BLOCK = 240
_PITCH_S = 0.5
_LOWEST_HZ, _APART_HZ = 300.0, 60.0
_AUDIBLE = 0.02
_CLOCK = Oscillator(4.0, 20)


def scale(seconds: float) -> Samples:
    """A tone that is one step higher every half second."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    hertz = _LOWEST_HZ + _APART_HZ * (t // _PITCH_S)
    return (0.5 * np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE)).astype(np.float32)


SOUND = scale(END_S - BEGIN_S)


def spoken(begin_s: float, end_s: float, ahead_s: float = 0.0, order: int = 1) -> Programme:
    """The part of the sound between two true times, by a media clock that is ahead by so much."""
    first, last = (round((s - BEGIN_S) * SAMPLE_RATE) for s in (begin_s, end_s))
    start = round((begin_s + ahead_s) * SAMPLE_RATE)
    said = Programme(SOUND[first:last], start, order=order, goodbye=False, sealed=True)
    said.spec = replace(said.spec, group="239.1.2.3", port=5000 + 2 * order)
    ahead_ns = round(ahead_s * SECOND)
    said.packets = [replace(p, true_ns=p.true_ns - ahead_ns) for p in said.packets]
    return said


@dataclass
class Changing:
    """A clock that is `later_s` ahead of itself from a true time on."""

    at_s: float
    later_s: float

    def of_true(self, true_ns: int) -> int:
        later_s = self.later_s if true_ns >= self.at_s * SECOND else 0.0
        return _CLOCK.of_true(true_ns) + round(later_s * SECOND)


@dataclass
class Scene:
    """A station, a loudspeaker whose machine sleeps from when to when, and what is said."""

    own: OwnTime = _CLOCK
    path: Profile = PROFILES["L0"]
    sleeps_s: tuple[float, float] = (1e9, 1e9)
    station: Station = field(default_factory=Station)
    heard: list[tuple[float, Samples]] = field(default_factory=list)
    arrived: int = 0

    def play(
        self, programmes: list[Programme], change: Callable[[Station], None] = lambda _: None
    ) -> None:
        """Until the end, with the change at the station when its time has come."""
        rng = np.random.default_rng(1)
        estimator = ClockEstimator()
        asking = Asking(self.own, self.path.links(rng), self.station, rng, estimator)

        def arrived(stream: int, media_ns: int, arrived_ns: int) -> None:
            estimator.arrived(stream, media_ns, arrived_ns)
            self.arrived += 1

        player = Player(lambda: estimator.estimate, arrived=arrived)
        player.trust(*TRUSTED)
        asking.advance(BEGIN_S * SECOND)
        player.declare(Listen(1, tuple(programme.spec for programme in programmes)))
        packets = sorted((p for said in programmes for p in said.packets), key=lambda p: p.true_ns)
        for block in range((END_S - BEGIN_S) * SAMPLE_RATE // _BLOCK):
            sounds_ns = BEGIN_S * SECOND + block * _BLOCK * SECOND // SAMPLE_RATE
            pulled_ns = sounds_ns - 10 * MS
            if pulled_ns >= CHANGE_S * SECOND:
                change(self.station)
            if self._is_asleep(sounds_ns):
                continue
            if any(learnt.forgot for learnt in asking.advance(pulled_ns)):
                player.clock_changed()
            self._deliver(player, packets, pulled_ns)
            sound = player.pull(_BLOCK, self.own.of_true(sounds_ns))
            self.heard.append((sounds_ns / SECOND, sound))

    def _is_asleep(self, true_ns: int) -> bool:
        return self.sleeps_s[0] <= true_ns / SECOND < self.sleeps_s[1]

    def _deliver(self, player: Player, packets: list[Packet], now_ns: int) -> None:
        """What came last before a sleep is read after it; what comes during it is lost."""
        while packets and packets[0].true_ns <= now_ns:
            packet = packets.pop(0)
            if not self._is_asleep(packet.true_ns + 10 * MS):
                came_ns = self.own.of_true(packet.true_ns)
                player.receive(packet.data, self.own.of_true(now_ns), came_ns)

    def pitches(self, delay_s: float) -> list[tuple[float, float]]:
        """(true second, seconds between what should sound then and what does) where there is sound.

        By windows of a tenth of a second; those on the edge of two pitches, or of a silence, are
        left out.
        """
        found = []
        for index in range(0, len(self.heard) - 20, 20):
            at_s = self.heard[index][0]
            window = np.concatenate([sound for _, sound in self.heard[index : index + 20]])
            said_s = at_s - delay_s - BEGIN_S
            on_edge = said_s % _PITCH_S > _PITCH_S - 0.1 - 0.01 or said_s % _PITCH_S < 0.01
            if on_edge or np.abs(window).max() < _AUDIBLE:
                continue
            hertz = np.argmax(np.abs(np.fft.rfft(window * np.hanning(len(window)), SAMPLE_RATE)))
            step = round((hertz - _LOWEST_HZ) / _APART_HZ)
            found.append((at_s, said_s // _PITCH_S * _PITCH_S - step * _PITCH_S))
        return found


def in_step(scene: Scene, programme: Programme, since_s: float) -> None:
    """What sounds is never of another time, and is there again from `since_s` on.

    When packets cease, concealment goes on with the last pitch, which is not of another time.
    """
    pitches = scene.pitches(programme.delay / SAMPLE_RATE)
    concealing = (CHANGE_S, CHANGE_S + 1.0)
    wrong = [(at_s, late_s) for at_s, late_s in pitches if late_s]
    concealed = [(at_s, _PITCH_S) for at_s, _ in wrong if concealing[0] < at_s < concealing[1]]
    assert wrong == concealed
    assert {round(at_s) for at_s, _ in pitches} >= set(range(BEGIN_S + 1, CHANGE_S))
    sounding = [at_s for at_s, _ in pitches if at_s >= since_s]
    assert len(sounding) >= 0.6 * 10 * (END_S - since_s - 0.5)


def test_the_pitch_tells_what_is_late() -> None:
    """Or the tests below would show nothing."""
    programme = spoken(BEGIN_S, END_S)
    scene = Scene()
    scene.play([programme])
    in_step(scene, programme, BEGIN_S + 1)
    assert scene.arrived > 0.9 * 50 * (END_S - BEGIN_S - 1)  # its clock was told of what came
    late = [(at_s + 1.0, sound) for at_s, sound in scene.heard]
    scene.heard = late
    assert {late_s for _, late_s in scene.pitches(programme.delay / SAMPLE_RATE)} == {1.0}


@pytest.mark.parametrize("profile", ["L0", "L1"])
@pytest.mark.parametrize("later_s", [-STEP_S, STEP_S])
def test_the_loudspeakers_clock_is_set(later_s: float, profile: str) -> None:
    programme = spoken(BEGIN_S, END_S)
    scene = Scene(Changing(CHANGE_S, later_s), PROFILES[profile])
    scene.play([programme])
    in_step(scene, programme, CHANGE_S + BACK_S)


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("later_s", [-STEP_S, STEP_S])
def test_the_stations_clock_is_set(later_s: int, restarted: bool) -> None:
    """By a restart with another boot time, too."""

    def change(station: Station) -> None:
        station.ahead_ns = later_s * SECOND
        station.clock_set_ns = 2 if restarted else 1

    before = spoken(BEGIN_S, CHANGE_S)
    after = spoken(CHANGE_S, END_S, later_s, order=2)
    scene = Scene()
    scene.play([before, after], change)
    in_step(scene, before, CHANGE_S + BACK_S)


def test_a_station_that_is_away_for_five_seconds_and_comes_back_with_another_boot_time() -> None:
    before = spoken(BEGIN_S, CHANGE_S)
    after = spoken(CHANGE_S + 5, END_S, 123.456, order=2)
    scene = Scene()

    def change(station: Station) -> None:
        station.awake = len(scene.heard) * _BLOCK >= (CHANGE_S + 5 - BEGIN_S) * SAMPLE_RATE
        station.ahead_ns, station.clock_set_ns = round(123.456 * SECOND), 2

    scene.play([before, after], change)
    in_step(scene, before, CHANGE_S + 5 + 3)


def test_a_machine_that_slept_and_whose_clock_went_on_plays_nothing_of_before() -> None:
    programme = spoken(BEGIN_S, END_S)
    scene = Scene(sleeps_s=(CHANGE_S, CHANGE_S + 7.0))
    scene.play([programme])
    in_step(scene, programme, CHANGE_S + 7 + 1)
