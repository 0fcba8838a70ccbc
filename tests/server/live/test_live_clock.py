"""The media clock as a source knows it, from a timekeeper on loopback."""

import select
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from server.live.clock import SourceClock
from server.live.station import LiveError
from server.usher.timekeeper import TimeKeeper
from transport.clock.timeline import NS_PER_MS, NS_PER_SECOND
from transport.net.clocks import HostClock
from transport.net.stamped import udp_socket

Station = Any  # the fixture's; see conftest


@pytest.fixture
def clock(station: Station) -> Iterator[SourceClock]:
    clock = SourceClock("127.0.0.1", station.time_port)
    yield clock
    clock.close()


def test_it_reads_as_the_station_s_own(station: Station, clock: SourceClock) -> None:
    before_ns = station.clock.now_ns()
    reading_ns = clock.now_ns()
    after_ns = station.clock.now_ns()
    assert before_ns - 2 * NS_PER_MS <= reading_ns <= after_ns + 2 * NS_PER_MS


def test_a_media_time_is_found_again_on_this_machine_s_own_clock(clock: SourceClock) -> None:
    own_ns = HostClock().now_ns()
    media_ns = clock._known().theirs(own_ns)
    assert abs(clock.own_ns(media_ns) - own_ns) < NS_PER_MS


def test_what_is_past_is_not_waited_for(clock: SourceClock) -> None:
    began_s = time.monotonic()
    clock.sleep_until(clock.now_ns() - 60 * NS_PER_SECOND)
    assert time.monotonic() - began_s < 30


def test_a_station_that_was_restarted_is_another_and_the_talk_is_over(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.live.clock._PAUSE_S", 0.01)
    clock = SourceClock("127.0.0.1", station.time_port)
    station.clock.set_ns += 1

    def read_on(deadline_s: float) -> None:
        while time.monotonic() < deadline_s:
            clock.now_ns()

    try:
        with pytest.raises(LiveError, match="the station was restarted"):
            read_on(time.monotonic() + 5)
    finally:
        clock.close()


def test_who_has_finished_asks_no_more(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.live.clock._PAUSE_S", 0.0)
    clock = SourceClock("127.0.0.1", station.time_port)
    clock.close()
    deadline_s = time.monotonic() + 5
    while clock._udp.fileno() >= 0:  # the thread that asks closes it when it goes
        assert time.monotonic() < deadline_s
    assert clock.now_ns() > 0  # what is known holds on


def test_a_station_that_is_called_by_ipv6_is_asked_by_ipv6(station: Station) -> None:
    over = threading.Event()
    try:
        udp = udp_socket("::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with udp:
        keeper = TimeKeeper(udp, station.clock, bytes(32))

        def serve() -> None:
            while not over.is_set():
                if select.select([udp], [], [], 0.01)[0]:
                    keeper.serve()

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            clock = SourceClock("::1", udp.getsockname()[1])
            assert abs(clock.now_ns() - station.clock.now_ns()) < NS_PER_SECOND
            clock.close()
        finally:
            over.set()
            serving.join()
