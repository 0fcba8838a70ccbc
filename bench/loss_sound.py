"""What is said in the bench of loss, frame by frame, and how good what is heard of it is.

Speech is repeated for as long as a run lasts. Clips of it are judged, of at most 12 s each (the
length PESQ was made for) and spread evenly over the run, so that its weather is met fairly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.quality import NoPesqError, NoSpeechError, NoStoiError, pesq_wb, stoi
from bench.stipa import stipa_signal
from codec.errors import SourceError
from codec.format import SAMPLE_RATE, Samples, samples_of_ms
from codec.opus import Decoder, Encoder, EncoderSettings
from codec.sources.file import FileSource

# For each frame of a run, whether something became of it.
Fates = NDArray[np.bool_]
VOICE = Path(__file__).with_name("audio") / "voice.wav"
# Instead of a file's name: the test signal of IEC 60268-16, which is judged by `bench.stipa`.
STIPA = Path("STIPA")
LONGEST_CLIP_S = 12
_SHORTEST_CLIP_S = 4
_STIPA_SECONDS = 20.0
_PAUSE = np.zeros(samples_of_ms(300), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """Sound as it was said and as it was coded; `period` samples until it repeats itself.

    Frame i begins `i * frame - lookahead` samples after the sound does, as a decoder gives it out.
    """

    sound: Samples
    period: int
    frame: int
    lookahead: int
    payloads: tuple[bytes, ...]

    def start(self, index: int) -> int:
        """Where frame `index` begins in the sound."""
        return index * self.frame - self.lookahead

    def clips(self, seconds: float) -> list[range]:
        """Stretches of the sound to judge, `seconds` of them at most but at least one."""
        pieces = -(-self.period // (LONGEST_CLIP_S * SAMPLE_RATE))
        repeats = -(-_SHORTEST_CLIP_S * SAMPLE_RATE // self.period)
        length = min(self.period * repeats // pieces, len(self.sound))
        whole = [range(at, at + length) for at in range(0, len(self.sound) - length + 1, length)]
        wanted = min(len(whole), max(1, int(seconds * SAMPLE_RATE) // length))
        return [whole[(2 * n + 1) * len(whole) // (2 * wanted)] for n in range(wanted)]


@lru_cache(maxsize=4)
def _spoken(audio: Path) -> Samples:
    if audio == STIPA:
        return stipa_signal(_STIPA_SECONDS)
    try:
        return np.concatenate([*FileSource(audio).blocks(SAMPLE_RATE), _PAUSE])
    except SourceError as error:
        raise ValueError(str(error)) from None


@lru_cache(maxsize=2)
def _sound(audio: Path, samples: int) -> Samples:
    return np.resize(_spoken(audio), samples)


@lru_cache(maxsize=4)
def speech(audio: Path, seconds: float, settings: EncoderSettings) -> Speech:
    """So much of a file's sound, coded; the same object for the same arguments.

    ValueError where there is no sound to be had.
    """
    encoder = Encoder(settings)
    frame, lookahead = encoder.frame_samples, encoder.lookahead
    sound = _sound(audio, round(seconds * SAMPLE_RATE))
    count = -(-(len(sound) + lookahead) // frame)
    frames = np.pad(sound, (0, count * frame - len(sound))).reshape(count, frame)
    payloads = tuple(encoder.encode(one) for one in frames)
    return Speech(sound, min(len(_spoken(audio)), len(sound)), frame, lookahead, payloads)


def decoded(speech: Speech, heard: Fates, clip: range, *, restored: Fates | None = None) -> Samples:
    """A clip as libopus makes it of the frames that were there; the others it conceals.

    `heard[i]` says whether frame i was, and `restored[i]` whether the next one was in time to
    take frame i from its in-band FEC. The decoder begins half a second before the clip.
    """
    decoder = Decoder()
    first = max(0, (clip.start + speech.lookahead - SAMPLE_RATE // 2) // speech.frame)
    last = min(len(heard), -(-(clip.stop + speech.lookahead) // speech.frame))
    sound = []
    for index in range(first, last):
        if heard[index]:
            sound.append(decoder.decode(speech.payloads[index]))
        elif restored is not None and restored[index]:
            sound.append(decoder.recover(speech.payloads[index + 1], speech.frame))
        else:
            sound.append(decoder.conceal(speech.frame))
    joined = np.concatenate(sound)
    begin = clip.start - speech.start(first)
    return joined[begin : begin + len(clip)]


def clean(speech: Speech, clips: Sequence[range]) -> list[Samples]:
    """The clips as they are where nothing is lost."""
    whole = np.ones(len(speech.payloads), np.bool_)
    return [decoded(speech, whole, clip) for clip in clips]


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over all clips; None for what is not installed, or was not asked for.

    PESQ-WB (ITU-T P.862.2) is 1.04 to 4.64, STOI 0 to 1.
    """

    pesq_wb: float | None
    stoi: float | None


def scores(references: Sequence[Samples], heard: Sequence[Samples]) -> Scores:
    """How good clips are beside what was said."""
    pairs = list(zip(references, heard, strict=True))
    return Scores(_mean(pesq_wb, pairs), _mean(stoi, pairs))


def _mean(
    judge: Callable[[Samples, Samples], float], pairs: Sequence[tuple[Samples, Samples]]
) -> float | None:
    found = []
    for said, heard in pairs:
        try:
            found.append(judge(said, heard))
        except (NoPesqError, NoStoiError):
            return None
        except NoSpeechError:
            continue  # a pause of the speaker's says nothing
    return float(np.mean(found)) if found else None
