"""Two voices that begin together. Talks are short: a true clock paces them."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from codec.format import SAMPLE_RATE, Samples
from codec.pcm import samples_of_pcm16
from server.ingest import ObjectStream
from server.live import timed
from server.live.station import LiveError
from server.live.timed import play_together

Station = Any  # the fixture's; see conftest


@pytest.fixture
def other(station: Station, monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    """Takes the second voice's sound, for one such station takes one at a time."""
    monkeypatch.setattr(timed, "_BEGINS_S", 1)
    # Late by half of it is too busy, as a machine that runs tests may be for 20 ms.
    station.playout_delay_ms = 1_000.0
    with ExitStack() as held:
        other = type(station)(held)
        whole = {**station.grant(), "not_listening": []}
        ports = [station.ingest_port, other.ingest_port]
        monkeypatch.setattr(station, "grant", lambda: {**whole, "ingest_port": ports.pop(0)})
        try:
            yield other
        finally:
            other.end()


class Heard:
    """What one loudspeaker is played, laid on the media clock."""

    def __init__(self, at: Station) -> None:
        self.blocks: list[tuple[int, Samples]] = []
        self.ended = threading.Event()
        at.ingest.append(self._take)

    def _take(self, stream: ObjectStream, items: Iterator[Any]) -> None:
        next(items)
        stream.send({"accepted": True, "reason": ""})
        for item in items:
            if item is None:
                stream.send({"ended": True})
                self.ended.set()
                return
            self.blocks.append((item[0], samples_of_pcm16(item[1])))

    @property
    def starts(self) -> list[int]:
        return [at for at, _ in self.blocks]

    @property
    def sound(self) -> Samples:
        return np.concatenate([block for _, block in self.blocks])


def refuse(stream: ObjectStream, items: Iterator[Any]) -> None:
    next(items)
    stream.send({"accepted": False, "reason": "it was stopped", "final": True})


def ramps() -> Samples:
    """Two columns, 0.1 s, each sample known by its value."""
    up = np.arange(1, 4801, dtype=np.float32) / 32767
    return np.column_stack((up, -up))


def test_both_columns_lie_at_the_same_place_on_the_media_clock(
    station: Station, other: Station
) -> None:
    one, two = Heard(station), Heard(other)
    play_together(station.address, ("a", "b"), ramps())
    assert one.ended.wait(5)
    assert two.ended.wait(5)
    assert one.starts == two.starts
    begin = one.starts[0]
    assert one.starts == list(range(begin, begin + 480 * len(one.starts), 480))
    assert one.sound[:4800] == pytest.approx(ramps()[:, 0], abs=1e-6)
    assert two.sound[:4800] == pytest.approx(ramps()[:, 1], abs=1e-6)


def test_each_is_heard_by_one_alone_and_as_late_as_the_other(
    station: Station, other: Station
) -> None:
    for at in (station, other):
        Heard(at)
    play_together(station.address, ("a", "b"), ramps())
    assert [body["to"] for body in station.asked] == [["a"], ["b"]]
    assert {body["playout_delay_ms"] for body in station.asked} == {1000.0}
    assert all(body["test"] for body in station.asked)


def test_it_goes_on_until_the_end_was_heard(station: Station, other: Station) -> None:
    heard, _ = Heard(station), Heard(other)
    play_together(station.address, ("a", "b"), ramps())
    assert heard.ended.wait(5)
    # The grant's D is a second.
    assert len(heard.sound) == 4800 + (1000 + 200) * SAMPLE_RATE // 1000
    assert not np.any(heard.sound[4800:])


def test_who_is_not_listening_is_named_and_nothing_is_played(station: Station) -> None:
    with pytest.raises(LiveError, match="a is not listening: see `loa speakers show`"):
        play_together(station.address, ("a", "b"), ramps())
    assert len(station.asked) == 1


def test_when_one_is_refused_the_other_ends_as_well(station: Station, other: Station) -> None:
    heard = Heard(station)
    other.ingest.append(refuse)
    with pytest.raises(LiveError, match="it was stopped"):
        play_together(station.address, ("a", "b"), np.tile(ramps(), (100, 1)))
    assert heard.ended.wait(5)
    assert len(heard.blocks) < 10


def test_what_was_said_too_late_does_not_count(
    station: Station, other: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in (station, other):
        Heard(at)
    # As if this machine had slept through the beginning.
    monkeypatch.setattr(timed, "_BEGINS_S", -1)
    with pytest.raises(LiveError, match="too busy to speak in time"):
        play_together(station.address, ("a", "b"), ramps())
