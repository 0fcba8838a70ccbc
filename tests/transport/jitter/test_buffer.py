from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.jitter.buffer import EncodedFrame, Insertion, JitterBuffer

ACCEPTED, DUPLICATE = Insertion.ACCEPTED, Insertion.DUPLICATE
LATE, OVERFLOW = Insertion.LATE, Insertion.OVERFLOW
FRAME = 480
# Media samples of today do not fit 32 bits, and a virtual clock may begin below zero.
ORIGINS = pytest.mark.parametrize("origin", [0, -FRAME, 1_790_000_000 * 48_000])


def frame(start: int, samples: int = FRAME) -> EncodedFrame:
    return EncodedFrame(start, samples, b"opus")


def filled(starts: Sequence[int], capacity: int = 512) -> JitterBuffer:
    buffer = JitterBuffer(capacity)
    for start in starts:
        assert buffer.insert(frame(start)) is ACCEPTED
    return buffer


@ORIGINS
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_frames_come_out_by_media_time_whatever_order_they_came_in(
    origin: int, order: tuple[int, ...]
) -> None:
    buffer = filled([origin + n * FRAME for n in order])
    taken = [buffer.take(origin + n * FRAME) for n in range(3)]
    assert taken == [frame(origin + n * FRAME) for n in range(3)]
    assert len(buffer) == 0


@ORIGINS
def test_a_frame_is_found_from_any_position_inside_it(origin: int) -> None:
    for inside in (0, 1, FRAME - 1):
        assert filled([origin]).take(origin + inside) == frame(origin)


@ORIGINS
def test_a_frame_does_not_cover_its_end_nor_what_is_before_it(origin: int) -> None:
    assert filled([origin]).take(origin - 1) is None
    assert filled([origin]).take(origin + FRAME) is None


def test_what_lies_before_the_position_is_dropped() -> None:
    buffer = filled([0, FRAME, 2 * FRAME])
    assert buffer.take(2 * FRAME) == frame(2 * FRAME)
    assert len(buffer) == 0


def test_what_lies_ahead_stays() -> None:
    buffer = filled([FRAME])
    assert buffer.take(0) is None
    assert buffer.first() == frame(FRAME)


def test_the_same_frame_twice_is_a_duplicate() -> None:
    buffer = filled([0])
    assert buffer.insert(frame(0)) is DUPLICATE
    assert len(buffer) == 1


def test_a_copy_of_a_frame_being_played_is_refused() -> None:
    buffer = filled([0])
    buffer.take(0)
    assert buffer.insert(frame(0)) is LATE


def test_a_frame_that_has_been_played_past_is_late() -> None:
    buffer = JitterBuffer()
    assert buffer.take(FRAME) is None
    assert buffer.insert(frame(0)) is LATE
    assert buffer.insert(frame(1)) is ACCEPTED  # its last sample has not


def test_the_playout_position_does_not_go_back_by_itself() -> None:
    buffer = JitterBuffer()
    buffer.drop_before(2 * FRAME)
    buffer.drop_before(0)
    assert buffer.insert(frame(FRAME)) is LATE


def test_after_a_rewind_earlier_frames_are_wanted_again() -> None:
    buffer = JitterBuffer()
    buffer.drop_before(100 * FRAME)
    buffer.rewind()
    assert buffer.insert(frame(FRAME)) is ACCEPTED
    assert buffer.take(FRAME) == frame(FRAME)


def test_a_full_buffer_refuses_what_comes_and_keeps_what_it_has() -> None:
    buffer = filled([0, FRAME], capacity=2)
    assert buffer.insert(frame(2 * FRAME)) is OVERFLOW
    assert buffer.take(0) == frame(0)
    assert buffer.insert(frame(2 * FRAME)) is ACCEPTED


def test_dropping_counts_what_it_dropped() -> None:
    assert filled([0, FRAME, 2 * FRAME]).drop_before(2 * FRAME) == 2


def test_of_two_frames_on_unlike_grids_the_earlier_plays_and_the_other_goes_on() -> None:
    buffer = filled([0, FRAME // 2])
    assert buffer.take(0) == frame(0)
    assert buffer.take(FRAME) == frame(FRAME // 2)


def test_a_short_frame_within_a_long_one_does_not_take_it_along() -> None:
    buffer = JitterBuffer()
    buffer.insert(frame(0, 2880))
    buffer.insert(frame(FRAME, 120))
    assert buffer.take(3 * FRAME) == frame(0, 2880)


def test_memory_is_bounded_whatever_comes() -> None:
    buffer = JitterBuffer(capacity=10)
    for start in range(1_000):
        buffer.insert(frame(start))
    assert len(buffer) == 10


# ------------------------------------------------------------------ against a naive model
class Model:
    """The same, by looking at every frame each time."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held: list[EncodedFrame] = []
        self.played_to: int | None = None

    def insert(self, new: EncodedFrame) -> Insertion:
        if self.played_to is not None and new.end_sample <= self.played_to:
            return LATE
        if any(held.start_sample == new.start_sample for held in self.held):
            return DUPLICATE
        if len(self.held) == self.capacity:
            return OVERFLOW
        self.held.append(new)
        return ACCEPTED

    def _play_to(self, position: int) -> None:
        self.played_to = position if self.played_to is None else max(self.played_to, position)

    def drop_before(self, position: int) -> int:
        self._play_to(position)
        before = len(self.held)
        self.held = [held for held in self.held if held.end_sample > position]
        return before - len(self.held)

    def take(self, position: int) -> EncodedFrame | None:
        self.drop_before(position)
        covering = [held for held in self.held if held.start_sample <= position]
        if not covering:
            return None
        taken = min(covering, key=lambda held: held.start_sample)
        self.held.remove(taken)
        self._play_to(taken.end_sample)
        return taken

    def rewind(self) -> None:
        self.played_to = None


LENGTHS = st.sampled_from([120, 240, 480, 960, 1920, 2880, 5760])
STEPS = st.one_of(
    st.tuples(st.just("insert"), st.builds(frame, st.integers(-3_000, 12_000), LENGTHS)),
    st.tuples(st.just("insert"), st.integers(-2, 20).map(lambda n: frame(n * FRAME))),
    st.tuples(st.just("take"), st.integers(-4_000, 15_000)),
    st.tuples(st.just("drop_before"), st.integers(-4_000, 15_000)),
    st.tuples(st.just("rewind"), st.none()),
)


@given(st.lists(STEPS, max_size=60), st.integers(1, 12))
def test_it_does_what_the_naive_model_does(
    steps: list[tuple[str, EncodedFrame | int | None]], capacity: int
) -> None:
    buffer, model = JitterBuffer(capacity), Model(capacity)
    for name, argument in steps:
        arguments = () if argument is None else (argument,)
        assert getattr(buffer, name)(*arguments) == getattr(model, name)(*arguments)
        assert len(buffer) == len(model.held)
        first = min(model.held, key=lambda held: held.start_sample, default=None)
        assert buffer.first() == first


def test_what_is_kept_behind_the_playout_position_can_be_taken_but_not_added_to() -> None:
    buffer = JitterBuffer()
    for start in (0, 960, 1_920):
        buffer.insert(EncodedFrame(start, 960, b"x"))
    assert buffer.drop_before(2_880, keep=1_920) == 1
    assert buffer.insert(EncodedFrame(0, 960, b"x")) is Insertion.LATE
    assert buffer.insert(EncodedFrame(1_440, 960, b"x")) is Insertion.LATE
    assert [frame and frame.start_sample for frame in (buffer.take(960), buffer.take(1_920))] == [
        960,
        1_920,
    ]


def test_the_margin_is_what_is_left_until_a_frames_turn() -> None:
    buffer = JitterBuffer()
    assert buffer.margin(0) is None
    buffer.drop_before(1_000)
    assert buffer.margin(4_000) == 3_000
    assert buffer.margin(400) == -600
    buffer.rewind()
    assert buffer.margin(0) is None
