"""What is refused before a programme begins, and that libopus agrees with our numbers."""

from dataclasses import replace

import pytest

from codec.format import FRAME_MS, SAMPLE_RATE
from codec.opus import Encoder
from server.encoding import (
    MAX_PAYLOAD_BYTES,
    check_playout_delay,
    encoder_settings,
    room_for_copies,
)
from server.processes.bus import ProgrammeOrder

ORDER = ProgrammeOrder("live-1", (), "t", 24_000, 9, False, False, 0)


@pytest.mark.parametrize("frame_ms", FRAME_MS)
def test_the_least_delay_is_a_frame_and_the_encoder_s_own_look_ahead(frame_ms: float) -> None:
    settings = encoder_settings(ORDER, frame_ms)
    least_ms = frame_ms + Encoder(settings).lookahead * 1000 / SAMPLE_RATE
    check_playout_delay(least_ms + 0.1, settings)
    with pytest.raises(ValueError, match="all sound would be late"):
        check_playout_delay(least_ms, settings)


def test_a_delay_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="playout_delay_ms"):
        check_playout_delay(float("nan"), encoder_settings(ORDER, 10.0))


@pytest.mark.parametrize("frame_ms", [7.0, 0.0, -10.0, float("nan"), float("inf")])
def test_a_frame_length_that_opus_does_not_know_is_refused(frame_ms: float) -> None:
    with pytest.raises(ValueError, match="frame_ms must be one of"):
        encoder_settings(ORDER, frame_ms)


def test_a_bitrate_at_which_short_frames_carry_no_sound_is_refused() -> None:
    with pytest.raises(ValueError, match="bitrate must be from 9600"):
        encoder_settings(replace(ORDER, bitrate=6000), 2.5)


@pytest.mark.parametrize("frame_ms", [20.0, 40.0, 60.0])
def test_a_bitrate_whose_packets_would_not_fit_a_datagram_is_refused(frame_ms: float) -> None:
    with pytest.raises(ValueError, match="would not pass the network whole"):
        encoder_settings(replace(ORDER, bitrate=510_000), frame_ms)


@pytest.mark.parametrize(("frame_ms", "application"), [(5.0, "lowdelay"), (10.0, "voip")])
def test_short_frames_use_the_codec_with_the_short_look_ahead(
    frame_ms: float, application: str
) -> None:
    assert encoder_settings(ORDER, frame_ms).application == application


@pytest.mark.parametrize("frame_bytes", [1, 60, 600, 1271])
def test_copies_fill_a_packet_and_no_more(frame_bytes: int) -> None:
    room = room_for_copies(frame_bytes)
    assert room in {0, MAX_PAYLOAD_BYTES - frame_bytes}
    assert room or frame_bytes > MAX_PAYLOAD_BYTES - 20
