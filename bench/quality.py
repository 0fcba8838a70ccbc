"""What Opus alone does to speech, and how good the result is by PESQ-WB (ITU-T P.862.2)."""

import importlib

import av
import numpy as np

from codec.format import SAMPLE_RATE, Samples
from codec.opus import Decoder, Encoder, EncoderSettings
from codec.sources.blocks import reblock

_PESQ_RATE = 16_000


class NoPesqError(RuntimeError):
    """The `pesq` extra is not installed."""


def through_opus(sound: Samples, settings: EncoderSettings) -> Samples:
    """Encoded and decoded without a network, aligned with the input and as long."""
    encoder, decoder = Encoder(settings), Decoder()
    padded = np.concatenate(
        (sound, np.zeros(encoder.lookahead + encoder.frame_samples, np.float32))
    )
    frames = [
        f for f in reblock([padded], encoder.frame_samples) if len(f) == encoder.frame_samples
    ]
    decoded = np.concatenate([decoder.decode(encoder.encode(frame)) for frame in frames])
    return decoded[encoder.lookahead :][: len(sound)]


def pesq_wb(reference: Samples, degraded: Samples) -> float:
    """PESQ-WB of two 48 kHz signals; NoPesqError where it is not installed."""
    try:
        pesq = importlib.import_module("pesq").pesq
    except ImportError:
        raise NoPesqError(
            "PESQ is not installed: pip install loa[pesq] (needs a compiler)"
        ) from None
    return float(pesq(_PESQ_RATE, _at_16k(reference), _at_16k(degraded), "wb"))


def _at_16k(sound: Samples) -> Samples:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=_PESQ_RATE)
    frame = av.AudioFrame.from_ndarray(sound[np.newaxis, :], format="flt", layout="mono")
    frame.sample_rate = SAMPLE_RATE
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([f.to_ndarray()[0] for f in frames])
