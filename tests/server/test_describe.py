"""A programme's SDP says what its packets are."""

from dataclasses import replace

import pytest

from server.describe import describe
from server.processes.bus import ProgrammeReport, StreamOrder
from server.programmes import LiveRequest, Plan, Programme
from tests.support.stations import stream_report
from transport.clock.timeline import rtp_timestamp_at_ntp_epoch
from transport.rtp.sdp import StreamDescription

FIRST = stream_report(StreamOrder(56, 10.0, 0, clear=63), 0xFFFF_FFFF, 12_345)
SECOND = stream_report(StreamOrder(57, 20.0, 1), 1, 2)
REPORT = ProgrammeReport("live-7", "live", -20.0, 1.0, (SECOND, FIRST))


def programme(frames_ms: tuple[float, ...] = (10.0,), **wanted: float) -> Programme:
    request = LiveRequest(zones=("z",), playout_delay_ms=100.0)
    return Programme(
        name="live-7",
        number=7,
        ticket="secret",
        request=replace(request, **wanted),  # type: ignore[arg-type]
        plan=Plan(frames_ms, 100.0, 100.0),
        group="239.192.76.9",
        since_ns=0,
        clear=True,
        report=REPORT,
    )


def described(of: Programme) -> str:
    text = describe(of, "192.0.2.10", 5004, 3, 7460)
    assert text is not None
    return text


def test_there_is_none_before_the_stream_has_its_numbers() -> None:
    waiting = programme()
    waiting.report = None
    assert describe(waiting, "192.0.2.10", 5004, 3, 7460) is None


def test_there_is_none_of_what_is_sealed_alone() -> None:
    sealed = programme()
    numbers = replace(FIRST, clear_ssrc=None)
    sealed.report = replace(REPORT, streams=(numbers, SECOND))
    assert describe(sealed, "192.0.2.10", 5004, 3, 7460) is None


def test_no_key_is_in_it() -> None:
    text = described(programme())
    for epoch in FIRST.epochs:
        assert epoch.key.hex() not in text
        assert str(epoch.ssrc) not in text


def test_it_says_where_the_stream_goes_and_whose_time_it_keeps() -> None:
    sdp = StreamDescription.parse(described(programme(bitrate=32_000, inband_fec=True, dtx=True)))
    assert (sdp.destination, sdp.port, sdp.ttl) == ("239.192.76.9", 5006, 3)
    assert sdp.session_name == "Loa live-7 (unauthenticated)"
    assert (sdp.ssrc, sdp.session_id) == (FIRST.clear_ssrc, FIRST.clear_ssrc)
    assert sdp.session_version == 7
    assert (sdp.bitrate_bps, sdp.in_band_fec, sdp.dtx, sdp.channels) == (32_000, True, True, 1)
    assert (sdp.origin_address, sdp.reference_clock) == ("192.0.2.10", "192.0.2.10:7460")
    assert sdp.timestamp_offset_at_ntp_epoch == rtp_timestamp_at_ntp_epoch(12_345)


@pytest.mark.parametrize(("frame_ms", "ptime"), [(2.5, 3), (10.0, 10), (60.0, 60)])
def test_a_fraction_of_a_millisecond_is_rounded_up(frame_ms: float, ptime: int) -> None:
    assert f"a=ptime:{ptime}\r\n" in described(programme((frame_ms,)))


def test_the_ticket_stays_out_of_it() -> None:
    assert "secret" not in described(programme())
