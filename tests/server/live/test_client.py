"""A voice, from its blocks to the station's sockets. Talks are short: a true clock paces them."""

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from codec.errors import SourceError
from codec.format import Samples
from codec.pcm import pcm16, samples_of_pcm16
from server.ingest import VERSION, ObjectStream
from server.live.client import LiveClient
from server.live.pace import LiveBuffer
from server.live.station import LiveError, LiveOverError
from tests.support.ports import nobodys_port
from transport.clock.timeline import NS_PER_MS, ns_of_samples

Station = Any  # the fixture's; see conftest
TONE = (0.25 * np.sin(np.arange(480) * 2 * np.pi * 1000 / 48_000)).astype(np.float32)
SILENCE = np.zeros(480, np.float32)


class Taken:
    """What came in over one ingest connection after another."""

    def __init__(self) -> None:
        self.hellos: list[Any] = []
        self.blocks: list[tuple[int, bytes]] = []
        self.farewells = 0
        self.arrived_ns: list[int] = []
        self.over = threading.Event()

    def take(self, limit: int | None = None) -> Callable[[ObjectStream, Any], None]:
        """Accept, take blocks until the farewell, or break off after `limit` of them."""

        def act(stream: ObjectStream, items: Iterator[Any]) -> None:
            self.hellos.append(next(items))
            stream.send({"accepted": True, "reason": ""})
            for item in itertools.islice(items, limit):
                if item is None:
                    self.farewells += 1
                    stream.send({"ended": True})
                    self.over.set()
                    return
                self.blocks.append((item[0], item[1]))

        return act


def refuse(stream: ObjectStream, items: Iterator[Any]) -> None:
    next(items)
    stream.send({"accepted": False, "reason": "unknown ticket"})


def hang_up(_: ObjectStream, items: Iterator[Any]) -> None:
    next(items)


@pytest.fixture(autouse=True)
def _a_machine_may_be_busy(station: Station) -> None:
    """Late by half of D is a hole; a test that has no hole in mind shall see none of 20 ms."""
    station.playout_delay_ms = 4_000.0


@pytest.fixture
def taken(station: Station) -> Taken:
    taken = Taken()
    station.ingest.append(taken.take())
    return taken


def say(client: LiveClient, blocks: Iterator[Samples], **options: Any) -> None:
    try:
        for _ in client.speak(blocks, **options):
            pass
    finally:
        client.finish()


def test_a_talk_arrives_whole_and_ends_with_a_farewell(station: Station, taken: Taken) -> None:
    client = LiveClient(station.address, {"to": ["a"]})
    say(client, iter([TONE] * 20))
    assert taken.over.wait(5)
    assert taken.hellos == [{"version": VERSION, "ticket": "ticket"}]
    assert [data for _, data in taken.blocks] == [pcm16(TONE)] * 20
    assert taken.farewells == 1


def test_blocks_follow_each_other_in_media_time_from_now_on(station: Station, taken: Taken) -> None:
    before_ns = station.clock.now_ns()
    say(LiveClient(station.address, {}), iter([TONE] * 20))
    starts = [start for start, _ in taken.blocks]
    assert starts == [starts[0] + 480 * n for n in range(20)]
    assert 0 < ns_of_samples(starts[0]) - before_ns < 2_000 * NS_PER_MS


def test_no_block_is_sent_before_its_last_sample_has_been(station: Station) -> None:
    early_ns: list[int] = []

    def act(stream: ObjectStream, items: Iterator[Any]) -> None:
        next(items)
        stream.send({"accepted": True, "reason": ""})
        for item in items:
            if item is None:
                stream.send({"ended": True})
                return
            start, data = item
            end_ns = ns_of_samples(start + len(data) // 2)
            early_ns.append(end_ns - station.clock.now_ns())

    station.ingest.append(act)
    say(LiveClient(station.address, {}), iter([TONE] * 20))
    # The two ends' clocks agree to within their exchange's error.
    assert max(early_ns) < NS_PER_MS


def test_progress_tells_how_much_was_said_and_how_loud(station: Station, taken: Taken) -> None:
    client = LiveClient(station.address, {})
    seconds = [progress.seconds for progress in client.speak(iter([TONE] * 10))]
    client.finish()
    assert seconds == pytest.approx([0.01 * n for n in range(1, 11)])
    assert client.progress.level_dbfs == pytest.approx(-15.05, abs=0.1)
    assert client.progress.sounded
    assert client.progress.began_ns > 0


def test_silence_is_told_from_sound(station: Station, taken: Taken) -> None:
    client = LiveClient(station.address, {})
    say(client, iter([SILENCE] * 3))
    assert not client.progress.sounded


def test_a_source_that_stalled_leaves_a_hole_and_goes_on_from_now(
    station: Station, taken: Taken
) -> None:
    station.playout_delay_ms = 600.0
    stalled = threading.Event()

    def blocks() -> Iterator[Samples]:
        yield TONE
        stalled.wait(0.7)  # as a pipe does; nobody ever sets it
        yield TONE

    client = LiveClient(station.address, {})
    say(client, blocks())
    first, second = [start for start, _ in taken.blocks]
    assert second - first - 480 > 48 * 300
    assert client.progress.holes == 1
    assert client.progress.seconds == pytest.approx(0.02)


def test_a_source_that_gives_nothing_any_more_is_said_to_have_stopped(
    station: Station, taken: Taken
) -> None:
    released = threading.Event()

    def blocks() -> Iterator[Samples]:
        yield TONE
        released.wait(5)  # as a pipe that nobody writes to

    with pytest.raises(SourceError, match=r"^the source stopped: no sound for 0\.05 s$"):
        say(LiveClient(station.address, {}), blocks(), patience_s=0.05)
    assert taken.over.wait(5), "the programme was not ended in good order"
    released.set()


def test_a_source_that_fails_fails_the_talk_with_its_own_words(
    station: Station, taken: Taken
) -> None:
    def blocks() -> Iterator[Samples]:
        yield TONE
        raise SourceError("the disk is gone")

    with pytest.raises(SourceError, match="the disk is gone"):
        say(LiveClient(station.address, {}), blocks())
    assert taken.over.wait(5)
    assert len(taken.blocks) == 1


def test_a_producer_that_died_is_found_again_with_the_same_ticket(
    station: Station, taken: Taken
) -> None:
    def blocks() -> Iterator[Samples]:
        yield from [TONE] * 3
        station.broke_off.wait(5)  # else as many are lost as it takes to die
        yield from [TONE] * 37

    station.ingest.insert(0, taken.take(limit=3))
    say(LiveClient(station.address, {}), blocks(), patience_s=10.0)
    assert taken.over.wait(5)
    assert taken.hellos == [{"version": VERSION, "ticket": "ticket"}] * 2
    starts = [start for start, _ in taken.blocks]
    # What could not be sent is lost; the rest is in its place.
    assert {(start - starts[0]) % 480 for start in starts} == {0}
    assert (starts[-1] - starts[0]) // 480 == 39
    assert len(starts) > 30


def test_a_programme_that_the_station_ended_is_over(
    station: Station, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.live.client._RECONNECT_S", 0.1)
    station.ingest[:] = [taken.take(limit=3), refuse]
    with pytest.raises(LiveError, match=r"^the station does not know this programme any more$"):
        say(LiveClient(station.address, {}), iter([TONE] * 300))


class QuickTime:
    """For the client's `time`: who sleeps is woken at once."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> QuickTime:
    quick = QuickTime()
    monkeypatch.setattr("server.live.client.time", quick)
    return quick


@pytest.mark.parametrize("patient", [True, False])
def test_a_station_that_needs_ten_seconds_to_know_the_ticket_again_is_waited_for(
    station: Station, taken: Taken, quick: QuickTime, *, patient: bool
) -> None:
    station.ingest[:] = [taken.take(limit=3), *[refuse] * 100, *[hang_up] * 100, taken.take()]
    live = LiveBuffer(bound_ms=40, patient=True) if patient else None
    say(LiveClient(station.address, {}), iter([TONE] * 60), live=live)
    assert taken.over.wait(5)
    assert quick.now_s == pytest.approx(10.0, abs=0.2)


def test_a_ticket_is_shown_for_twelve_seconds_and_no_longer(
    station: Station, taken: Taken, quick: QuickTime
) -> None:
    station.ingest[:] = [taken.take(limit=3), refuse]
    with pytest.raises(LiveError, match=r"^the station does not know this programme any more$"):
        say(LiveClient(station.address, {}), iter([TONE] * 300))
    assert quick.now_s == pytest.approx(12.0, abs=0.1)


def test_what_else_the_station_says_in_the_end_is_said(
    station: Station, taken: Taken, quick: QuickTime
) -> None:
    def full(stream: ObjectStream, items: Iterator[Any]) -> None:
        next(items)
        stream.send({"accepted": False, "reason": "64 others speak", "final": False})

    station.ingest[:] = [taken.take(limit=3), full]
    with pytest.raises(LiveError, match=r"^the station ended the programme: 64 others speak$"):
        say(LiveClient(station.address, {}), iter([TONE] * 300))


def test_a_station_that_went_for_good_is_lost_after_twelve_seconds(
    station: Station, taken: Taken, quick: QuickTime
) -> None:
    station.ingest[:] = [taken.take(limit=3)]
    client = LiveClient(station.address, {})
    progress = client.speak(iter([TONE] * 300))
    next(progress)
    with nobodys_port() as gone:
        client.grant = replace(client.grant, ingest_port=gone)
        with pytest.raises(LiveError) as lost:
            list(progress)
    client.finish()
    assert str(lost.value) == f"lost the station at 127.0.0.1:{gone}: Connection refused"
    assert quick.now_s == pytest.approx(12.0, abs=0.1)


def test_one_attempt_takes_no_longer_than_there_is_time(
    station: Station, taken: Taken, quick: QuickTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits_s: list[float] = []

    def nobody(_: Any, timeout: float) -> socket.socket:
        waits_s.append(timeout)
        quick.sleep(timeout)
        raise TimeoutError("timed out")

    station.ingest[:] = [taken.take(limit=3)]
    client = LiveClient(station.address, {})
    progress = client.speak(iter([TONE] * 300))
    next(progress)
    monkeypatch.setattr("socket.create_connection", nobody)
    with pytest.raises(LiveError, match=r"^lost the station at 127\.0\.0\.1:\d+: timed out$"):
        list(progress)
    client.finish()
    assert waits_s[:2] == [5.0, 5.0]
    assert quick.now_s == pytest.approx(12.0, abs=0.2)


def test_a_source_that_had_to_wait_while_the_station_was_away_has_not_stopped(
    station: Station, taken: Taken, quick: QuickTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LiveBuffer(bound_ms=40, patient=True)
    client = LiveClient(station.address, {})
    progress = client.speak(iter([TONE] * 100), live=live)
    for so_far in progress:
        if so_far.seconds == pytest.approx(0.2):
            wait_until(lambda: live.full)
            quick.sleep(10.0)
    client.finish()
    assert taken.over.wait(5)
    assert client.progress.seconds > 0.9


def wait_until(true: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until_s, "it never came true"
        time.sleep(0.001)


def test_a_programme_that_was_stopped_is_over_at_once(station: Station, taken: Taken) -> None:
    def stopped(stream: ObjectStream, items: Iterator[Any]) -> None:
        next(items)
        stream.send({"accepted": False, "reason": "it was stopped", "final": True})

    # Asked once more, it would take the word again.
    station.ingest[:] = [taken.take(limit=3), stopped, taken.take()]
    with pytest.raises(LiveOverError, match=r"^the station ended the programme: it was stopped$"):
        say(LiveClient(station.address, {}), iter([TONE] * 300))


def test_a_ticket_that_is_refused_is_said_with_the_reason(station: Station) -> None:
    station.ingest.append(refuse)
    with pytest.raises(LiveError, match=r"^the station ended the programme: unknown ticket$"):
        say(LiveClient(station.address, {}), iter([TONE]))


def test_a_producer_that_hangs_up_is_said_not_to_have_answered(station: Station) -> None:
    station.ingest.append(hang_up)
    with pytest.raises(LiveError) as silent:
        say(LiveClient(station.address, {}), iter([TONE]))
    assert str(silent.value) == f"lost the station at 127.0.0.1:{station.ingest_port}: no answer"


def test_a_producer_that_is_not_there_is_a_station_lost(station: Station) -> None:
    with nobodys_port() as port:
        station.reply = (201, json.dumps({**station.grant(), "ingest_port": port}).encode())
        with pytest.raises(LiveError) as lost:
            say(LiveClient(station.address, {}), iter([TONE]))
    assert str(lost.value) == f"lost the station at 127.0.0.1:{port}: Connection refused"


def heard(taken: Taken) -> Samples:
    return np.concatenate([samples_of_pcm16(data) for _, data in taken.blocks])


def test_what_waits_for_us_goes_through_a_live_buffer_as_it_is(
    station: Station, taken: Taken
) -> None:
    # Half a second is kept: the thread that reads may wait so long for its turn.
    ramp = np.linspace(0.1, 0.9, 48_000, dtype=np.float32)
    live = LiveBuffer(bound_ms=500, patient=True)
    client = LiveClient(station.address, {})
    say(client, iter(ramp.reshape(100, 480)), live=live)
    assert taken.over.wait(5)
    # But for the fade at its beginning.
    assert pcm16(ramp[240:]) in pcm16(heard(taken))
    assert (client.progress.holes, client.progress.dropped_samples) == (0, 0)


def test_what_is_live_is_sent_with_its_media_time_by_the_block(
    station: Station, taken: Taken
) -> None:
    client = LiveClient(station.address, {})
    say(client, iter([TONE] * 20), live=LiveBuffer(bound_ms=1_000), samples=240)
    starts = [start for start, _ in taken.blocks]
    assert starts == [starts[0] + 240 * n for n in range(len(starts))]
    assert {len(data) for _, data in taken.blocks} == {480}
    assert client.progress.sounded
    assert client.progress.seconds == len(starts) * 0.005


def test_one_thing_may_be_said_after_another_over_one_connection(
    station: Station, taken: Taken
) -> None:
    client = LiveClient(station.address, {})
    first = list(client.speak(iter([TONE] * 5)))
    say(client, iter([TONE] * 5), live=LiveBuffer(bound_ms=1_000))
    assert taken.over.wait(5)
    assert len(taken.hellos) == 1
    starts = [start for start, _ in taken.blocks]
    assert all(later - earlier >= 480 for earlier, later in itertools.pairwise(starts))
    assert client.progress.seconds == len(starts) * 0.01
    assert client.progress.began_ns == first[0].began_ns


def test_a_source_that_can_wait_is_read_no_further_than_the_buffer_holds(
    station: Station, taken: Taken
) -> None:
    read: list[int] = []

    def blocks() -> Iterator[Samples]:
        for n in range(100):
            read.append(n)
            yield TONE

    client = LiveClient(station.address, {})
    ahead = [
        len(read) - progress.seconds * 100
        for progress in client.speak(blocks(), live=LiveBuffer(bound_ms=100, patient=True))
    ]
    client.finish()
    assert len(read) == 100
    assert max(ahead) <= 13


def test_time_that_we_lost_is_lost_of_a_live_source_too(
    station: Station, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.playout_delay_ms = 900.0
    client = LiveClient(station.address, {})
    steady = client._clock.now_ns
    live = LiveBuffer(bound_ms=5_000)
    for progress in client.speak(iter([TONE] * 100), live=live):
        if progress.seconds == pytest.approx(0.1):
            # This machine slept for half a second.
            monkeypatch.setattr(client._clock, "now_ns", lambda: steady() + 500 * NS_PER_MS)
    client.finish()
    assert taken.over.wait(5)
    starts = [start for start, _ in taken.blocks]
    # And whatever else it lost at that moment.
    lost = max(np.diff(starts)) - 480
    assert lost > 23_000
    assert client.progress.dropped_samples == pytest.approx(lost, abs=1_000)
    assert client.progress.holes == 1


def test_what_a_live_source_gives_too_much_of_is_dropped_and_counted(
    station: Station, taken: Taken
) -> None:
    client = LiveClient(station.address, {})
    say(client, iter([TONE] * 100), live=LiveBuffer(bound_ms=100))
    assert client.progress.dropped_samples > 24_000
    # Without the silence before its first block came.
    said = np.trim_zeros(heard(taken), "f")
    assert client.progress.dropped_samples + len(said) < 48_000 + 4_800


def test_a_live_source_that_stops_is_said_to_have_stopped_and_read_no_more(
    station: Station, taken: Taken
) -> None:
    released = threading.Event()
    read: list[int] = []

    def blocks() -> Iterator[Samples]:
        yield TONE
        released.wait(5)
        for n in itertools.count():
            read.append(n)
            yield TONE

    with pytest.raises(SourceError, match=r"^the source stopped: no sound for 0\.05 s$"):
        say(LiveClient(station.address, {}), blocks(), patience_s=0.05, live=LiveBuffer())
    assert taken.over.wait(5)
    released.set()
    assert len(read) <= 1


def test_a_live_source_that_fails_fails_the_talk_when_all_has_been_said(
    station: Station, taken: Taken
) -> None:
    def blocks() -> Iterator[Samples]:
        yield from [TONE] * 10
        raise SourceError("the microphone was pulled out")

    with pytest.raises(SourceError, match="pulled out"):
        say(LiveClient(station.address, {}), blocks(), live=LiveBuffer(bound_ms=1_000))
    assert taken.over.wait(5)
    assert np.count_nonzero(heard(taken)) > 4_000


def test_to_finish_without_having_spoken_is_nothing(station: Station) -> None:
    client = LiveClient(station.address, {})
    client.finish()
    client.finish()


def test_a_clock_that_does_not_answer_is_named(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.live.clock._ANSWER_S", 0.01)
    monkeypatch.setattr("server.live.clock._TRIES", 3)
    station._over.set()  # nobody tells the time any more
    station._threads[0].join()
    with pytest.raises(LiveError) as silent:
        LiveClient(station.address, {})
    assert str(silent.value) == (
        f"the station's clock at 127.0.0.1:{station.time_port} (UDP) does not answer"
    )
