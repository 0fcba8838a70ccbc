"""Which copies streams carry, by who hears them and what they tell."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from server.programmes import LiveRequest, Programme
from server.recovery import Recovery
from tests.support.stations import S, a_station, join, on_air, put_zone, remembered
from transport.control.messages import Telemetry
from transport.recovery.erasure import Code

WELL = Telemetry("playing", -23.0, 10.0, 30.0, 970, 0, 0, 0, 60.0)
LOSSY = replace(WELL, loss=0.1, longest_burst_ms=40.0)
# In samples, at 48 kHz.
MS = 48
FAR, NEAR = (420 * MS,), (60 * MS,)
TWO, FOUR = (480, 960), (960, 2400, 3360, 3840)
SIX = (480, 1440, 1920, 2880, 3360, 3840)


class Room:
    """A station whose loudspeakers tell, and what follows from it."""

    def __init__(self) -> None:
        self.station = a_station()
        self.recovery = Recovery()

    def tell(self, telemetry: Telemetry, *names: str, hearing: str = "live-1") -> None:
        for name in names:
            self.station.speakers[name].telemetry = replace(telemetry, hearing=hearing)

    def adapt(self, at_s: float = 0.0, *, silent: bool = False) -> bool:
        """At this time; everybody has said just now how it is, unless they are silent."""
        if not silent:
            for speaker in self.station.speakers.values():
                speaker.last_seen_ns = round(at_s * S)
        return self.recovery.adapt(
            self.station.ranked(),
            self.station.speakers.values(),
            self.station.directory.endpoints,
            round(at_s * S),
        )

    def adapt_until(self, from_s: int, to_s: int) -> list[bool]:
        """Every 2 s, both included."""
        return [self.adapt(at_s) for at_s in range(from_s, to_s + 1, 2)]


@pytest.fixture
def room() -> Room:
    return Room()


def a_programme(room: Room, count: int = 1, **network: object) -> tuple[Programme, list[str]]:
    """On air to so many loudspeakers that are alike."""
    names = [f"s{n}" for n in range(count)]
    for name in names:
        join(room.station, name, **network)  # type: ignore[arg-type]  # of many types
    return on_air(room.station), names


def copies_of(programme: Programme) -> tuple[tuple[int, ...], ...]:
    return programme.copies


# ------------------------------------------------------------------ before anybody has told
@pytest.mark.parametrize(
    ("delivery", "multicast", "copies"),
    [
        ("lan", True, TWO),
        ("lan", False, (960,)),
        ("wifi", True, FOUR),
        ("wan", False, FAR),
        ("saver", False, ()),
    ],
)
def test_a_programme_begins_with_what_its_listeners_networks_ask_for(
    room: Room, delivery: str, multicast: bool, copies: tuple[int, ...]
) -> None:
    programme, _ = a_programme(room, delivery=delivery, multicast=multicast)
    assert copies_of(programme) == (copies,)
    (order,) = room.station.orders().programmes
    assert [stream.copies for stream in order.streams] == [copies]


def test_each_encoding_has_copies_for_those_who_hear_it(room: Room) -> None:
    for name, delivery in (("a", "lan"), ("b", "wan"), ("c", "saver")):
        join(room.station, name, delivery=delivery, multicast=delivery == "lan")
    programme = on_air(room.station)
    assert programme.plan.playout_delay_ms == 1000.0
    group, unicast, metered = programme.copies
    assert group == (320 * MS, 650 * MS, 970 * MS, 980 * MS)
    assert (unicast, metered) == ((920 * MS,), ())


def test_one_that_hears_the_group_decides_for_all_that_hear_the_stream(room: Room) -> None:
    join(room.station, "a")
    join(room.station, "b", multicast=True)
    assert on_air(room.station).copies == (TWO,)


def test_who_is_not_enrolled_decides_nothing(room: Room) -> None:
    for name, delivery, multicast in (("a", "saver", False), ("b", "lan", True)):
        join(room.station, name, delivery=delivery, multicast=multicast)
    room.station.revoke("b")
    assert on_air(room.station).copies == ((),)


def test_who_hears_the_twin_in_clear_decides_nothing(room: Room) -> None:
    for name, multicast in (("a", False), ("b", True)):
        join(room.station, name, multicast=multicast)
    endpoint = room.station.directory.endpoint("b")
    room.station.directory.put_endpoint(replace(endpoint, clear=True))
    put_zone(room.station, "z", {"zone": "all"})
    room.station.zones.set_clear("z", clear=True)
    assert on_air(room.station, LiveRequest(zones=("z",))).copies == ((960,),)


# ------------------------------------------------------------------ what is told
def test_nothing_is_changed_where_nobody_tells_anything(room: Room) -> None:
    programme, _ = a_programme(room, delivery="wan")
    assert room.adapt_until(0, 100) == 51 * [False]
    assert copies_of(programme) == (FAR,)


def test_worse_is_answered_at_once_and_better_after_a_minute(room: Room) -> None:
    programme, names = a_programme(room, delivery="wifi", multicast=True)
    room.tell(LOSSY, *names)
    assert room.adapt(0)
    assert copies_of(programme) == (SIX,)
    room.tell(WELL, *names)
    assert not any(room.adapt_until(2, 58))
    assert room.adapt(60)
    assert copies_of(programme) == ((80 * MS,),)
    room.tell(LOSSY, *names)
    assert room.adapt(62)
    assert copies_of(programme) == (SIX,)


def test_a_group_that_loses_very_much_by_chance_has_a_code_and_the_producer_is_told(
    room: Room,
) -> None:
    join(room.station, "s0", delivery="lan", multicast=True)
    programme = on_air(room.station, LiveRequest(("all",), playout_delay_ms=500.0))
    chance = replace(LOSSY, loss=0.2, longest_burst_ms=40.0)
    room.tell(chance, "s0")
    assert room.adapt(0)
    assert programme.codes == (Code(15, 17),)
    (order,) = room.station.orders().programmes
    assert [stream.code for stream in order.streams] == [Code(15, 17)]
    assert all(stream.copies for stream in order.streams)
    assert not room.adapt(2)
    (again,) = remembered(room.station).programmes.values()
    assert again.codes == programme.codes
    room.tell(replace(chance, longest_burst_ms=200.0), "s0")
    assert room.adapt(4)
    assert programme.streams[0].code is None


def test_bursts_put_the_copy_far_away_and_chance_brings_it_near(room: Room) -> None:
    programme, names = a_programme(room, delivery="wan")
    room.tell(replace(LOSSY, loss=0.2, longest_burst_ms=100.0), *names)
    assert room.adapt()
    assert copies_of(programme) == (NEAR,)
    room.tell(replace(LOSSY, loss=0.2, longest_burst_ms=400.0), *names)
    assert room.adapt(2)
    assert copies_of(programme) == (FAR,)


def test_the_copy_is_as_far_back_as_it_is_in_time_for_nine_in_ten(room: Room) -> None:
    programme, names = a_programme(room, 10, delivery="wan")
    bursts = replace(LOSSY, longest_burst_ms=400.0)
    room.tell(bursts, *names[:8])
    room.tell(replace(bursts, margin_ms=305.0), names[8])
    room.tell(replace(bursts, margin_ms=100.0), names[9])
    assert room.adapt()
    assert copies_of(programme) == ((300 * MS,),)


def test_what_was_told_long_ago_says_nothing_of_now(room: Room) -> None:
    programme, names = a_programme(room, delivery="wifi", multicast=True)
    room.adapt(0)
    room.adapt(2, silent=True)
    room.tell(LOSSY, *names)
    assert not room.adapt(4, silent=True)
    assert room.adapt(6)
    assert copies_of(programme) == (SIX,)


def test_nine_in_ten_are_served_and_the_worst_decides_nothing(room: Room) -> None:
    programme, names = a_programme(room, 20, delivery="wifi", multicast=True)
    room.tell(WELL, *names)
    room.tell(LOSSY, *names[:2])
    assert not room.adapt()
    assert copies_of(programme) == (FOUR,)
    room.tell(LOSSY, names[2])
    assert room.adapt(2)
    assert copies_of(programme) == (SIX,)


@pytest.mark.parametrize(
    "deaf",
    [
        lambda room: room.tell(LOSSY, "s0", hearing=""),
        lambda room: room.tell(LOSSY, "s0", hearing="live-7"),
        lambda room: room.station.leave("s0", room.station.speakers["s0"].session),
        lambda room: room.station.stop("live-1", "it was stopped", 0),
    ],
    ids=["idle", "elsewhere", "gone", "ended"],
)
def test_who_does_not_hear_it_now_says_nothing_about_it(
    room: Room, deaf: Callable[[Room], None]
) -> None:
    programme, names = a_programme(room, delivery="wifi", multicast=True)
    room.tell(LOSSY, *names)
    deaf(room)
    assert not room.adapt()
    assert copies_of(programme) == (FOUR,)


def test_one_that_comes_later_to_hear_the_group_has_copies_too(room: Room) -> None:
    programme, names = a_programme(room, delivery="lan")
    room.tell(WELL, *names)
    assert not room.adapt()
    join(room.station, "late", multicast=True)
    assert room.adapt(2)
    assert copies_of(programme) == (TWO,)


def test_one_whose_network_has_changed_is_met_when_it_tells(room: Room) -> None:
    programme, names = a_programme(room, delivery="lan")
    room.tell(WELL, *names)
    room.adapt()
    join(room.station, "s0", multicast=True)  # the same, and nothing about zones is new
    room.tell(WELL, "s0")
    assert room.adapt(2)
    assert copies_of(programme) == (TWO,)


def test_streams_of_one_programme_are_adapted_apart(room: Room) -> None:
    for name, delivery in (("a", "wan"), ("b", "lan")):
        join(room.station, name, delivery=delivery)
    programme = on_air(room.station)
    before = programme.copies
    room.tell(replace(LOSSY, loss=0.2), "a")
    assert room.adapt()
    assert copies_of(programme) == (before[0], NEAR)


def test_a_control_born_again_goes_on_with_what_there_is_until_somebody_tells(room: Room) -> None:
    _, names = a_programme(room, delivery="wifi", multicast=True)
    room.tell(LOSSY, *names)
    room.adapt()
    room.station, room.recovery = remembered(room.station), Recovery()
    (programme,) = room.station.programmes.values()
    assert copies_of(programme) == (SIX,)
    assert not room.adapt(2)
    assert copies_of(programme) == (SIX,)


def test_of_a_stream_that_nobody_tells_of_nothing_is_changed(room: Room) -> None:
    for name, delivery in (("a", "wan"), ("b", "lan")):
        join(room.station, name, delivery=delivery)
    programme = on_air(room.station)
    programme.copies = ((480,), FAR)  # as another control left it
    room.tell(replace(LOSSY, loss=0.2), "a")
    assert room.adapt()
    assert copies_of(programme) == ((480,), NEAR)


def test_of_what_is_over_nothing_is_kept(room: Room) -> None:
    _, names = a_programme(room)
    room.tell(WELL, *names)
    room.adapt()
    room.station.withdraw("live-1")
    room.adapt(2)
    assert room.recovery._on_air == {}
