from pathlib import Path

import numpy as np
import pytest

from bench.loss_sound import VOICE, clean, decoded, scores, speech
from bench.quality import through_opus
from codec.format import SAMPLE_RATE
from codec.opus import EncoderSettings

SETTINGS = EncoderSettings(frame_ms=20)


def test_speech_is_repeated_and_coded_to_its_end() -> None:
    said = speech(VOICE, 20, SETTINGS)
    assert len(said.sound) == 20 * SAMPLE_RATE
    again = said.sound[said.period : 2 * said.period]
    assert np.array_equal(said.sound[: said.period], again)
    assert said.start(len(said.payloads)) >= len(said.sound) > said.start(len(said.payloads) - 1)


def test_clips_are_whole_spread_out_and_no_more_than_asked_for() -> None:
    said = speech(VOICE, 60, SETTINGS)
    clips = said.clips(20)
    assert all(len(clip) <= 12 * SAMPLE_RATE for clip in clips)
    assert sum(map(len, clips)) <= 20 * SAMPLE_RATE
    assert len({clip.start for clip in clips}) == len(clips) == 2
    assert clips[0].stop < 30 * SAMPLE_RATE < clips[-1].start
    assert all(clip.start % said.period == 0 for clip in clips)


def test_a_run_shorter_than_the_speech_is_one_clip() -> None:
    said = speech(VOICE, 5, SETTINGS)
    assert said.clips(60) == [range(5 * SAMPLE_RATE)]


def test_clips_without_loss_are_what_opus_makes_of_them() -> None:
    said = speech(VOICE, 20, SETTINGS)
    clips = said.clips(60)
    whole = through_opus(said.sound, SETTINGS)
    for clip, heard in zip(clips, clean(said, clips), strict=True):
        expected = whole[clip.start : clip.stop]
        assert len(heard) == len(clip)
        # A decoder that begins half a second before has forgotten the difference.
        assert np.max(np.abs(heard - expected)) < 0.02


def test_a_lost_frame_changes_its_own_place_and_is_better_with_fec() -> None:
    settings = EncoderSettings(frame_ms=20, inband_fec=True, expected_loss_percent=20)
    said = speech(VOICE, 5, settings)
    clip = range(5 * SAMPLE_RATE)
    heard = np.ones(len(said.payloads), np.bool_)
    heard[40:120:8] = False
    (expected,) = clean(said, [clip])
    concealed = decoded(said, heard, clip)
    restored = decoded(said, heard, clip, restored=np.roll(heard, -1))
    first = said.start(40)
    assert np.array_equal(concealed[:first], expected[:first])
    errors = [float(np.sum(np.square(one - expected))) for one in (concealed, restored)]
    assert errors[0] > 2 * errors[1] > 0


def test_pauses_of_the_speaker_are_not_judged() -> None:
    silence = np.zeros(4 * SAMPLE_RATE, np.float32)
    assert scores([silence], [silence]).pesq_wb is None


def test_a_file_without_sound_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such file"):
        speech(tmp_path / "none.wav", 5, SETTINGS)
