"""A network of one's own: stock players join multicast groups on the default route's interface."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.processes import Bench

_CLONE_NEWNET = 0x40000000
_SETUP = "ip link set lo up && ip route add 224.0.0.0/4 dev lo"


@pytest.fixture
def own_network() -> Iterator[None]:
    """This thread, and every process it starts, in a fresh network namespace with multicast."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before:
        if libc.unshare(_CLONE_NEWNET) != 0:
            pytest.skip(f"needs a network namespace: {os.strerror(ctypes.get_errno())}")
        try:
            made = subprocess.run(["sh", "-c", _SETUP], capture_output=True, text=True, check=False)
            if made.returncode != 0:
                pytest.skip(f"needs iproute2 and a network namespace: {made.stderr.strip()}")
            yield
        finally:
            libc.setns(before.fileno(), _CLONE_NEWNET)


@pytest.fixture
def station(own_network: None, tmp_path: Path) -> Iterator[Bench]:
    """A station in that network."""
    with Bench(tmp_path) as bench:
        bench.start_station()
        yield bench
