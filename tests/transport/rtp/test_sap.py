from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import MalformedPacket
from transport.rtp.sap import (
    SAP_PORT,
    SDP_TYPE,
    SapPacket,
    announcement_interval_s,
    sap_group,
)

SDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=xã\r\n"
PACKET = SapPacket("192.0.2.10", 0xBEEF, deletion=False, payload_type=SDP_TYPE, payload=SDP)
# Version 1, IPv4, announcement, no authentication.
WIRE = bytes.fromhex("2000beef c000020a") + b"application/sdp\0" + SDP.encode()
HEADER = WIRE[:8]

TYPES = st.text(st.characters(min_codepoint=1, max_codepoint=127), min_size=1, max_size=30).filter(
    lambda text: not text.startswith("v=0")
)
PACKETS = st.builds(
    SapPacket,
    origin=st.ip_addresses().map(str).filter(lambda text: "%" not in text),
    message_id_hash=st.integers(0, 65535),
    deletion=st.booleans(),
    payload_type=TYPES,
    payload=st.text(st.characters(exclude_categories=["Cs"]), max_size=100),
)


def test_the_port_is_the_registered_one() -> None:
    assert SAP_PORT == 9875


def test_parses_an_announcement_written_by_hand() -> None:
    assert SapPacket.parse(WIRE) == PACKET


def test_serialises_to_the_announcement_written_by_hand() -> None:
    assert PACKET.serialise() == WIRE


def test_a_deletion_sets_its_bit() -> None:
    deletion = SapPacket("192.0.2.10", 0xBEEF, deletion=True, payload_type=SDP_TYPE, payload=SDP)
    assert deletion.serialise() == b"\x24" + WIRE[1:]


def test_an_ipv6_origin_sets_its_bit_and_takes_sixteen_bytes() -> None:
    origin = bytes.fromhex("20010db8000000000000000000000001")
    wire = b"\x30\0\xbe\xef" + origin + WIRE[8:]
    assert SapPacket.parse(wire) == SapPacket("2001:db8::1", 0xBEEF, False, SDP_TYPE, SDP)


@given(PACKETS)
def test_round_trips(packet: SapPacket) -> None:
    assert SapPacket.parse(packet.serialise()) == packet


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_a_packet_or_malformed(data: bytes) -> None:
    try:
        packet = SapPacket.parse(data)
    except MalformedPacket:
        return
    assert SapPacket.parse(packet.serialise()) == packet


@given(
    flags=st.sampled_from([0x20, 0x24, 0x30, 0x34]),
    words=st.integers(0, 3),
    rest=st.binary(min_size=6, max_size=80),
)
def test_arbitrary_bytes_after_a_valid_start_are_a_packet_or_malformed(
    flags: int, words: int, rest: bytes
) -> None:
    try:
        packet = SapPacket.parse(bytes((flags, words)) + rest)
    except MalformedPacket:
        return
    assert SapPacket.parse(packet.serialise()) == packet


def test_an_old_announcement_without_payload_type_is_sdp() -> None:
    assert SapPacket.parse(HEADER + SDP.encode()) == PACKET


def test_authentication_data_is_skipped() -> None:
    wire = b"\x20\x02" + WIRE[2:8] + b"\0" * 8 + WIRE[8:]
    assert SapPacket.parse(wire) == PACKET


def test_the_reserved_bit_is_ignored() -> None:
    assert SapPacket.parse(b"\x28" + WIRE[1:]) == PACKET


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"", "sap_truncated"),
        (WIRE[:3], "sap_truncated"),
        (WIRE[:7], "sap_truncated"),
        (b"\x30" + WIRE[1:12], "sap_truncated"),
        (b"\x20\xff" + WIRE[2:], "sap_truncated"),
        (b"\x00" + WIRE[1:], "sap_version"),
        (b"\x40" + WIRE[1:], "sap_version"),
        (b"\x22" + WIRE[1:], "sap_encrypted"),
        (b"\x21" + WIRE[1:], "sap_compressed"),
        (HEADER, "sap_payload_type"),
        (HEADER + b"application/sdp", "sap_payload_type"),
        (HEADER + b"\0" + SDP.encode(), "sap_payload_type"),
        (HEADER + "ứng dụng\0".encode(), "sap_payload_type"),
        (HEADER + b"application/sdp\0\xff", "sap_payload"),
    ],
)
def test_each_lie_has_its_reason(wire: bytes, reason: str) -> None:
    with pytest.raises(MalformedPacket) as caught:
        SapPacket.parse(wire)
    assert caught.value.reason == reason


@pytest.mark.parametrize("origin", ["", "station", "2001:DB8::1", "fe80::1%eth0"])
def test_an_origin_that_is_no_plain_address_is_our_mistake(origin: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        SapPacket(origin, 1, deletion=False, payload_type=SDP_TYPE, payload=SDP)


@pytest.mark.parametrize("kind", ["", "v=0", "a\0b", "ứng dụng"])
def test_a_payload_type_that_could_not_be_read_back_is_our_mistake(kind: str) -> None:
    with pytest.raises(ValueError, match="payload type"):
        SapPacket("192.0.2.1", 1, deletion=False, payload_type=kind, payload=SDP)


@pytest.mark.parametrize("number", [-1, 65536])
def test_a_hash_that_does_not_fit_is_our_mistake(number: int) -> None:
    with pytest.raises(ValueError, match="hash"):
        SapPacket("192.0.2.1", number, deletion=False, payload_type=SDP_TYPE, payload=SDP)


@pytest.mark.parametrize(
    ("destination", "group"),
    [
        ("224.2.128.1", "224.2.127.254"),
        ("232.1.2.3", "224.2.127.254"),
        ("239.1.2.3", "224.2.127.254"),
        ("239.191.255.255", "224.2.127.254"),
        ("239.192.0.0", "239.195.255.255"),
        ("239.195.255.254", "239.195.255.255"),
        ("239.196.0.0", "224.2.127.254"),
        ("239.254.255.255", "224.2.127.254"),
        ("239.255.0.0", "239.255.255.255"),
        ("239.255.255.254", "239.255.255.255"),
        ("ff02::1234", "ff02::2:7ffe"),
        ("ff15::1234", "ff05::2:7ffe"),
        ("ff0e::1", "ff0e::2:7ffe"),
    ],
)
def test_a_session_is_announced_in_its_own_scope(destination: str, group: str) -> None:
    assert sap_group(destination) == group


@pytest.mark.parametrize("destination", ["192.0.2.1", "240.0.0.1", "2001:db8::1"])
def test_a_unicast_session_is_not_announced(destination: str) -> None:
    with pytest.raises(ValueError, match="multicast"):
        sap_group(destination)


@pytest.mark.parametrize(("uniform", "seconds"), [(0.0, 200.0), (0.5, 300.0), (0.75, 350.0)])
def test_few_announcements_are_five_minutes_apart(uniform: float, seconds: float) -> None:
    assert announcement_interval_s(1, 400, uniform) == pytest.approx(seconds)


def test_many_announcements_share_four_kilobits_a_second() -> None:
    assert announcement_interval_s(1000, 500, 0.5) == pytest.approx(1000.0)


def test_the_bandwidth_limit_can_be_set() -> None:
    assert announcement_interval_s(1000, 500, 0.5, limit_bps=8000) == pytest.approx(500.0)


@pytest.mark.parametrize(
    ("ads", "size", "uniform", "limit"),
    [(0, 1, 0.0, 1), (1, 0, 0.0, 1), (1, 1, 1.0, 1), (1, 1, -0.1, 1), (1, 1, 0.0, 0)],
)
def test_an_impossible_announcement_is_our_mistake(
    ads: int, size: int, uniform: float, limit: int
) -> None:
    with pytest.raises(ValueError, match="want"):
        announcement_interval_s(ads, size, uniform, limit)
