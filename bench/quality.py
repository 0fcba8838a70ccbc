"""What Opus alone does to speech, and how good what is heard is by PESQ-WB and STOI.

PESQ-WB (ITU-T P.862.2) says how it would be liked; STOI (Taal and others, 2011, IEEE TASLP 19(7))
how much of it would be understood.
"""

import importlib

import av
import numpy as np

from codec.format import SAMPLE_RATE, Samples
from codec.opus import Decoder, Encoder, EncoderSettings
from codec.sources.blocks import reblock

_PESQ_RATE = 16_000
# What PESQ-WB gives to the worst there is; of silence it cannot judge.
_LEAST_PESQ_WB = 1.04


class NoPesqError(RuntimeError):
    """The `pesq` extra is not installed."""


class NoStoiError(RuntimeError):
    """The `stoi` extra is not installed."""


class NoSpeechError(ValueError):
    """There is nothing to judge in the reference."""


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
    """PESQ-WB (1.04 to 4.64) of two 48 kHz signals of speech; NoPesqError where not installed.

    Where nothing at all was heard it is the least. NoSpeechError where the reference has no speech
    in it, or is shorter than a quarter of a second.
    """
    try:
        judge = importlib.import_module("pesq")
    except ImportError:
        raise NoPesqError(
            "PESQ is not installed: pip install loa[pesq] (needs a compiler)"
        ) from None
    if not np.any(reference):
        raise NoSpeechError("the reference is silent")
    if not np.any(degraded):
        return _LEAST_PESQ_WB
    try:
        return float(judge.pesq(_PESQ_RATE, _at_16k(reference), _at_16k(degraded), "wb"))
    except (judge.NoUtterancesError, judge.BufferTooShortError):
        raise NoSpeechError("PESQ finds no speech in the reference") from None


def stoi(reference: Samples, degraded: Samples) -> float:
    """STOI (about 0 to 1) of two 48 kHz signals as long; NoStoiError where not installed."""
    try:
        judge = importlib.import_module("pystoi").stoi
    except ImportError:
        raise NoStoiError("STOI is not installed: pip install loa[stoi]") from None
    return float(judge(_at_16k(reference), _at_16k(degraded), _PESQ_RATE))


def _at_16k(sound: Samples) -> Samples:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=_PESQ_RATE)
    frame = av.AudioFrame.from_ndarray(sound[np.newaxis, :], format="flt", layout="mono")
    frame.sample_rate = SAMPLE_RATE
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([f.to_ndarray()[0] for f in frames])
