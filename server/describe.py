"""A programme's SDP, as the station serves and announces it. Pure.

It describes the twin in clear and nothing else: a stock player could not open what is sealed.
"""

import math

from server.programmes import Programme, clear_port
from transport.clock.timeline import rtp_timestamp_at_ntp_epoch
from transport.rtp.sdp import StreamDescription
from transport.session.sender import OPUS_PAYLOAD_TYPE


def describe(
    programme: Programme, interface: str, group_port: int, ttl: int, time_port: int
) -> str | None:
    """The SDP of a programme's twin in clear; None if it has none, or before it exists."""
    stream = programme.streams[0]
    numbers = programme.numbers(stream.stream)
    if numbers is None or numbers.clear_ssrc is None:
        return None
    return StreamDescription(
        session_name=f"Loa {programme.name} (unauthenticated)",
        session_id=numbers.clear_ssrc,
        session_version=programme.number,
        origin_address=interface,
        destination=programme.group,
        port=clear_port(group_port),
        ttl=ttl,
        payload_type=OPUS_PAYLOAD_TYPE,
        channels=1,
        # RFC 7587 section 6.1: a fraction of a millisecond is rounded up.
        frame_ms=math.ceil(stream.frame_ms),
        bitrate_bps=max(programme.request.bitrate, 6000),
        in_band_fec=programme.request.inband_fec,
        dtx=programme.request.dtx,
        ssrc=numbers.clear_ssrc,
        cname=f"loa-{programme.name}",
        timestamp_offset_at_ntp_epoch=rtp_timestamp_at_ntp_epoch(numbers.timestamp_offset),
        reference_clock=f"{interface}:{time_port}",
    ).serialise()
