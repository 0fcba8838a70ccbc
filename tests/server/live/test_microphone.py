"""A microphone that is a test's own: what it captures, loses and says when it vanishes."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from codec.errors import SourceError
from codec.format import Samples
from codec.soundcard import Callback, SoundCardError
from server.live import microphone
from server.live.microphone import MicrophoneSource


class FakeMicrophone:
    """Calls back when it is told to; `during` is what happens as soon as it is started."""

    def __init__(self, during: Callable[["FakeMicrophone"], None] = lambda _: None) -> None:
        self.opened: list[tuple[str, float]] = []
        self.started = self.closed = 0
        self.refuses: str | None = None
        self._during = during
        self._callback: Callback | None = None
        self.ended: Callable[[], None] = lambda: None

    def open(
        self, name: str, latency_s: float, callback: Callback, finished: Any
    ) -> "FakeMicrophone":
        self.opened.append((name, latency_s))
        if self.refuses is not None:
            raise SoundCardError(self.refuses)
        self._callback, self.ended = callback, finished
        return self

    def start(self) -> None:
        self.started += 1
        self._during(self)

    def close(self) -> None:
        self.closed += 1

    def capture(self, samples: Samples) -> None:
        """The card's thread has these; its buffer is used again at once."""
        assert self._callback is not None
        buffer = samples.reshape(len(samples), -1).copy()
        self._callback(buffer, len(buffer), None, None)
        buffer[:] = 9.0


def ramp(start: int, count: int) -> Samples:
    return (np.arange(start, start + count) / 48_000).astype(np.float32)


def take(blocks: Iterator[Samples], count: int) -> list[Samples]:
    return [next(blocks) for _ in range(count)]


def test_pieces_of_any_length_become_blocks_of_10_ms() -> None:
    def speak(card: FakeMicrophone) -> None:
        for start in range(0, 1_200, 120):
            card.capture(ramp(start, 120))

    card = FakeMicrophone(speak)
    blocks = take(iter(MicrophoneSource("desk", card.open)), 2)
    assert [block.shape for block in blocks] == [(480,), (480,)]
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    assert np.array_equal(np.concatenate(blocks), ramp(0, 960))
    assert card.opened[0][0] == "desk"


def test_nothing_is_captured_before_somebody_listens() -> None:
    card = FakeMicrophone(lambda card: card.capture(ramp(0, 480)))
    source = MicrophoneSource("", card.open)
    assert card.started == 0
    next(iter(source))
    assert card.started == 1


def test_two_channels_are_heard_as_their_mean() -> None:
    stereo = np.column_stack((np.full(480, 0.5), np.full(480, 0.25))).astype(np.float32)
    card = FakeMicrophone(lambda card: card.capture(stereo))
    block = next(iter(MicrophoneSource("", card.open)))
    assert np.array_equal(block, np.full(480, 0.375, np.float32))


def test_sound_that_is_no_number_or_too_loud_keeps_the_promise_of_the_format() -> None:
    wrong = np.array([np.nan, 3.0, -3.0, 0.5] * 120, np.float32)
    card = FakeMicrophone(lambda card: card.capture(wrong))
    block = next(iter(MicrophoneSource("", card.open)))
    assert list(block[:4]) == [0.0, 1.0, -1.0, 0.5]


def test_what_nobody_takes_in_time_is_dropped_and_counted_the_oldest_first() -> None:
    def speak(card: FakeMicrophone) -> None:
        for number in range(60):
            card.capture(np.full(480, number / 100, np.float32))

    source = MicrophoneSource("", FakeMicrophone(speak).open)
    first = next(iter(source))
    assert source.dropped == 10
    assert first[0] == np.float32(0.10)


def test_one_that_vanishes_says_so_after_its_last_sound() -> None:
    def vanish(card: FakeMicrophone) -> None:
        card.capture(ramp(0, 480))
        card.ended()

    blocks = iter(MicrophoneSource("", FakeMicrophone(vanish).open))
    next(blocks)
    with pytest.raises(SourceError, match=r"^the microphone is gone: connect it and start again$"):
        next(blocks)


def test_one_that_gives_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "_PATIENCE_S", 0.01)
    with pytest.raises(SourceError, match=r"^the microphone has given nothing for 0.01 s: look at"):
        next(iter(MicrophoneSource("", FakeMicrophone().open)))


def test_closing_it_ends_whoever_waits() -> None:
    card = FakeMicrophone()
    source = MicrophoneSource("", card.open)
    source.close()
    assert card.closed == 1
    with pytest.raises(SourceError, match="gone"):
        next(iter(source))


def test_what_the_card_refuses_with_is_what_a_person_reads() -> None:
    card = FakeMicrophone()
    card.refuses = "no microphone is called desk; choose by mic:NAME from: a, b"
    with pytest.raises(SourceError, match=r"^no microphone is called desk; choose by mic:NAME"):
        MicrophoneSource("desk", card.open)
