"""How often somebody may do something."""

from hypothesis import given
from hypothesis import strategies as st

from server.bucket import Bucket

S = 1_000_000_000


@given(st.lists(st.integers(0, S), max_size=200))
def test_of_a_bucket_comes_no_more_than_was_in_it_and_came_since(waits: list[int]) -> None:
    bucket, now_ns, taken = Bucket(10, 50), 0, 0
    for wait in waits:
        now_ns += wait
        taken += bucket.take(now_ns)
    assert taken <= 50 + now_ns / S * 10


def test_a_clock_that_goes_back_fills_no_bucket() -> None:
    bucket = Bucket(10, 1)
    assert bucket.take(5 * S)
    assert not bucket.take(0)
    assert not bucket.take(S // 20)
    assert bucket.take(S // 10)
