"""What is signed of several parts can be read in one way only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.transcript import transcript

DOMAIN = "loa.test.2"
PARTS = st.lists(st.binary(max_size=40), max_size=4)
DOMAINS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)


def test_a_transcript_is_the_domain_a_zero_and_each_part_after_its_length() -> None:
    assert transcript("ab", b"xyz", b"") == b"ab\0" + b"\0\0\0\3xyz" + b"\0\0\0\0"


@given(DOMAINS, PARTS, DOMAINS, PARTS)
def test_two_transcripts_are_alike_only_if_domain_and_parts_are(
    domain: str, parts: list[bytes], other: str, others: list[bytes]
) -> None:
    alike = transcript(domain, *parts) == transcript(other, *others)
    assert alike == ((domain, parts) == (other, others))


@given(st.binary(max_size=20), st.integers(0, 20))
def test_bytes_cannot_be_moved_from_one_part_to_the_next(data: bytes, cut: int) -> None:
    whole = transcript(DOMAIN, data)
    assert transcript(DOMAIN, data[:cut], data[cut:]) != whole
    assert transcript(DOMAIN, data, b"") != whole


@pytest.mark.parametrize("domain", ["loa\0test", "lờ"])
def test_a_domain_that_could_be_taken_for_parts_is_our_own_misuse(domain: str) -> None:
    with pytest.raises(ValueError, match="no domain"):
        transcript(domain)
