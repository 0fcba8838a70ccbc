"""Network namespaces for real processes: two networks joined by a cable, or by a firewall."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import pytest

STATION = "10.76.0.1"
SPEAKER = "10.76.0.2"
_CLONE_NEWNET = 0x40000000
_OWN = Path("/proc/thread-self/ns/net")
_libc = ctypes.CDLL(None, use_errno=True)


class Cable:
    """Two network namespaces joined by a cable. This thread is in the station's."""

    def __init__(self, held: ExitStack) -> None:
        self._speaker = _fresh_network(held)
        self._station = _fresh_network(held)
        _sh(
            "ip link add loa0 type veth peer name loa1 "
            f"&& {_moved('loa1', self._speaker)} && {_up('loa0', f'{STATION}/24')}"
        )
        with self.at_the_speakers():
            _sh(_up("loa1", f"{SPEAKER}/24"))

    @contextmanager
    def at_the_speakers(self) -> Iterator[None]:
        """This thread, and every process it starts, at the other end."""
        with _within(self._speaker, self._station):
            yield


class Firewall:
    """Two networks with a router between them that can be told to forward no UDP.

    This thread is in the station's.
    """

    def __init__(self, held: ExitStack) -> None:
        self._speaker = _fresh_network(held)
        self._router = _fresh_network(held)
        self._station = _fresh_network(held)
        _sh(
            "ip link add loa0 type veth peer name loa1 "
            f"&& {_moved('loa1', self._router)} && {_up('loa0', f'{STATION}/24')} "
            "&& ip route add default via 10.76.0.254"
        )
        with _within(self._router, self._station):
            _sh(
                "ip link add loa2 type veth peer name loa3 "
                f"&& {_moved('loa3', self._speaker)} && {_up('loa1', '10.76.0.254/24')} "
                f"&& {_up('loa2', '10.77.0.254/24')} && echo 1 > /proc/sys/net/ipv4/ip_forward"
            )
        with self.at_the_speakers():
            _sh(f"{_up('loa3', '10.77.0.2/24')} && ip route add default via 10.77.0.254")

    @contextmanager
    def at_the_speakers(self) -> Iterator[None]:
        """This thread, and every process it starts, behind the router."""
        with _within(self._speaker, self._station):
            yield

    def block_udp(self) -> None:
        """Drop every UDP datagram on its way through, and say nothing about it."""
        with _within(self._router, self._station):
            _sh("ip rule add priority 10 ipproto udp blackhole")

    def open_udp(self) -> None:
        """Forward it again."""
        with _within(self._router, self._station):
            _sh("ip rule del priority 10")


@contextmanager
def laid_cable() -> Iterator[Cable]:
    """One, for as long as the block lasts; skips where there are no namespaces."""
    with _kept_network() as held:
        yield Cable(held)


@contextmanager
def built_firewall() -> Iterator[Firewall]:
    """Likewise."""
    with _kept_network() as held:
        yield Firewall(held)


@contextmanager
def _kept_network() -> Iterator[ExitStack]:
    """This thread is back in its own network at the end."""
    with _OWN.open() as before, ExitStack() as held:
        held.callback(lambda: _libc.setns(before.fileno(), _CLONE_NEWNET))
        yield held


@contextmanager
def _within(network: TextIO, home: TextIO) -> Iterator[None]:
    _libc.setns(network.fileno(), _CLONE_NEWNET)
    try:
        yield
    finally:
        _libc.setns(home.fileno(), _CLONE_NEWNET)


def _fresh_network(held: ExitStack) -> TextIO:
    if _libc.unshare(_CLONE_NEWNET) != 0:
        pytest.skip(f"needs a network namespace: {os.strerror(ctypes.get_errno())}")
    network = held.enter_context(_OWN.open())
    _sh("ip link set lo up")
    return network


def _moved(link: str, network: TextIO) -> str:
    return f"ip link set {link} netns /proc/{os.getpid()}/fd/{network.fileno()}"


def _up(link: str, address: str) -> str:
    return f"ip address add {address} dev {link} && ip link set {link} up"


def _sh(script: str) -> None:
    made = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"needs iproute2 and network namespaces: {made.stderr.strip()}")
