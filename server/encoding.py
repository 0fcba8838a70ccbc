"""How a programme is encoded. What cannot sound is refused here, before anybody is told of it."""

from typing import Protocol

from codec.format import SAMPLE_RATE
from codec.opus import EncoderSettings
from transport.recovery.copies import DIGEST_BYTES
from transport.security.signature import EXTENSION_BYTES
from transport.security.srtp import MAX_PLAIN_BYTES

# Below ten milliseconds Opus has only its transform codec, whose look-ahead can be shorter.
_SHORT_FRAME_MS = 10
_LOOKAHEAD_SAMPLES = {"lowdelay": 120, "voip": 312}
_RTP_HEADER_BYTES = 12
# What can be signed and sealed, and then passes every network whole, copies of earlier frames
# included.
MAX_PAYLOAD_BYTES = MAX_PLAIN_BYTES - _RTP_HEADER_BYTES - EXTENSION_BYTES
# Before its frame a repair says what it repairs, and what stood for the copies, if there were any.
_REPAIR_HEAD_BYTES = 1
# So this is a limit on every frame, and on the bit rate of the longer ones.
_MAX_PACKET_BYTES = MAX_PAYLOAD_BYTES - _REPAIR_HEAD_BYTES


class Encoding(Protocol):
    """What a request and an order say alike of encoding, whatever the length of its frames."""

    @property
    def bitrate(self) -> int: ...  # noqa: D102 - the names say it
    @property
    def complexity(self) -> int: ...  # noqa: D102
    @property
    def dtx(self) -> bool: ...  # noqa: D102
    @property
    def inband_fec(self) -> bool: ...  # noqa: D102
    @property
    def expected_loss_percent(self) -> int: ...  # noqa: D102


def encoder_settings(wanted: Encoding, frame_ms: float) -> EncoderSettings:
    """The encoder for a programme in frames of one length.

    ValueError, in one line for a person, if there is none.
    """
    settings = EncoderSettings(
        bitrate=wanted.bitrate,
        frame_ms=frame_ms,
        complexity=wanted.complexity,
        application="lowdelay" if frame_ms < _SHORT_FRAME_MS else "voip",
        dtx=wanted.dtx,
        inband_fec=wanted.inband_fec,
        expected_loss_percent=wanted.expected_loss_percent,
        max_packet_bytes=_MAX_PACKET_BYTES,
    )
    most = int(_MAX_PACKET_BYTES * 8000 / settings.frame_ms)
    if settings.bitrate > most:
        raise ValueError(
            f"bitrate must be at most {most} in frames of {settings.frame_ms:g} ms, "
            f"not {settings.bitrate}: a larger packet would not pass the network whole"
        )
    return settings


def room_for_copies(frame_bytes: int) -> int:
    """How many bytes longer a payload may become by copies; none if its repair would not pass."""
    if frame_bytes + _REPAIR_HEAD_BYTES + DIGEST_BYTES > MAX_PAYLOAD_BYTES:
        return 0
    return MAX_PAYLOAD_BYTES - frame_bytes


def check_playout_delay(playout_delay_ms: float, settings: EncoderSettings) -> None:
    """ValueError for a delay after which the encoder has not even finished the frame."""
    lookahead_ms = _LOOKAHEAD_SAMPLES[settings.application] * 1000 / SAMPLE_RATE
    least = settings.frame_ms + lookahead_ms
    if not playout_delay_ms > least:
        raise ValueError(
            f"playout_delay_ms must be more than {least:g} with frames of "
            f"{settings.frame_ms:g} ms, not {playout_delay_ms:g}: all sound would be late"
        )
