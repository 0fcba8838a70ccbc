"""Real sockets of this machine, on loopback; nothing here measures time."""

import socket
import struct
from contextlib import closing, suppress

import pytest

from transport.net.stamped import (
    ANCILLARY_BYTES,
    SO_TIMESTAMPNS,
    connected_socket,
    enable_stamps,
    multicast_socket,
    realtime_stamp_ns,
    route_interface,
    send_options,
    spelt_for,
    udp_socket,
)


def _has_ipv6() -> bool:
    with suppress(OSError), closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as probe:
        probe.bind(("::1", 0))
        return True
    return False


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
STAMP = struct.pack("@qq", 1_790_000_000, 123_456_789)
GROUPS = ("239.255.77.1", "239.255.77.2")


def test_a_stamp_is_nanoseconds_of_the_wall_clock() -> None:
    ancillary = [(socket.SOL_SOCKET, SO_TIMESTAMPNS, STAMP)]
    assert realtime_stamp_ns(ancillary) == 1_790_000_000_123_456_789


def test_other_ancillary_data_is_passed_over() -> None:
    ancillary = [
        (socket.SOL_IP, socket.IP_TTL, b"\x40\0\0\0"),
        (socket.SOL_IP, SO_TIMESTAMPNS, STAMP),
        (socket.SOL_SOCKET, SO_TIMESTAMPNS + 1, STAMP),
    ]
    assert realtime_stamp_ns(ancillary) is None
    assert realtime_stamp_ns([*ancillary, (socket.SOL_SOCKET, SO_TIMESTAMPNS, STAMP)]) is not None


@pytest.mark.parametrize("data", [b"", STAMP[:8], STAMP[:15]])
def test_a_truncated_stamp_is_none(data: bytes) -> None:
    assert realtime_stamp_ns([(socket.SOL_SOCKET, SO_TIMESTAMPNS, data)]) is None


def test_the_kernel_stamps_what_arrives() -> None:
    with closing(udp_socket("127.0.0.1", 0)) as udp:
        enable_stamps(udp)
        for _ in range(2):
            udp.sendto(b"x", udp.getsockname())
        udp.setblocking(True)
        stamps = []
        for _ in range(2):
            _, ancillary, _, _ = udp.recvmsg(16, ANCILLARY_BYTES)
            stamps.append(realtime_stamp_ns(ancillary))
    assert stamps[0] is not None
    assert stamps[1] is not None
    assert 0 <= stamps[1] - stamps[0] < 10_000_000_000


def test_without_asking_there_is_no_stamp() -> None:
    with closing(udp_socket("127.0.0.1", 0)) as udp:
        udp.sendto(b"x", udp.getsockname())
        udp.setblocking(True)
        _, ancillary, _, _ = udp.recvmsg(16, ANCILLARY_BYTES)
    assert realtime_stamp_ns(ancillary) is None


def test_a_socket_never_blocks() -> None:
    with closing(udp_socket("127.0.0.1", 0)) as udp, pytest.raises(BlockingIOError):
        udp.recv(16)


def test_a_port_in_use_is_an_error_and_leaves_nothing_open() -> None:
    with closing(udp_socket("127.0.0.1", 0)) as udp, pytest.raises(OSError, match="in use"):
        udp_socket("127.0.0.1", udp.getsockname()[1])


def test_a_group_is_heard_and_no_other_that_the_machine_has_joined() -> None:
    with closing(multicast_socket(GROUPS[0], 0, "127.0.0.1")) as first:
        port = first.getsockname()[1]
        with (
            closing(multicast_socket(GROUPS[1], port, "127.0.0.1")) as second,
            closing(udp_socket("127.0.0.1", 0)) as sender,
        ):
            send_options(sender, "127.0.0.1", 1)
            sender.sendto(b"to the second", (GROUPS[1], port))
            sender.sendto(b"to the first", (GROUPS[0], port))
            second.setblocking(True)
            first.setblocking(True)
            assert second.recv(64) == b"to the second"
            assert first.recv(64) == b"to the first"


def test_two_loudspeakers_of_one_machine_may_hear_the_same_group() -> None:
    with closing(multicast_socket(GROUPS[0], 0, "127.0.0.1")) as one:
        port = one.getsockname()[1]
        with (
            closing(multicast_socket(GROUPS[0], port, "127.0.0.1")) as two,
            closing(udp_socket("127.0.0.1", 0)) as sender,
        ):
            send_options(sender, "127.0.0.1", 1)
            sender.sendto(b"to both", (GROUPS[0], port))
            for udp in (one, two):
                udp.setblocking(True)
                assert udp.recv(64) == b"to both"


@pytest.mark.parametrize("interface", ["", "eth0", "::1", "192.0.2.1"])
def test_an_interface_that_is_not_there_is_an_oserror(interface: str) -> None:
    with pytest.raises(OSError, match=r".+"):
        multicast_socket(GROUPS[0], 0, interface)


def test_with_a_source_nobody_else_is_heard_in_the_group() -> None:
    with closing(multicast_socket(GROUPS[0], 0, "127.0.0.1", "127.0.0.2")) as udp:
        port = udp.getsockname()[1]
        for source in ("127.0.0.1", "127.0.0.3", "127.0.0.2"):
            with closing(udp_socket(source, 0)) as sender:
                send_options(sender, "127.0.0.1", 1)
                sender.sendto(source.encode(), (GROUPS[0], port))
        udp.setblocking(True)
        assert udp.recv(64) == b"127.0.0.2"
        udp.setblocking(False)
        with pytest.raises(BlockingIOError):
            udp.recv(64)


def test_where_the_system_filters_no_sources_the_group_is_joined_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # To a kernel without source filters the option is any unknown number.
    monkeypatch.setattr("transport.net.stamped._IP_ADD_SOURCE_MEMBERSHIP", 250)
    with (
        closing(multicast_socket(GROUPS[0], 0, "127.0.0.1", "127.0.0.2")) as udp,
        closing(udp_socket("127.0.0.1", 0)) as sender,
    ):
        send_options(sender, "127.0.0.1", 1)
        sender.sendto(b"sound", (GROUPS[0], udp.getsockname()[1]))
        udp.settimeout(5)
        assert udp.recv(64) == b"sound"


def test_a_connected_socket_hears_its_peer_and_nobody_else() -> None:
    with (
        closing(udp_socket("127.0.0.1", 0)) as peer,
        closing(udp_socket("127.0.0.1", 0)) as stranger,
        closing(connected_socket(*peer.getsockname())) as udp,
    ):
        stranger.sendto(b"false", udp.getsockname())
        peer.sendto(b"true", udp.getsockname())
        udp.send(b"hello")
        peer.setblocking(True)
        assert peer.recv(64) == b"hello"
        assert udp.recv(64) == b"true"
        with pytest.raises(BlockingIOError):
            udp.recv(64)


def test_a_peer_without_a_route_is_an_oserror() -> None:
    with pytest.raises(OSError, match=r".+"):
        connected_socket("255.255.255.255", 9)


def test_sound_is_sent_as_expedited_forwarding() -> None:
    with closing(udp_socket("127.0.0.1", 0)) as udp:
        send_options(udp, "127.0.0.1", 5)
        assert udp.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 46 << 2
        assert udp.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 5


def test_the_way_to_loopback_leads_over_loopback() -> None:
    assert route_interface("127.0.0.1") == "127.0.0.1"


# ------------------------------------------------------------------ IPv6
@needs_ipv6
def test_a_socket_bound_to_everything_hears_both_families() -> None:
    with closing(udp_socket("::", 0)) as udp:
        enable_stamps(udp)
        port, heard = udp.getsockname()[1], {}
        for address in ("::1", "127.0.0.1"):
            with closing(connected_socket(address, port)) as peer:
                peer.send(address.encode())
                udp.setblocking(True)
                data, ancillary, _, source = udp.recvmsg(64, ANCILLARY_BYTES)
                heard[data.decode()] = source[0]
                assert realtime_stamp_ns(ancillary) is not None
                udp.sendto(b"answer", source)
                peer.setblocking(True)
                assert peer.recv(64) == b"answer"
    assert heard == {"::1": "::1", "127.0.0.1": "::ffff:127.0.0.1"}


@needs_ipv6
def test_a_socket_of_one_ipv6_address_hears_no_other() -> None:
    with closing(udp_socket("::1", 0)) as udp, closing(udp_socket("127.0.0.1", 0)) as ipv4:
        ipv4.sendto(b"x", ("127.0.0.1", udp.getsockname()[1]))
        with pytest.raises(BlockingIOError):
            udp.recv(16)


@needs_ipv6
def test_a_socket_of_both_families_sends_to_groups_of_ipv4() -> None:
    with (
        closing(multicast_socket(GROUPS[0], 0, "127.0.0.1")) as group,
        closing(udp_socket("::", 0)) as udp,
    ):
        send_options(udp, "127.0.0.1", 1)
        udp.sendto(b"sound", (spelt_for(udp, GROUPS[0]), group.getsockname()[1]))
        group.settimeout(5)
        assert group.recv(64) == b"sound"


@needs_ipv6
def test_sound_over_ipv6_is_expedited_forwarding_too() -> None:
    with closing(udp_socket("::", 0)) as udp:
        send_options(udp, "127.0.0.1", 1)
        assert udp.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) == 46 << 2
        assert udp.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 46 << 2


@needs_ipv6
def test_an_address_is_spelt_as_its_socket_has_it() -> None:
    with closing(udp_socket("::1", 0)) as both, closing(udp_socket("127.0.0.1", 0)) as ipv4:
        assert spelt_for(both, "192.0.2.1") == "::ffff:192.0.2.1"
        assert spelt_for(both, "2001:db8::1") == "2001:db8::1"
        assert spelt_for(both, "::ffff:192.0.2.1") == "::ffff:192.0.2.1"
        assert spelt_for(ipv4, "192.0.2.1") == "192.0.2.1"
