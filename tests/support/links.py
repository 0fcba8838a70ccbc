"""Packets through a link of the seeded network, and what became of them."""

import numpy as np

from bench.network import MS, Impairments, Link


def make_link(path: Impairments, seed: int = 1, limit: int = 1_000_000) -> Link:
    return Link(path, np.random.default_rng(seed), limit)


def drain(link: Link) -> list[tuple[int, bytes]]:
    return link.due(2**63)


def drain_one(link: Link) -> int:
    """The delay of the first packet that is not lost."""
    now_ns = 0
    while link.in_flight == 0:
        now_ns += 100 * MS
        link.send(b"", now_ns)
    return drain(link)[0][0] - now_ns


def numbered(count: int) -> list[bytes]:
    return [index.to_bytes(4) for index in range(count)]


def send_every(link: Link, interval_ns: int, length_ns: int) -> np.ndarray:
    """Whether each packet was lost, in order of sending."""
    fates = []
    for now_ns in range(0, length_ns, interval_ns):
        before = link.lost
        link.send(b"", now_ns)
        fates.append(link.lost > before)
    return np.array(fates)
