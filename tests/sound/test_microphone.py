"""A microphone that hears a card's sound."""

import subprocess
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from bench.demo import VOICE
from bench.measure import Recording
from bench.processes import end
from codec import soundcard
from codec.errors import SourceError
from codec.format import SAMPLE_RATE, Samples
from codec.sources.file import FileSource
from server.live.microphone import MicrophoneSource
from tests.support.integrator import SECOND_NS, fit
from tests.support.sound import SoundServer

pytestmark = pytest.mark.realtime

# Of pieces of a few milliseconds each: what comes in half a second without its reader.
MOST_DROPPED = 50


@pytest.fixture
def microphone(sound: SoundServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[MicrophoneSource]:
    """It hears what the card `both` plays."""
    monkeypatch.setenv("PULSE_SOURCE", "both.monitor")
    soundcard.refresh()  # PortAudio was loaded before there was this sound server
    source = MicrophoneSource("pulse")
    yield source
    source.close()


def spoken() -> Samples:
    return np.concatenate(list(FileSource(VOICE)))[: 4 * SAMPLE_RATE]


def test_it_gives_what_is_said_before_it(microphone: MicrophoneSource, tmp_path: Path) -> None:
    voice = spoken()
    pcm = tmp_path / "voice.f32"
    voice.tofile(pcm)
    blocks = iter(microphone)
    first = next(blocks)
    words = ["--raw", "-d", "both", "--rate=48000", "--format=float32le", "--channels=1"]
    player = subprocess.Popen(["pacat", *words, str(pcm)], text=True)
    heard = np.concatenate([first, *(next(blocks) for _ in range(700))])
    end(player)
    assert first.shape == (480,)
    assert first.dtype == np.float32
    begin = int(np.argmax(np.abs(heard) > 0.02)) - int(np.argmax(np.abs(voice) > 0.02))
    one = Recording(voice, SAMPLE_RATE, 0)
    two = Recording(heard[max(0, begin) :], SAMPLE_RATE, 0)
    # Where this process was held up a second may have a hole; the others are as they were said.
    fits = [fit(one, two, half * SECOND_NS // 2).correlation for half in range(7)]
    print("correlations", [round(correlation, 4) for correlation in fits])
    assert median(fits) > 0.99
    assert microphone.dropped <= MOST_DROPPED


def test_one_that_is_lost_is_one_line(sound: SoundServer, microphone: MicrophoneSource) -> None:
    blocks = iter(microphone)
    next(blocks)
    (number,) = sound.streams("source-outputs")
    sound.kill("source-output", number)
    with pytest.raises(SourceError, match=r"^the microphone is gone: connect it and start again$"):
        deque(blocks, maxlen=0)
