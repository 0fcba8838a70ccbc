from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.clock.timeline import (
    NS_PER_SECOND,
    media_sample,
    ns_of_samples,
    rtp_timestamp_at_ntp_epoch,
    samples_of_ns,
    split_samples_of_ns,
)

WRAP = 1 << 32
RATE = Fraction(48_000, NS_PER_SECOND)
# From the Unix epoch to the year 2262, where 64 bits of nanoseconds end, and before it as well.
TIMES_NS = st.integers(-(2**62), 2**63)
TODAY = 1_790_000_000 * 48_000
OFFSETS = pytest.mark.parametrize("offset", [0, 1, WRAP // 2, WRAP - 1000, WRAP - 1])


@given(TIMES_NS)
def test_samples_of_a_time_are_its_exact_number_rounded_down(ns: int) -> None:
    assert samples_of_ns(ns) == ns * RATE // 1


@given(TIMES_NS)
def test_whole_samples_and_fraction_add_up_to_the_exact_number(ns: int) -> None:
    whole, fraction = split_samples_of_ns(ns)
    assert 0 <= fraction < 1
    assert abs(whole + Fraction(fraction) - ns * RATE) < Fraction(1, 10**12)


@given(st.integers(-(2**48), 2**48))
def test_a_time_of_samples_is_the_exact_one_rounded_down(samples: int) -> None:
    assert ns_of_samples(samples) == samples / RATE // 1


@given(st.integers(-(2**48), 2**48))
def test_the_time_of_a_sample_lies_within_a_nanosecond_of_it(samples: int) -> None:
    whole, fraction = split_samples_of_ns(ns_of_samples(samples))
    assert samples - RATE <= whole + Fraction(fraction) <= samples


@given(st.integers(-(2**40), 2**40))
def test_whole_milliseconds_are_whole_samples_both_ways(ms: int) -> None:
    assert samples_of_ns(ms * 1_000_000) == 48 * ms
    assert ns_of_samples(48 * ms) == ms * 1_000_000


@OFFSETS
@pytest.mark.parametrize("sample", [0, 7, WRAP - 1, WRAP, TODAY, TODAY // WRAP * WRAP])
@pytest.mark.parametrize("wrong", [0, -480_000, 480_000, 1 - WRAP // 2, WRAP // 2 - 1])
def test_a_timestamp_gives_back_its_media_sample(offset: int, sample: int, wrong: int) -> None:
    """The reference may be off by up to 12 hours, and the wrap may lie between the two."""
    timestamp = (sample + offset) % WRAP
    assert media_sample(timestamp, offset, sample + wrong) == sample


@OFFSETS
def test_consecutive_frames_stay_consecutive_across_the_wrap(offset: int) -> None:
    first = TODAY // WRAP * WRAP - offset + WRAP - 5 * 480
    samples = [first + 480 * n for n in range(10)]
    assert len({(sample + offset) // WRAP for sample in samples}) == 2
    got = [media_sample((sample + offset) % WRAP, offset, first) for sample in samples]
    assert got == samples


@given(st.integers(0, WRAP - 1), st.integers(0, WRAP - 1), st.integers(-(2**48), 2**48))
def test_the_media_sample_is_the_nearest_that_fits(timestamp: int, offset: int, near: int) -> None:
    sample = media_sample(timestamp, offset, near)
    assert (sample + offset - timestamp) % WRAP == 0
    assert abs(sample - near) <= WRAP // 2


@OFFSETS
def test_the_direct_media_clock_counts_from_the_ntp_epoch(offset: int) -> None:
    # RFC 7273 section 5.2: the RTP timestamp at 1900-01-01, 2208988800 s before the Unix epoch.
    seconds = 2_208_988_800
    assert (rtp_timestamp_at_ntp_epoch(offset) + seconds * 48_000) % WRAP == offset
