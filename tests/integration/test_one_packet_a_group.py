"""A multicast group of any size costs one packet a frame: what the wire itself saw. Needs root."""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bench.fleet_scene import Scene
from tests.support.fleet import TWO_HUNDRED, on_air, undisturbed
from tests.support.wire import Seen, Sniffer, needs_root

pytestmark = pytest.mark.realtime

SECONDS = 3.0
FRAMES_A_SECOND = 100
LISTENERS = 50


@contextmanager
def listening(group: tuple[str, int]) -> Iterator[list[socket.socket]]:
    """Sockets of members of a group that nobody enrolled."""
    with ExitStack() as held:
        yield [held.enter_context(_member(group)) for _ in range(LISTENERS)]


def _member(group: tuple[str, int]) -> socket.socket:
    member = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    member.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    member.bind(group)
    membership = struct.pack("4s4s", socket.inet_aton(group[0]), socket.inet_aton("127.0.0.1"))
    member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    return member


def _count(member: socket.socket) -> int:
    """How many datagrams wait."""
    member.setblocking(False)
    count = 0
    try:
        while member.recv(2048):
            count += 1
    except BlockingIOError:
        return count
    raise AssertionError("an empty datagram")


def _sound(wire: Sniffer) -> list[Seen]:
    """RTP alone, by RFC 7983 and RFC 5761: the same port says keep-alives and RTCP."""
    rtp = (seen for seen in wire.seen if seen.data[0] >> 6 == 2)
    return [seen for seen in rtp if not 192 <= seen.data[1] <= 223]


def _watched(scene: Scene) -> tuple[Sniffer, list[int]]:
    media = scene.bench.get("/api/v1/station")["ports"]["media"]
    with Sniffer(frozenset({media})) as wire:
        time.sleep(SECONDS / 2)
        group = next(seen.to for seen in wire.seen if IPv4Address(seen.to[0]).is_multicast)
        with listening(group) as members:
            time.sleep(SECONDS / 2)
            counts = [_count(member) for member in members]
    return wire, counts


def test_a_group_of_two_hundred_costs_one_packet_a_frame(tmp_path: Path) -> None:
    needs_root()
    with on_air(tmp_path, frame_ms=10.0, multicast=True) as scene:
        window = undisturbed(scene, SECONDS)
        wire, members = _watched(scene)
    heard, seen = window.fleet, _sound(wire)
    copies = Counter(packet.data[2:12] for packet in seen)  # sequence, timestamp and SSRC
    print(
        f"{heard.received} received by {heard.endpoints}; {len(seen)} packets on the wire in "
        f"{SECONDS:g} s; {min(members)} to {max(members)} at {LISTENERS} more members"
    )
    assert heard.endpoints == TWO_HUNDRED
    assert heard.received_ratio >= 0.999
    assert wire.dropped == 0, "the capture is not whole"
    assert len(copies) > SECONDS * FRAMES_A_SECOND * 0.8
    assert set(copies.values()) == {1}
    alone = [packet for packet in seen if not IPv4Address(packet.to[0]).is_multicast]
    assert [(packet.to, packet.data[:12].hex(), len(packet.data)) for packet in alone] == []
    assert min(members) > SECONDS / 2 * FRAMES_A_SECOND * 0.5


def test_a_capture_has_nothing_else_in_it() -> None:
    """It once heard what came before it had its filter: parts of TCP, which looked like RTP."""
    needs_root()
    over = threading.Event()

    def chatter() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            while not over.is_set():
                other.sendto(b"x", ("127.0.0.1", 9))

    talking = threading.Thread(target=chatter, daemon=True)
    talking.start()
    heard = []
    for _ in range(8):
        with Sniffer(frozenset({9})) as wire:
            pass
        heard += wire.seen
    over.set()
    talking.join()
    assert heard == []
