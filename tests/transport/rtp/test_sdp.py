from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ports import port_of_its_own
from transport.errors import MalformedPacket
from transport.rtp.sdp import MAX_SDP_BYTES, StreamDescription, parse_address

if TYPE_CHECKING:
    from pathlib import Path

STREAM = StreamDescription(
    session_name="Đài truyền thanh xã Tân Lập",
    session_id=3_900_000_000,
    session_version=2,
    origin_address="192.0.2.10",
    destination="239.255.1.2",
    port=5004,
    payload_type=96,
    ssrc=0x12345678,
    cname="station@loa",
    timestamp_offset_at_ntp_epoch=2**32 - 480,
    ttl=4,
    channels=1,
    frame_ms=10,
    bitrate_bps=24_000,
    in_band_fec=True,
    reference_clock="192.0.2.10:4123",
    source="192.0.2.10",
)
LINES = [
    "v=0",
    "o=- 3900000000 2 IN IP4 192.0.2.10",
    "s=Đài truyền thanh xã Tân Lập",
    "c=IN IP4 239.255.1.2/4",
    "t=0 0",
    "a=tool:loa",
    "a=recvonly",
    "a=source-filter: incl IN IP4 239.255.1.2 192.0.2.10",
    "m=audio 5004 RTP/AVP 96",
    "a=rtpmap:96 opus/48000/2",
    "a=fmtp:96 sprop-stereo=0;stereo=0;useinbandfec=1;usedtx=0;maxaveragebitrate=24000",
    "a=ptime:10",
    "a=ssrc:305419896 cname:station@loa",
    "a=ts-refclk:ntp=192.0.2.10:4123",
    "a=mediaclk:direct=4294966816",
]
FOREIGN = """v=0
o=jdoe 1 1 IN IP6 2001:db8::1
s=-
i=Anything else
e=somebody@example.org
t=0 0
a=group:LS audio
c=IN IP4 198.51.100.1
a=mediaclk:direct=7
m=video 6000 RTP/AVP 31
c=IN IP4 198.51.100.9
a=ptime:99
m=audio 6002 RTP/AVP 111 0
c=IN IP6 ff15::1
b=AS:64
a=rtpmap:0 PCMU/8000
a=rtpmap:111 OPUS/48000/2
a=fmtp:0 sprop-stereo=0
a=fmtp:111 stereo=0; sprop-stereo=1 ;UseDTX=1; x
a=ssrc:5 msid:x
a=ssrc:5 cname:a b
a=ts-refclk:ptp=IEEE1588-2008:39-A7-94-FF-FE-07-CB-D0
a=ts-refclk:ntp=[2001:db8::7]
a=mediaclk:direct=8
m=audio 7000 RTP/AVP 0
a=rtpmap:111 L16/8000
"""


def text_of(lines: list[str]) -> str:
    return "".join(f"{line}\r\n" for line in lines)


def with_line(start: str, *instead: str) -> str:
    """The description with the one line that begins so replaced."""
    at = next(index for index, line in enumerate(LINES) if line.startswith(start))
    return text_of([*LINES[:at], *instead, *LINES[at + 1 :]])


IPV4 = st.ip_addresses(v=4).map(str)
IPV6 = st.ip_addresses(v=6).map(str)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda text: not set(text) & set("\0\r\n")
)
U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)


@st.composite
def descriptions(draw: st.DrawFn) -> StreamDescription:
    addresses = draw(st.sampled_from([IPV4, IPV6, st.just("239.255.0.7"), st.just("ff15::7")]))
    destination = draw(addresses)
    address = ip_address(destination)
    has_ttl = address.version == 4 and address.is_multicast
    return StreamDescription(
        session_name=draw(NAMES),
        session_id=draw(U64),
        session_version=draw(U64),
        origin_address=draw(IPV4 | IPV6),
        destination=destination,
        port=draw(st.integers(1, 65535)),
        payload_type=draw(st.integers(96, 127)),
        ssrc=draw(U32),
        cname=draw(NAMES),
        timestamp_offset_at_ntp_epoch=draw(U32),
        ttl=draw(st.integers(0, 255)) if has_ttl else None,
        channels=draw(st.integers(1, 2)),
        frame_ms=draw(st.integers(1, 120)),
        bitrate_bps=draw(st.none() | st.integers(6000, 510_000)),
        in_band_fec=draw(st.booleans()),
        dtx=draw(st.booleans()),
        reference_clock=draw(
            st.sampled_from([None, "ntp.example.org:123", "192.0.2.1:4123", "[2001:db8::1]:5"])
        ),
        source=draw(st.none() | (IPV4 if address.version == 4 else IPV6)),
    )


def test_serialises_to_the_lines_written_by_hand() -> None:
    assert STREAM.serialise() == text_of(LINES)


def test_parses_the_lines_written_by_hand() -> None:
    assert StreamDescription.parse(text_of(LINES)) == STREAM


@given(descriptions())
def test_round_trips(stream: StreamDescription) -> None:
    assert StreamDescription.parse(stream.serialise()) == stream


@given(descriptions())
def test_the_longest_description_is_within_the_limit(stream: StreamDescription) -> None:
    longest = replace(stream, session_name="a" * 255, cname="b" * 255)
    assert len(longest.serialise().encode()) < MAX_SDP_BYTES


@given(st.text(max_size=200))
def test_arbitrary_text_is_malformed(text: str) -> None:
    with pytest.raises(MalformedPacket):
        StreamDescription.parse(text)


@given(st.data())
def test_a_damaged_description_is_read_or_malformed(data: st.DataObject) -> None:
    text = STREAM.serialise()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 8)))
    damaged = text[:start] + data.draw(st.text(max_size=8)) + text[end:]
    try:
        stream = StreamDescription.parse(damaged)
    except MalformedPacket:
        return
    assert StreamDescription.parse(stream.serialise()) == stream


@given(st.permutations(LINES))
def test_lines_in_any_order_are_read_or_malformed(lines: list[str]) -> None:
    try:
        stream = StreamDescription.parse(text_of(lines))
    except MalformedPacket:
        return
    assert StreamDescription.parse(stream.serialise()) == stream


def test_bare_line_feeds_are_accepted() -> None:
    assert StreamDescription.parse(text_of(LINES).replace("\r\n", "\n")) == STREAM


def test_a_foreign_description_is_read_for_what_we_know() -> None:
    assert StreamDescription.parse(FOREIGN) == StreamDescription(
        session_name="-",
        session_id=1,
        session_version=1,
        origin_address="2001:db8::1",
        destination="ff15::1",
        port=6002,
        payload_type=111,
        ssrc=5,
        cname="a b",
        timestamp_offset_at_ntp_epoch=8,
        channels=2,
        dtx=True,
        reference_clock="[2001:db8::7]:123",
    )


@pytest.mark.parametrize("channels", [1, 2])
def test_the_rtpmap_always_says_two_channels(channels: int) -> None:
    assert "a=rtpmap:96 opus/48000/2\r\n" in replace(STREAM, channels=channels).serialise()


def test_stereo_is_told_by_the_format_parameters() -> None:
    stereo = replace(STREAM, channels=2)
    assert "sprop-stereo=1;stereo=1;" in stereo.serialise()


@pytest.mark.parametrize(
    ("destination", "line"),
    [("192.0.2.1", "c=IN IP4 192.0.2.1"), ("ff15::1", "c=IN IP6 ff15::1")],
)
def test_only_ipv4_multicast_carries_a_ttl(destination: str, line: str) -> None:
    stream = replace(STREAM, destination=destination, ttl=None, source=None)
    assert f"{line}\r\n" in stream.serialise()


def test_a_stereo_stream_without_format_parameters_is_mono() -> None:
    assert StreamDescription.parse(with_line("a=fmtp")).channels == 1


def test_frames_last_twenty_milliseconds_unless_told() -> None:
    assert StreamDescription.parse(with_line("a=ptime")).frame_ms == 20


def test_the_address_of_the_stream_overrides_that_of_the_session() -> None:
    text = with_line("a=source-filter") + "c=IN IP4 239.255.9.9/1\r\n"
    assert StreamDescription.parse(text).destination == "239.255.9.9"


@pytest.mark.parametrize("clock", ["ntp=/traceable/", "local", "ntp=host:port:x", "gps"])
def test_a_clock_we_cannot_ask_is_no_reference(clock: str) -> None:
    text = with_line("a=ts-refclk", f"a=ts-refclk:{clock}")
    assert StreamDescription.parse(text).reference_clock is None


def test_a_filter_for_any_group_holds_for_ours() -> None:
    text = with_line("a=source-filter", "a=source-filter:incl IN IP4 * 192.0.2.77")
    assert StreamDescription.parse(text).source == "192.0.2.77"


@pytest.mark.parametrize(
    "start", ["v=", "o=", "s=", "c=", "m=", "a=rtpmap", "a=ssrc", "a=mediaclk"]
)
def test_what_we_need_must_be_there(start: str) -> None:
    with pytest.raises(MalformedPacket):
        StreamDescription.parse(with_line(start))


@pytest.mark.parametrize(
    ("start", "instead"),
    [
        ("v=", "v=1"),
        ("o=", "o=- 1 IN IP4 192.0.2.10"),
        ("o=", "o=- 1 1 IN IP4 station.example.org"),
        ("o=", "o=- 1 1 IN IP6 192.0.2.10"),
        ("o=", "o=- -1 1 IN IP4 192.0.2.10"),
        ("o=", "o=- \N{FULLWIDTH DIGIT ONE} 1 IN IP4 192.0.2.10"),
        ("s=", "s="),
        ("c=", "c=IN IP4 239.255.1.2"),
        ("c=", "c=IN IP4 239.255.1.2/256"),
        ("c=", "c=IN IP4 239.255.1.2/4/2"),
        ("c=", "c=IN IP4 192.0.2.1/4"),
        ("c=", "c=IN IP6 fe80::1%eth0"),
        ("m=", "m=audio 0 RTP/AVP 96"),
        ("m=", "m=audio 65536 RTP/AVP 96"),
        ("m=", "m=audio 5004/2 RTP/AVP 96"),
        ("m=", "m=audio 5004 RTP/SAVP 96"),
        ("m=", "m=audio 5004 RTP/AVP 0"),
        ("m=", "m=audio 5004 RTP/AVP"),
        ("a=rtpmap", "a=rtpmap:96 opus/48000/1"),
        ("a=rtpmap", "a=rtpmap:97 opus/48000/2"),
        ("a=rtpmap", "a=rtpmap:96 L16/48000/2"),
        ("a=fmtp", "a=fmtp:96 maxaveragebitrate=5999"),
        ("a=fmtp", "a=fmtp:96 maxaveragebitrate=510001"),
        ("a=fmtp", "a=fmtp:96 maxaveragebitrate=1e4"),
        ("a=ptime", "a=ptime:0"),
        ("a=ptime", "a=ptime:121"),
        ("a=ssrc", "a=ssrc:4294967296 cname:x"),
        ("a=ssrc", "a=ssrc:1 cname:"),
        ("a=mediaclk", "a=mediaclk:sender"),
        ("a=mediaclk", "a=mediaclk:direct=7 rate=1000/1001"),
        ("a=mediaclk", "a=mediaclk:direct=4294967296"),
        ("a=mediaclk", f"a=mediaclk:direct={'9' * 5000}"),
        ("a=source-filter", "a=source-filter: excl IN IP4 239.255.1.2 192.0.2.10"),
        ("a=source-filter", "a=source-filter: incl IN IP4 239.255.1.3 192.0.2.10"),
        ("a=source-filter", "a=source-filter: incl IN IP4 239.255.1.2 192.0.2.10 192.0.2.11"),
        ("a=source-filter", "a=source-filter: incl IN IP6 239.255.1.2 2001:db8::1"),
    ],
)
def test_what_we_need_must_be_right(start: str, instead: str) -> None:
    with pytest.raises(MalformedPacket):
        StreamDescription.parse(with_line(start, instead))


def test_a_description_over_the_size_limit_is_refused() -> None:
    padding = "a=x\r\n" * (MAX_SDP_BYTES // 5)
    with pytest.raises(MalformedPacket, match="sdp_size"):
        StreamDescription.parse(text_of(LINES) + padding)


@pytest.mark.parametrize(
    "changes",
    [
        {"session_name": ""},
        {"session_name": "two\r\na=lines"},
        {"session_name": "a" * 256},
        {"cname": "two\nlines"},
        {"session_id": -1},
        {"session_version": 2**64},
        {"origin_address": "localhost"},
        {"destination": "239.255.1.2", "ttl": None},
        {"destination": "192.0.2.1", "ttl": 1},
        {"destination": "ff15::1", "ttl": 1},
        {"destination": "FF15::1", "ttl": None, "source": None},
        {"ttl": 256},
        {"port": 0},
        {"payload_type": 95},
        {"payload_type": 128},
        {"ssrc": 2**32},
        {"timestamp_offset_at_ntp_epoch": -1},
        {"channels": 3},
        {"frame_ms": 0},
        {"bitrate_bps": 1},
        {"reference_clock": "192.0.2.1"},
        {"reference_clock": "a b:123"},
        {"source": "2001:db8::1"},
    ],
)
def test_a_description_cannot_be_built_wrong(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        replace(STREAM, **changes)


@pytest.mark.parametrize("text", ["192.0.2.1", "239.255.255.255", "2001:db8::1", "ff15::1"])
def test_a_canonical_address_is_accepted(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize("text", ["", "host", "192.0.2.01", "2001:DB8::1", "fe80::1%eth0"])
def test_any_other_form_of_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_address(text)


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
def test_ffprobe_finds_one_opus_stream_in_it(tmp_path: Path) -> None:
    # A unicast session to ourselves; without the time-out ffprobe waits ten seconds for packets.
    stream = replace(STREAM, destination="127.0.0.1", ttl=None, source=None, port=port_of_its_own())
    path = tmp_path / "stream.sdp"
    path.write_bytes(stream.serialise().encode())
    shown = subprocess.run(
        [
            "ffprobe",
            *("-v", "error", "-protocol_whitelist", "file,udp,rtp", "-listen_timeout", "0.1"),
            *("-analyzeduration", "0", "-show_entries", "stream=codec_name,sample_rate,channels"),
            *("-of", "csv=p=0", str(path)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert shown.stdout.split() == ["opus,48000,2"], shown.stderr
