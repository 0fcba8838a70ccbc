import numpy as np
import pytest

from bench.loss_sound import VOICE, speech
from bench.quality import NoPesqError, NoSpeechError, NoStoiError, pesq_wb, stoi, through_opus
from codec.format import SAMPLE_RATE, Samples
from codec.opus import EncoderSettings


@pytest.fixture(scope="module")
def said() -> Samples:
    return speech(VOICE, 4, EncoderSettings()).sound


def noisy(sound: Samples, amplitude: float) -> Samples:
    noise = np.random.default_rng(1).normal(0, amplitude, len(sound))
    return (sound + noise).astype(np.float32)


def test_opus_keeps_the_length_and_the_place_of_a_sound(said: Samples) -> None:
    heard = through_opus(said, EncoderSettings(bitrate=64_000))
    assert len(heard) == len(said)
    alike = [float(np.dot(said, np.roll(heard, -lag))) for lag in range(-40, 41)]
    # Its high-pass filter turns the lowest tones a little.
    assert abs(int(np.argmax(alike)) - 40) <= 5


def test_pesq_is_higher_the_less_noise_there_is(said: Samples) -> None:
    try:
        found = [pesq_wb(said, noisy(said, amplitude)) for amplitude in (0.0, 0.001, 0.03)]
    except NoPesqError as error:
        pytest.skip(str(error))
    assert found[0] > 4.6
    assert found == sorted(found, reverse=True)
    assert pesq_wb(said, np.zeros_like(said)) < min(found)


def test_pesq_judges_nothing_where_nothing_is_said(said: Samples) -> None:
    silence = np.zeros(4 * SAMPLE_RATE, np.float32)
    try:
        for nothing in (silence, said[: SAMPLE_RATE // 10]):
            with pytest.raises(NoSpeechError):
                pesq_wb(nothing, nothing)
    except NoPesqError as error:
        pytest.skip(str(error))


def test_stoi_is_one_of_the_sound_itself_and_less_of_noise(said: Samples) -> None:
    try:
        assert stoi(said, said) == pytest.approx(1.0, abs=1e-3)
    except NoStoiError as error:
        pytest.skip(str(error))
    assert stoi(said, noisy(said, 0.1)) < 0.9
