"""Opus, one frame at a time (RFC 6716; as RTP payload RFC 7587).

Encoder and Decoder hold state from frame to frame: one of each per stream, and neither may be
used from two threads at once.
"""

import ctypes
import weakref
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from codec.errors import CodecError, CorruptPacket
from codec.format import FRAME_MS, SAMPLE_RATE, Samples, samples_of_ms
from codec.libopus import OpusError, constants, ctl, decoder_api, encoder_api

Application = Literal["voip", "audio", "lowdelay"]

_APPLICATIONS: Final[dict[Application, int]] = {
    "voip": constants.APPLICATION_VOIP,
    "audio": constants.APPLICATION_AUDIO,
    "lowdelay": constants.APPLICATION_RESTRICTED_LOWDELAY,
}

# RFC 6716 section 3.2.5: no packet lasts longer than 120 ms.
MAX_PACKET_SAMPLES: Final = 5760
# Concealment is made in steps of 2.5 ms, the shortest frame.
_STEP_SAMPLES: Final = 120
# Three 20 ms frames of 1275 bytes and their framing (RFC 6716 section 3.2.5) are 3832 bytes.
_MAX_PACKET_BYTES: Final = 4000


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """What an encoder is asked for; raises ValueError rather than exist in a senseless form.

    `bitrate` is in bits per second, up to 512,000; the least that sounds depends on `frame_ms`,
    one of FRAME_MS: 9600, 4800, 2400, 1200, 2400, 2400. "lowdelay" is Opus's restricted
    low-delay mode: lookahead 120 samples instead of 312, CELT only (so no in-band FEC); frames
    under 10 ms are CELT only in every mode. Complexity 9 costs what 10 costs here (80 µs per
    10 ms of voice) and 5 costs 58 µs. Frames of 20 ms may be larger than the bit rate says, up to
    1276 bytes, unless `max_packet_bytes` is less.
    """

    bitrate: int = 24_000
    frame_ms: float = 10
    channels: int = 1
    complexity: int = 9
    application: Application = "voip"
    dtx: bool = False
    inband_fec: bool = False
    expected_loss_percent: int = 0
    vbr: bool = True
    max_packet_bytes: int = _MAX_PACKET_BYTES

    def __post_init__(self) -> None:
        """Refuse what libopus would refuse, and what it would silently turn into nothing."""
        _require_in("frame_ms", self.frame_ms, FRAME_MS)
        _require_in("channels", self.channels, (1, 2))
        _require_in("application", self.application, get_args(Application))
        _require_between("bitrate", self.bitrate, _least_bitrate(self.frame_ms), 512_000)
        _require_between("complexity", self.complexity, 0, 10)
        _require_between("expected_loss_percent", self.expected_loss_percent, 0, 100)
        _require_between("max_packet_bytes", self.max_packet_bytes, 3, _MAX_PACKET_BYTES)


class Encoder:
    """Sound in, Opus packets out, one frame each."""

    def __init__(self, settings: EncoderSettings) -> None:
        self.settings = settings
        self.frame_samples = samples_of_ms(settings.frame_ms)
        channels = settings.channels
        self._shape = (self.frame_samples,) if channels == 1 else (self.frame_samples, channels)
        try:
            application = _APPLICATIONS[settings.application]
            self._state = encoder_api.create_state(SAMPLE_RATE, channels, application)
            weakref.finalize(self, encoder_api.destroy, self._state)
            self._apply(settings)
        except OpusError as error:
            msg = f"libopus refused {settings}: {error}"
            raise CodecError(msg) from error

    def _apply(self, settings: EncoderSettings) -> None:
        # Through encoder_ctl: the boolean properties of the upstream package raise TypeError.
        for request, value in (
            (ctl.set_bitrate, settings.bitrate),
            (ctl.set_complexity, settings.complexity),
            (ctl.set_vbr, int(settings.vbr)),
            (ctl.set_dtx, int(settings.dtx)),
            (ctl.set_inband_fec, int(settings.inband_fec)),
            (ctl.set_packet_loss_perc, settings.expected_loss_percent),
        ):
            encoder_api.encoder_ctl(self._state, request, value)

    @property
    def lookahead(self) -> int:
        """Samples by which the decoded signal lags the input."""
        samples: int = encoder_api.encoder_ctl(self._state, ctl.get_lookahead)
        return samples

    def encode(self, pcm: Samples) -> bytes:
        """Code exactly one frame: float32, (frame_samples,) or (frame_samples, 2).

        Returns b"" when DTX is on and nothing need be sent: libopus says so with a packet of two
        bytes or less (RFC 7587 section 3.1.3). Raises ValueError for any other shape or type.
        """
        if pcm.shape != self._shape or pcm.dtype != np.float32:
            msg = f"expected float32 {self._shape}, got {pcm.dtype} {pcm.shape}"
            raise ValueError(msg)
        try:
            packet: bytes = encoder_api.encode_float(
                self._state, pcm.tobytes(), self.frame_samples, self.settings.max_packet_bytes
            )
        except OpusError as error:
            msg = f"libopus cannot encode: {error}"
            raise CodecError(msg) from error
        return b"" if self.settings.dtx and len(packet) <= 2 else packet


class Decoder:
    """Opus packets in, sound out, whatever `channels` the packets were coded with.

    The sound is bounded to [-1, 1], which libopus's float decoder is not.
    """

    def __init__(self, channels: int = 1) -> None:
        _require_in("channels", channels, (1, 2))
        self._channels = channels
        self._state = decoder_api.create_state(SAMPLE_RATE, channels)
        weakref.finalize(self, decoder_api.destroy, self._state)
        # opuslib_next's decode_float() makes a Python list of floats and, through ctypes.cast, a
        # reference cycle that holds the samples, in every call: 24 µs and, with the collector
        # frozen, 2.2 KB per 10 ms frame for ever. Its typed foreign function with a buffer of
        # our own costs 13 µs and leaves nothing behind.
        self._pcm = np.zeros(MAX_PACKET_SAMPLES * channels, np.float32)
        self._pointer = self._pcm.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    def decode(self, packet: bytes) -> Samples:
        """Give the sound of one packet, `packet_samples(packet)` long. Raises CorruptPacket."""
        return self._call(packet, packet_samples(packet), fec=False)

    def conceal(self, samples: int) -> Samples:
        """Invent `samples` of continuation where a packet is missing (RFC 6716 section 4.4).

        `samples` is a multiple of 120 up to 5760; ValueError otherwise.
        """
        _require_gap(samples)
        return self._call(None, samples, fec=False)

    def recover(self, next_packet: bytes, samples: int) -> Samples:
        """Restore the `samples` before `next_packet` from the in-band FEC it carries.

        Call it for the gap, then `decode(next_packet)`. Where the packet carries no FEC this is
        concealment. `samples` as for `conceal`. Raises CorruptPacket (RFC 6716 section 2.1.7).
        """
        _require_gap(samples)
        packet_samples(next_packet)
        return self._call(next_packet, samples, fec=True)

    def _call(self, packet: bytes | None, samples: int, *, fec: bool) -> Samples:
        size = 0 if packet is None else len(packet)
        got: int = decoder_api.libopus_decode_float(
            self._state, packet, size, self._pointer, samples, int(fec)
        )
        if got < 0:
            msg = f"libopus cannot decode {size} bytes: {OpusError(got)}"
            raise CorruptPacket(msg)
        # clip copies, so the caller's block survives the next call.
        pcm = np.clip(self._pcm[: got * self._channels], -1.0, 1.0)
        return pcm if self._channels == 1 else pcm.reshape(got, self._channels)


def packet_samples(packet: bytes) -> int:
    """How many samples `packet` lasts at 48 kHz, from its first bytes alone.

    Raises CorruptPacket for what cannot be a packet; `decode` may still refuse the rest.
    Source: RFC 6716 sections 3.1 and 3.2.5.
    """
    if not packet:
        msg = "an empty packet"
        raise CorruptPacket(msg)
    try:
        frames: int = decoder_api.packet_get_nb_frames(packet)
        each: int = decoder_api.packet_get_samples_per_frame(packet, SAMPLE_RATE)
    except OpusError as error:
        msg = f"not an Opus packet: {error}"
        raise CorruptPacket(msg) from error
    if not 0 < frames * each <= MAX_PACKET_SAMPLES:
        msg = f"a packet of {frames} x {each} samples; at most 120 ms are allowed"
        raise CorruptPacket(msg)
    return frames * each


def _least_bitrate(frame_ms: float) -> int:
    # Below three bytes a frame, and below 2400 b/s in frames over 20 ms, libopus codes no sound
    # at all, only empty frames, and reports no error: a silent broadcast that looks healthy.
    return 2_400 if frame_ms > 20 else round(3 * 8 * 1000 / frame_ms)


def _require_gap(samples: int) -> None:
    if samples % _STEP_SAMPLES or not 0 < samples <= MAX_PACKET_SAMPLES:
        msg = f"a gap is a multiple of {_STEP_SAMPLES} up to {MAX_PACKET_SAMPLES}, not {samples}"
        raise ValueError(msg)


def _require_in(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        msg = f"{name} must be one of {', '.join(map(str, allowed))}, not {value}"
        raise ValueError(msg)


def _require_between(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        msg = f"{name} must be from {low} to {high}, not {value}"
        raise ValueError(msg)
