"""A microphone that hears a card's sound."""

import subprocess
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.demo import VOICE
from bench.measure import Recording, offset_seconds
from bench.processes import end
from codec import soundcard
from codec.errors import SourceError
from codec.format import SAMPLE_RATE, Samples
from codec.sources.file import FileSource
from server.live.microphone import MicrophoneSource
from tests.support.sound import SoundServer

pytestmark = pytest.mark.realtime

SECOND = 1_000_000_000


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
    assert microphone.dropped == 0
    one, two = Recording(voice, SAMPLE_RATE, 0), Recording(heard, SAMPLE_RATE, 0)
    offset = offset_seconds(one, two, SECOND, 2 * SECOND, search_s=5.0)
    print(f"correlation {offset.correlation:.4f}")
    assert offset.correlation > 0.99


def test_one_that_is_lost_is_one_line(sound: SoundServer, microphone: MicrophoneSource) -> None:
    blocks = iter(microphone)
    next(blocks)
    (number,) = sound.streams("source-outputs")
    sound.kill("source-output", number)
    with pytest.raises(SourceError, match=r"^the microphone is gone: connect it and start again$"):
        deque(blocks, maxlen=0)
