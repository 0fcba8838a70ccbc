"""A packet that is sent again: what it was comes back, and what is signed of it."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import MalformedPacket
from transport.recovery.along import signed_part
from transport.recovery.copies import Copy, pack
from transport.recovery.repair import REPAIR_PAYLOAD_TYPE, repair_of, restore
from transport.rtp.packet import Extension, RtpPacket, is_rtcp, repair_ssrc

PLAIN = RtpPacket(96, 4_711, 12_345, 0x0A0B0C0C, b"now", extension=Extension(0x1000, bytes(68)))
COPIED = replace(PLAIN, payload_type=97, payload=pack(b"now", [Copy(960, b"before")]))

PACKETS = st.builds(
    RtpPacket,
    st.just(96),
    st.integers(0, 65_535),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**31 - 1).map(lambda half: 2 * half),
    st.binary(min_size=1, max_size=100),
    marker=st.booleans(),
)
COPIES = st.lists(
    st.builds(Copy, st.integers(1, (1 << 24) - 1), st.binary(min_size=1, max_size=100)),
    max_size=8,
    unique_by=lambda copy: copy.offset,
)


@given(PACKETS, COPIES)
def test_a_repair_is_the_packet_again_without_its_copies(
    packet: RtpPacket, copies: list[Copy]
) -> None:
    primary, signed = packet.payload, packet.payload
    if copies:
        packet = replace(packet, payload_type=97, payload=pack(primary, copies))
        signed = signed_part(97, packet.payload)
    repair = RtpPacket.parse(repair_of(packet).serialise())
    assert restore(repair) == (replace(packet, payload=primary), signed)


def test_these_are_the_bytes() -> None:
    first, marked, copied = (
        repair_of(packet) for packet in (PLAIN, replace(PLAIN, marker=True), COPIED)
    )
    assert (first.payload_type, first.ssrc, first.marker) == (98, 0x0A0B0C0D, False)
    assert (first.sequence, first.timestamp, first.extension) == (4_711, 12_345, PLAIN.extension)
    assert first.payload == b"\x60now"
    assert marked.payload == b"\xe0now"
    assert copied.payload == b"\x61" + signed_part(97, COPIED.payload)[3:] + b"now"
    assert not any(is_rtcp(repair.serialise()) for repair in (first, marked, copied))


def test_the_ssrc_of_the_repairs_is_the_packets_and_one_bit() -> None:
    for ssrc in (0, 2, 0x0A0B0C0C, 2**32 - 2):
        assert repair_ssrc(ssrc) == ssrc + 1
        assert repair_ssrc(repair_ssrc(ssrc)) == ssrc


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"payload_type": 96}, "payload_type"),
        ({"payload_type": 97}, "payload_type"),
        ({"payload": b""}, "repair"),
        ({"payload": b"\x60"}, "repair"),
        ({"payload": b"\x61" + bytes(16)}, "repair"),
        ({"payload": b"\x62now"}, "repair"),
        ({"payload": b"\xe2now"}, "repair"),
        ({"marker": True}, "repair"),
    ],
)
def test_what_is_not_of_the_form_is_malformed(changed: dict[str, int], reason: str) -> None:
    wrong = replace(repair_of(PLAIN), **changed)  # type: ignore[arg-type]  # fields of many types
    with pytest.raises(MalformedPacket) as error:
        restore(wrong)
    assert error.value.reason == reason


@given(st.binary(max_size=40), st.booleans())
def test_any_payload_is_a_repair_of_one_packet_or_malformed(payload: bytes, marker: bool) -> None:
    wrong = RtpPacket(REPAIR_PAYLOAD_TYPE, 0, 0, 1, payload, marker=marker)
    with suppress(MalformedPacket):
        packet, signed = restore(wrong)
        assert signed.startswith(packet.payload)
        kind = packet.payload_type | packet.marker << 7
        assert bytes((kind,)) + signed[len(packet.payload) :] + packet.payload == payload
