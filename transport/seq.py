"""Serial numbers that wrap: RTP sequence numbers (16 bits) and timestamps (32 bits).

Everything past the parser works with extended integers that never wrap; this is the only file
that goes from one to the other (the idea of RFC 1982, without its undefined half-way case).
"""

from __future__ import annotations

__all__ = ["diff", "require_unsigned", "unwrap", "wrap"]


def wrap(value: int, bits: int) -> int:
    """Return `value` as it travels in a field of `bits` bits."""
    return value & ((1 << bits) - 1)


def diff(a: int, b: int, bits: int) -> int:
    """Return the shortest signed distance from `b` to `a`, modulo 2**bits.

    Lies in [-2**(bits-1), 2**(bits-1)). Exactly half way round could be either; we say behind,
    since taking an old packet for a new one does more harm than the opposite.
    """
    half = 1 << (bits - 1)
    return ((a - b + half) & ((1 << bits) - 1)) - half


def unwrap(value: int, reference: int, bits: int) -> int:
    """Return the integer nearest to `reference` that is congruent to `value` modulo 2**bits.

    May be negative: a packet sent just before sequence 0 belongs at -1, not at 65535.
    """
    return reference + diff(value, reference, bits)


def require_unsigned(name: str, value: int, bits: int) -> None:
    """Raise `ValueError` unless `value` fits an unsigned wire field of `bits` bits."""
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{name} must fit {bits} unsigned bits, got {value}")
