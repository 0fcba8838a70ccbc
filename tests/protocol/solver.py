"""The block code of PROTOCOL.md, decoded by the textbook; nothing of our code."""

import hashlib
from typing import Any

from tests.protocol.newcomer import need


def read_symbols(payload: bytes) -> Any:
    """A payload of type 99 whose symbols suffice for all frames of their block."""
    need(len(payload) > 10)
    places, count, sent, first = (
        payload[0],
        payload[1],
        int.from_bytes(payload[5:7], "big"),
        payload[7],
    )
    offset, length = int.from_bytes(payload[2:5], "big"), int.from_bytes(payload[8:10], "big")
    need(2 <= places <= 16, 1 <= count <= 8, offset, sent & 1, sent < 1 << places)
    need(places + first + count <= 32, length >= 3)
    at = 10 + count * length
    need(at < len(payload))
    symbols = [payload[begin : begin + length] for begin in range(10, at, length)]
    unknown = [place for place in range(places) if sent >> place & 1]
    rows = [[_inverse((places + first + n) ^ place) for place in unknown] for n in range(count)]
    solved = dict(zip(unknown, _solve(rows, [list(symbol) for symbol in symbols]), strict=True))
    return {
        "places": places,
        "offset": offset,
        "sent": sent,
        "first": first,
        "symbols": [symbol.hex() for symbol in symbols],
        "block": [_frame_in(solved[n]) if n in solved else None for n in range(places)],
        "frame": payload[at:].hex(),
        "digest": hashlib.sha256(payload[:at]).digest()[:16].hex(),
    }


def _times(a: int, b: int) -> int:
    """In GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1."""
    product = 0
    while b:
        product ^= a * (b & 1)
        a, b = a << 1 ^ 0x11D * (a >> 7), b >> 1
    return product


def _inverse(a: int) -> int:
    return next(b for b in range(1, 256) if _times(a, b) == 1)


def _solve(rows: list[list[int]], right: list[list[int]]) -> list[bytes]:
    """As many unknown symbols as rows have columns; Gauss and Jordan."""
    need(len(rows) >= len(rows[0]))
    for n in range(len(rows[0])):
        pivot = next(row for row in range(n, len(rows)) if rows[row][n])
        rows[n], rows[pivot], right[n], right[pivot] = rows[pivot], rows[n], right[pivot], right[n]
        scale = _inverse(rows[n][n])
        rows[n], right[n] = ([_times(scale, x) for x in line] for line in (rows[n], right[n]))
        for row in set(range(len(rows))) - {n}:
            factor = rows[row][n]
            for lines in (rows, right):
                both = zip(lines[row], lines[n], strict=True)
                lines[row] = [x ^ _times(factor, y) for x, y in both]
    return [bytes(line) for line in right[: len(rows[0])]]


def _frame_in(source: bytes) -> str:
    end = 2 + int.from_bytes(source[:2], "big")
    need(2 < end <= len(source), not any(source[end:]))
    return source[2:end].hex()
