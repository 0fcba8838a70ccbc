"""A whole loudspeaker and a station of the test's making, on loopback and virtual time."""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from codec.format import SAMPLE_RATE, Samples
from endpoints.app import Loudspeaker, SpeakerSettings
from endpoints.outputs.base import OutputError
from endpoints.outputs.virtual import VirtualDevice
from endpoints.player import gain_of_volume
from endpoints.simulate import Crystal, Simulation
from endpoints.station.session import RefusedForGood, RestartAsked
from tests.support.chain import GENERATION, Programme, human_voice, snr_db
from tests.support.station import (
    ROOT,
    SECOND,
    SECRET,
    Station,
    TrioClock,
    refuse,
    running_station,
    true_ns,
    welcome_at,
)
from tests.support.visitor import SEED, store_of
from transport.clock.estimator import ClockEstimate
from transport.control.messages import (
    VERSION,
    Adjust,
    Command,
    Done,
    Hello,
    Listen,
    Ready,
    StreamSpec,
)
from transport.recovery.request import Wanted, open_request
from transport.security.certificates import StationCertificate
from transport.security.keys import SigningKey
from transport.security.session_keys import session_key

MULTICAST = StreamSpec(
    "p", 1, 2, 96, 3, 20.0, inband_fec=False, playout_delay_ms=100.0, group="239.1.2.3", port=5004
)


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens, and leaves loopback a moment to deliver."""
    mock_clock.autojump_threshold = 0.001
    return mock_clock


@dataclass
class ListSink:
    """What the room hears; sample 0 at `started_ns` of true time."""

    started_ns: int = 0
    blocks: list[Samples] = field(default_factory=list)
    fails_after: int = 1 << 62

    def start(self, true_ns: int) -> None:
        self.started_ns = true_ns

    def write(self, samples: Samples) -> None:
        self.blocks.append(samples)
        if len(self.blocks) > self.fails_after:
            raise OSError(28, "No space left on device")

    def close(self) -> None:
        return


@dataclass
class Room:
    """A loudspeaker, what it says to a person, and what is heard of it."""

    loudspeaker: Loudspeaker
    sink: ListSink
    said: list[str]


def build(
    port: int,
    folder: Path,
    *,
    sink: ListSink | None = None,
    ahead_s: float = 0.0,
    interface: str | None = None,
    delivery: str = "lan",
    fixed: ClockEstimate | None = None,
    max_kbps: int | None = None,
    slept_ns: Callable[[], int] = lambda: 0,
) -> Room:
    sink, said = sink or ListSink(), list[str]()
    clock = TrioClock(round(ahead_s * SECOND))
    world = Simulation()
    card = VirtualDevice(
        sink,
        Crystal(world),
        true_ns,
        lambda true: true + clock.ahead_ns,
        period_samples=960,
        buffer_samples=1_920,
    )
    settings = SpeakerSettings(
        multicast=False, delivery=delivery, interface=interface, max_kbps=max_kbps
    )
    loudspeaker = Loudspeaker(
        settings,
        store_of(folder, port),
        clock,
        card,
        said.append,
        fixed_estimate=fixed,
        slept_ns=slept_ns,
    )
    return Room(loudspeaker, sink, said)


@asynccontextmanager
async def playing(
    station: Station, **options: float | str | Callable[[], int] | None
) -> AsyncIterator[Room]:
    """A loudspeaker that has joined."""
    with tempfile.TemporaryDirectory() as folder:
        room = build(station.port, Path(folder), **options)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(room.loudspeaker.run)
            await trio.sleep(0.5)
            yield room
            nursery.cancel_scope.cancel()


async def send(programme: Programme, station: Station) -> None:
    """The programme's datagrams by unicast, each when it is due."""
    for packet in programme.packets:
        await trio.sleep(max(packet.true_ns - true_ns(), 0) / SECOND)
        await station.media.send(packet.data)


def speech_at(second: float, *, sealed: bool = True, seconds: float = 0.5) -> Programme:
    voice = human_voice()[9_600:][: round(seconds * SAMPLE_RATE)]
    return Programme(voice, start=round(second * SAMPLE_RATE), sealed=sealed)


@pytest.mark.trio
@pytest.mark.parametrize("ahead_s", [-5.0, 7_200.0])
async def test_a_voice_that_is_declared_and_sent_is_heard_when_it_should_be(
    world: MockClock, ahead_s: float
) -> None:
    programme = speech_at(1.0)
    async with running_station() as station, playing(station, ahead_s=ahead_s) as room:
        await station.say(Listen(1, (programme.spec,)))
        await send(programme, station)
        await trio.sleep(1.0)
        heard = np.concatenate(room.sink.blocks)
        # Exchanges take no virtual time, so the clock is known exactly; a busy machine's may not.
        assert snr_db(heard, programme.heard(room.sink.started_ns, len(heard))) > 30
    (hello,) = station.hellos
    key = SigningKey(SEED).public
    assert hello == Hello(VERSION, "a", multicast=False, key=key, nonce=hello.nonce)
    assert station.readies == [Ready(1)]


@pytest.mark.trio
async def test_a_machine_that_has_slept_joins_anew_at_once_and_is_heard(world: MockClock) -> None:
    programme = speech_at(3.0)
    slept_ns = [5 * SECOND]
    async with (
        running_station() as station,
        playing(station, slept_ns=lambda: slept_ns[-1]) as room,
    ):
        await trio.sleep(1.0)
        assert len(station.hellos) == 1
        slept_ns.append(12 * SECOND)
        await trio.sleep(0.8)
        assert len(station.hellos) == 2
        assert "this machine has slept for 7 s" in room.said
        await station.say(Listen(1, (programme.spec,)))
        await send(programme, station)
        await trio.sleep(1.0)
        heard = np.concatenate(room.sink.blocks)
        assert snr_db(heard, programme.heard(room.sink.started_ns, len(heard))) > 30
        assert len(station.hellos) == 2


@pytest.mark.trio
async def test_the_station_is_told_how_it_is(world: MockClock) -> None:
    # Chance says when it tells: so long that it does so in the middle of the sound.
    programme = speech_at(1.0, seconds=2.0)
    async with running_station() as station, playing(station):
        await station.say(Listen(1, (programme.spec,)))
        await send(programme, station)
        await trio.sleep(0.7)
    told = [telemetry for _, telemetry in station.telemetry]
    assert told[0].state == "syncing"
    assert "idle" in {telemetry.state for telemetry in told}
    assert max(t.level_dbfs for t in told if t.state == "playing") > -40
    last = told[-1]
    assert last.packets_received == len(programme.packets) - 1
    assert (last.packets_lost, last.packets_late, last.packets_dropped) == (0, 0, 0)
    assert last.underruns == 0
    assert last.uptime_s == pytest.approx(trio.current_time(), abs=0.6)
    assert all(telemetry.sync_error_us < 1_000 for telemetry in told)


@pytest.mark.trio
async def test_the_station_is_told_what_did_not_arrive_in_time(world: MockClock) -> None:
    programme = speech_at(1.0)
    late = programme.packets.pop(15)
    del programme.packets[5:8]
    programme.packets.append(replace(late, true_ns=late.true_ns + SECOND))
    async with running_station() as station, playing(station):
        await station.say(Listen(1, (programme.spec,)))
        await send(programme, station)
        await trio.sleep(0.7)
    last = station.telemetry[-1][1]
    assert last.packets_received == len(programme.packets) - 1
    assert (last.packets_lost, last.packets_late, last.packets_dropped) == (3, 1, 1)
    assert last.packets_missed == 3


@pytest.mark.trio
async def test_the_station_is_told_how_the_way_is(world: MockClock) -> None:
    programme = speech_at(1.0)
    del programme.packets[5:8], programme.packets[12]
    async with running_station() as station, playing(station) as room:
        await station.say(Listen(1, (programme.spec,)))
        await send(programme, station)
        await trio.sleep(0.7)
        assert room.loudspeaker.story == (
            f"{len(programme.packets) - 1} packets received, 4 lost; of the frames 0 came as a "
            "copy, 0 were decoded, 0 came when asked for again, and 4 were concealed"
        )
    last = station.telemetry[-1][1]
    assert last.loss == pytest.approx(4 / (len(programme.packets) + 3), abs=1e-4)
    assert last.longest_burst_ms == 60
    assert last.jitter_ms < 30


@pytest.mark.trio
@pytest.mark.parametrize("max_kbps", [None, 8])
async def test_what_is_lost_is_asked_for_as_far_as_the_limit_goes(
    world: MockClock, max_kbps: int | None
) -> None:
    programme = speech_at(1.0)
    assert programme.spec.seal is not None
    ssrc = programme.spec.seal.epochs[0].ssrc
    lost = int.from_bytes(programme.packets.pop(10).data[2:4])
    async with running_station() as station, playing(station, max_kbps=max_kbps) as room:
        await station.say(Listen(1, (programme.spec,)))
        await send(programme, station)
        await trio.sleep(0.7)
        story = room.loudspeaker.story
    (session,) = station.media.paths
    key = session_key(SECRET, session)
    asked = [open_request(data, session, key) for data in station.media.heard]
    if max_kbps is None:
        assert Wanted(ssrc, (lost,)) in [one for wanted in asked for one in wanted]
    else:
        assert asked == []
        assert story.endswith("times asking was left out for --max-kbps")


@pytest.mark.trio
async def test_before_anything_came_there_is_no_story(world: MockClock) -> None:
    async with running_station() as station, playing(station) as room:
        assert room.loudspeaker.story == ""


@pytest.mark.trio
async def test_the_trim_that_the_station_says_is_applied(world: MockClock) -> None:
    programme = speech_at(1.0)
    async with running_station() as station, playing(station) as room:
        await station.say(Adjust(100, muted=False, trim_us=10_000))
        await station.say(Listen(1, (programme.spec,)))
        await send(programme, station)
        await trio.sleep(1.0)
        heard = np.concatenate(room.sink.blocks)
    expected = programme.heard(room.sink.started_ns - 10_000_000, len(heard))
    assert snr_db(heard, expected) > 30


async def has_told_twice(station: Station) -> None:
    """The second time comes when chance says, the third a whole pause later."""
    while len(station.telemetry) < 2:  # noqa: ASYNC110 - there is no event for it
        await trio.sleep(0.1)


@pytest.mark.trio
@pytest.mark.parametrize("every_s", [2.0, 40.0])
async def test_what_is_wrong_is_told_within_a_second(world: MockClock, every_s: float) -> None:
    async with (
        running_station(welcome_at(every_s)) as station,
        playing(station, interface="192.0.2.1"),
    ):
        await has_told_twice(station)
        told = len(station.telemetry)
        await station.say(Listen(1, (MULTICAST,)))
        await trio.sleep(1)
        assert station.telemetry[told][1].fault.startswith("cannot join a multicast group")
        await trio.sleep(0.3)
        assert len(station.telemetry) == told + 1


@pytest.mark.trio
async def test_a_way_that_has_changed_is_a_fault_until_the_trim_is_another(
    world: MockClock,
) -> None:
    async with running_station() as station, playing(station):
        await trio.sleep(40)
        assert station.telemetry[-1][1].fault == ""
        station.time.back_s = 0.03
        await trio.sleep(60)
        assert "may be 15.0 ms off; calibrate again" in station.telemetry[-1][1].fault
        await station.say(Adjust(100, muted=False, trim_us=-15_000))
        await trio.sleep(2)
        assert station.telemetry[-1][1].fault == ""


@pytest.mark.trio
@pytest.mark.parametrize(("every_s", "tells"), [(2.0, True), (20.0, False)])
async def test_of_few_the_station_hears_at_once_what_is_heard(
    world: MockClock, every_s: float, tells: bool
) -> None:
    async with running_station(welcome_at(40.0)) as station, playing(station) as room:
        await has_told_twice(station)
        programme = speech_at(trio.current_time() + 0.5)
        await station.say(Listen(1, (programme.spec,)))
        with trio.move_on_after(1.4) as waiting:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, programme, station)
                await room.loudspeaker.news(every_s)
                nursery.cancel_scope.cancel()
    assert waiting.cancelled_caught != tells


@pytest.mark.trio
async def test_a_group_that_cannot_be_joined_is_said_and_the_rest_goes_on(
    world: MockClock,
) -> None:
    async with running_station() as station, playing(station, interface="192.0.2.1") as room:
        await station.say(Listen(1, (MULTICAST,)))
        await trio.sleep(1)
    assert room.said[1:] == ["cannot join a multicast group on 192.0.2.1: No such device"]
    assert station.readies == [Ready(1)]
    assert len(station.came_s) == 1


@pytest.mark.trio
async def test_a_station_restarted_with_another_clock_is_said(world: MockClock) -> None:
    async with running_station() as station, playing(station) as room:
        station.time.clock_set_ns, station.time.ahead_ns = 2, 100 * SECOND
        await trio.sleep(1)
    assert any("clock began anew" in line for line in room.said)


@pytest.mark.trio
async def test_a_final_refusal_ends_the_loudspeaker(world: MockClock, tmp_path: Path) -> None:
    async with running_station(refuse("too old", final=True)) as station:
        with pytest.RaisesGroup(
            pytest.RaisesExc(RefusedForGood, match="too old"), flatten_subgroups=True
        ):
            await build(station.port, tmp_path).loudspeaker.run()


@pytest.mark.trio
async def test_an_output_that_fails_ends_the_loudspeaker(world: MockClock, tmp_path: Path) -> None:
    async with running_station() as station:
        room = build(station.port, tmp_path, sink=ListSink(fails_after=20))
        with pytest.RaisesGroup(
            pytest.RaisesExc(OutputError, match="No space left"), flatten_subgroups=True
        ):
            await room.loudspeaker.run()


@pytest.mark.trio
async def test_with_a_fixed_estimate_it_plays_by_that_and_not_by_the_stations(
    world: MockClock, tmp_path: Path
) -> None:
    """What a loudspeaker would do that trusts a clock which is 50 ms wrong."""
    programme = speech_at(1.0)
    wrong = ClockEstimate(0, 0.0, 1_790_000_000 * SECOND - 50_000_000, 0.0, 1_000.0)
    async with running_station() as station:
        room = build(station.port, tmp_path, fixed=wrong)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(room.loudspeaker.run)
            await trio.sleep(0.5)
            await station.say(Listen(1, (programme.spec,)))
            await send(programme, station)
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()
        heard = np.concatenate(room.sink.blocks)
        expected = programme.heard(room.sink.started_ns - 50_000_000, len(heard))
        assert snr_db(heard, expected) > 60
    assert station.telemetry[-1][1].clock_uncertainty_us == 1.0


# ------------------------------------------------------------------ how loud, and what to do
def loudest(room: Room) -> float:
    """The peak of all that was heard."""
    return float(np.max(np.abs(np.concatenate(room.sink.blocks))))


@pytest.mark.trio
async def test_it_says_by_which_network_it_listens(world: MockClock) -> None:
    async with running_station() as station, playing(station, delivery="wan"):
        assert station.hellos[0].delivery == "wan"


@pytest.mark.trio
async def test_the_loudness_it_has_is_told(world: MockClock) -> None:
    async with running_station() as station, playing(station):
        await station.say(Adjust(30, muted=True))
        await trio.sleep(1)
    told = [(telemetry.volume, telemetry.muted) for _, telemetry in station.telemetry]
    assert (told[0], told[-1]) == ((100, False), (30, True))


@pytest.mark.trio
@pytest.mark.parametrize(
    ("adjust", "factor"),
    [
        (Adjust(100, muted=False), 1.0),
        (Adjust(50, muted=False), gain_of_volume(50)),
        (Adjust(0, muted=False), 0.0),
        (Adjust(100, muted=True), 0.0),
    ],
)
async def test_a_voice_is_heard_as_loud_as_the_station_says(
    world: MockClock, adjust: Adjust, factor: float
) -> None:
    programme = speech_at(1.0)
    async with running_station() as station, playing(station) as room:
        await station.say(adjust)
        await station.say(Listen(1, (programme.spec,)))
        await send(programme, station)
        await trio.sleep(0.7)
        heard = np.concatenate(room.sink.blocks)
    full = programme.heard(room.sink.started_ns, len(heard))
    if factor == 0:
        assert np.max(np.abs(heard)) < 1e-6
    else:
        assert snr_db(heard, factor * full) > 30


@pytest.mark.trio
async def test_a_test_tone_is_heard_as_long_as_it_was_asked_for(world: MockClock) -> None:
    async with running_station() as station, playing(station) as room:
        await trio.sleep(1)
        await station.say(Command(7, "tone", 0.5))
        await trio.sleep(1)
        heard = np.concatenate(room.sink.blocks)
    assert station.answers == [Done(7)]
    assert loudest(room) == pytest.approx(0.1, rel=0.05)
    assert np.count_nonzero(np.abs(heard) > 1e-4) == pytest.approx(SAMPLE_RATE / 2, rel=0.05)


@pytest.mark.trio
async def test_where_it_is_it_says_and_lets_be_heard(world: MockClock) -> None:
    async with running_station() as station, playing(station) as room:
        await trio.sleep(1)
        await station.say(Command(7, "identify"))
        await trio.sleep(1)
    assert station.answers == [Done(7)]
    assert room.said[-1] == "here I am: the station asks"
    assert loudest(room) > 0.05


@pytest.mark.trio
@pytest.mark.parametrize("action", ["tone", "identify"])
async def test_nobody_is_interrupted_by_a_test(world: MockClock, action: str) -> None:
    programme = speech_at(1.0)
    async with running_station() as station, playing(station) as room:
        await station.say(Listen(1, (programme.spec,)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, programme, station)
            await trio.sleep(0.8)
            await station.say(Command(7, action, 1.0))
        await trio.sleep(0.5)
        heard = np.concatenate(room.sink.blocks)
    assert station.answers == [Done(7, "p is being heard")]
    assert snr_db(heard, programme.heard(room.sink.started_ns, len(heard))) > 30


@pytest.mark.trio
async def test_it_begins_anew_when_the_station_asks(world: MockClock, tmp_path: Path) -> None:
    async with running_station() as station, trio.open_nursery() as nursery:
        room = build(station.port, tmp_path)

        async def ask() -> None:
            await trio.sleep(0.5)
            await station.say(Command(7, "restart"))

        nursery.start_soon(ask)
        with pytest.RaisesGroup(RestartAsked, flatten_subgroups=True, allow_unwrapped=True):
            await room.loudspeaker.run()
    assert room.said[-1] == "beginning anew, for the station asks for it"


# ------------------------------------------------------------------ who is heard
@pytest.mark.trio
async def test_a_clear_stream_is_said_to_be_unauthenticated_once_and_told_so(
    world: MockClock,
) -> None:
    programme = speech_at(1.0, sealed=False)
    async with running_station() as station, playing(station) as room:
        await station.say(Listen(1, (programme.spec,)))
        await send(programme, station)
        await trio.sleep(1.0)
    said = [line for line in room.said if "unauthenticated" in line]
    assert said == ["p is heard in clear, unauthenticated: anybody here may be speaking"]
    told = {(t.hearing, t.authenticated) for _, t in station.telemetry}
    assert told == {("", True), ("p", False)}


@pytest.mark.trio
async def test_a_sealed_stream_is_authenticated_and_nothing_is_said_of_it(
    world: MockClock,
) -> None:
    programme = speech_at(1.0)
    async with running_station() as station, playing(station) as room:
        await station.say(Listen(1, (programme.spec,)))
        await send(programme, station)
        await trio.sleep(1.0)
    told = {(t.hearing, t.authenticated) for _, t in station.telemetry}
    assert told == {("", True), ("p", True)}
    assert room.said == [f"joined the station at 127.0.0.1:{station.port}"]


@pytest.mark.trio
async def test_a_stream_that_another_station_vouches_for_is_not_played(world: MockClock) -> None:
    programme = speech_at(1.0)
    async with running_station() as station:
        station.key = SigningKey(b"new" + bytes(29))
        station.certificate = StationCertificate.issue(ROOT, GENERATION + 1, station.key.public)
        async with playing(station) as room:
            await station.say(Listen(1, (programme.spec,)))
            await send(programme, station)
            await trio.sleep(1.0)
            assert loudest(room) == 0
    assert station.telemetry[-1][1].packets_dropped >= len(programme.packets)


@pytest.mark.trio
async def test_by_which_way_sound_comes_is_told(world: MockClock) -> None:
    async with running_station() as station, playing(station):
        await trio.sleep(1)
        await station.say(Listen(1, (MULTICAST,)))
        await trio.sleep(1)
        await station.say(Listen(2, ()))
        await trio.sleep(1)
    ways = [telemetry.way for _, telemetry in station.telemetry]
    assert [way for way, _ in groupby(ways)] == ["none", "udp", "multicast", "udp"]
