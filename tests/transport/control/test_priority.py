"""Who is heard, against a naive machine that interrupts and resumes."""

from dataclasses import dataclass, field
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.control.priority import Priority, heard


@dataclass(frozen=True, slots=True)
class Voice:
    priority: int
    order: int


def test_nobody_is_heard_when_nobody_speaks() -> None:
    assert heard([]) is None


def test_the_highest_priority_is_heard_however_they_are_listed() -> None:
    for voices in permutations([Voice(5, 1), Voice(3, 2), Voice(1, 9)]):
        assert heard(voices) == Voice(5, 1)


def test_of_equals_the_later_is_heard_and_then_the_earlier_again() -> None:
    assert heard([Voice(3, 1), Voice(3, 2)]) == Voice(3, 2)
    assert heard([Voice(3, 1)]) == Voice(3, 1)


def test_the_levels_are_in_the_order_that_people_expect() -> None:
    names = [p.name.lower() for p in sorted(Priority)]
    assert names == ["background", "scheduled", "live", "priority", "emergency"]


@pytest.mark.parametrize("text", ["live", "LIVE", " Live "])
def test_a_level_is_known_by_its_name(text: str) -> None:
    assert Priority.parse(text) is Priority.LIVE


def test_a_level_that_is_none_is_refused_with_all_that_are() -> None:
    with pytest.raises(ValueError, match=r"'loud' is no priority: use background, .*emergency"):
        Priority.parse("loud")


@dataclass
class Naive:
    """Keeps what is on and a pile of what was interrupted or has to wait, in the order it came."""

    on: Voice | None = None
    pile: list[Voice] = field(default_factory=list)

    def start(self, voice: Voice) -> None:
        if self.on is None:
            self.on = voice
        elif voice.priority >= self.on.priority:
            self.pile.append(self.on)
            self.on = voice
        else:
            self.pile.append(voice)

    def end(self, voice: Voice) -> None:
        if voice != self.on:
            self.pile.remove(voice)
            return
        self.on = None
        for level in sorted({v.priority for v in self.pile}, reverse=True):
            newest = [v for v in self.pile if v.priority == level][-1]
            latest = max((v for v in self.pile if v.priority == level), key=lambda v: v.order)
            assert latest.order >= newest.order
            self.pile.remove(latest)
            self.on = latest
            return


@given(st.lists(st.one_of(st.sampled_from(list(Priority)), st.integers(0, 20)), max_size=60))
def test_any_history_is_as_a_machine_that_interrupts_and_resumes(
    history: list[Priority | int],
) -> None:
    """A priority starts a voice of it; a number ends one of those that are due."""
    naive, due = Naive(), list[Voice]()
    for order, step in enumerate(history):
        if isinstance(step, Priority):
            voice = Voice(step, order)
            due.append(voice)
            naive.start(voice)
        elif due:
            ended = due.pop(step % len(due))
            naive.end(ended)
        assert heard(due) == naive.on
