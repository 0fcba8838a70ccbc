"""Units of time, converted here and nowhere else.

Media time is nanoseconds (or samples at 48 kHz) of the station's media clock since the Unix
epoch. RTP timestamps are media samples plus a random offset, modulo 2**32 (RFC 3550 5.1), so
RFC 7273's `mediaclk:direct` holds and no sender report is needed to place a packet in time.
"""

from codec.format import SAMPLE_RATE
from transport.seq import unwrap

NS_PER_SECOND = 1_000_000_000
NS_PER_MS = 1_000_000
NTP_EPOCH_S = -2_208_988_800  # 1900-01-01 in Unix seconds
# 48000 / 10**9 in lowest terms, so that the conversions below are exact integers.
_NUMERATOR, _DENOMINATOR = 6, 125_000


def samples_of_ns(ns: int) -> int:
    """Whole media samples in `ns`, rounded down."""
    return ns * _NUMERATOR // _DENOMINATOR


def split_samples_of_ns(ns: int) -> tuple[int, float]:
    """Media samples as a whole number and a fraction in [0, 1): exact where a float is not."""
    whole, rest = divmod(ns * _NUMERATOR, _DENOMINATOR)
    return whole, rest / _DENOMINATOR


def ns_of_samples(samples: int) -> int:
    """Nanoseconds of so many media samples, rounded down."""
    return samples * _DENOMINATOR // _NUMERATOR


def media_sample(rtp_timestamp: int, offset: int, reference_sample: int) -> int:
    """The media sample of an RTP timestamp: the one nearest to `reference_sample`.

    The 32 bits repeat after 24.8 hours, so the reference may be 12 hours wrong.
    """
    return unwrap((rtp_timestamp - offset) & 0xFFFF_FFFF, reference_sample, 32)


def rtp_timestamp_at_ntp_epoch(offset: int) -> int:
    """What RFC 7273 section 5.2 calls the direct media clock's offset."""
    return (NTP_EPOCH_S * SAMPLE_RATE + offset) & 0xFFFF_FFFF
