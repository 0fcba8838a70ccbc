from pathlib import Path

import numpy as np
import pytest

from bench.loss_scene import Outcome, Scene, scene_of
from bench.loss_schemes import (
    SCHEMES,
    ask_again,
    block_code,
    conceal,
    has_inband_fec,
    inband,
    redundant,
    times,
)
from bench.loss_sound import VOICE, Fates, Speech, speech
from codec.opus import EncoderSettings

SETTINGS = EncoderSettings(frame_ms=20)
WITH_FEC = EncoderSettings(frame_ms=20, inband_fec=True, expected_loss_percent=20)


@pytest.fixture(scope="module")
def said() -> Speech:
    return speech(VOICE, 60, SETTINGS)


def run(name: str, scene: Scene, said: Speech) -> Outcome:
    (scheme,) = (scheme for scheme in SCHEMES if scheme.name == name)
    return scheme.run(name, scene, said, [])


def later(fates: Fates, frames: int) -> Fates:
    """What became of the packet so many frames later; there is none after the last."""
    return np.concatenate((fates[frames:], np.ones(frames, np.bool_)))


def test_a_perfect_path_costs_no_scheme_anything(said: Speech, tmp_path: Path) -> None:
    perfect = tmp_path / "perfect.trace"
    perfect.write_text("0\n")
    scene = scene_of("perfect", "wan", seed=1, trace=perfect)
    for scheme in SCHEMES:
        outcome = scheme.run(scheme.name, scene, said, [])
        assert outcome.heard.all()
        assert not outcome.lost.any()


def test_concealment_hears_what_was_not_lost(said: Speech) -> None:
    outcome = conceal("plc", scene_of("R20", "wan", seed=1), said, [])
    assert np.array_equal(outcome.heard, ~outcome.lost)
    assert outcome.lost.mean() == pytest.approx(0.2, abs=0.03)
    assert outcome.opus_bytes == sum(map(len, said.payloads))


def test_red_misses_what_itself_and_all_copies_missed(said: Speech) -> None:
    scene = scene_of("R30", "wan", seed=2)
    for copies in (1, 2):
        outcome = redundant(copies)("red", scene, said, [])
        missed = outcome.lost.copy()
        for back in range(1, copies + 1):
            missed &= later(outcome.lost, back)
        assert np.array_equal(~outcome.heard, missed)
        assert outcome.opus_bytes / sum(map(len, said.payloads)) == pytest.approx(1 + copies, 0.01)


def test_inband_fec_restores_only_from_packets_that_have_it(said: Speech) -> None:
    scene = scene_of("R20", "wan", seed=1)
    with_fec = speech(VOICE, 60, WITH_FEC)
    outcome = inband("fec", scene, with_fec, [])
    told = np.array([*map(has_inband_fec, with_fec.payloads[1:]), False])
    assert np.array_equal(~outcome.heard, outcome.lost & (later(outcome.lost, 1) | ~told))
    assert not inband("fec", scene, said, []).heard[outcome.lost].any()


@pytest.mark.parametrize("frame_ms", [10, 20, 60])
def test_which_packets_have_inband_fec(frame_ms: float) -> None:
    plain = speech(VOICE, 8, EncoderSettings(frame_ms=frame_ms))
    settings = EncoderSettings(frame_ms=frame_ms, inband_fec=True, expected_loss_percent=20)
    assert not any(map(has_inband_fec, plain.payloads))
    assert np.mean([*map(has_inband_fec, speech(VOICE, 8, settings).payloads)]) > 0.5


def test_xor_recovers_one_of_four_and_no_more(said: Speech) -> None:
    outcome = block_code(4, 1)("xor", scene_of("R10", "wan", seed=1), said, [])
    for first in range(0, len(said.payloads) - 4, 4):
        lost, heard = outcome.lost[first : first + 4], outcome.heard[first : first + 4]
        assert heard.all() or np.array_equal(heard, ~lost)
        assert lost.sum() < 2 or not heard.all()
    # Of blocks that miss one the parity came nine times in ten.
    ones = [
        outcome.heard[first : first + 4].all()
        for first in range(0, len(said.payloads) - 4, 4)
        if outcome.lost[first : first + 4].sum() == 1
    ]
    assert np.mean(ones) == pytest.approx(0.9, abs=0.06)


def test_a_block_code_is_of_no_use_where_the_delay_is_shorter_than_its_block() -> None:
    said = speech(VOICE, 30, EncoderSettings(frame_ms=10))
    outcome = block_code(18, 10)("rs", scene_of("R10", "lan", seed=1, multicast=True), said, [])
    in_time = outcome.heard[outcome.lost].reshape(-1)
    # Only the last few of a block sound late enough.
    assert 0 < in_time.mean() < 0.3


def test_asking_again_repairs_random_loss_and_asks_no_more_than_it_must(said: Speech) -> None:
    scene = scene_of("R10", "wan", seed=1)
    outcome = ask_again("ask", scene, said, [])
    assert np.mean(~outcome.heard) < 0.002 < outcome.lost.mean()
    assert 1.09 < outcome.opus_bytes / sum(map(len, said.payloads)) < 1.2
    assert outcome.up_bytes > 0


def test_asking_takes_a_round_trip_that_a_short_delay_has_not(said: Speech) -> None:
    scene = scene_of("R10", "wan", seed=1, playout_delay_ms=90)
    outcome = ask_again("ask", scene, said, [])
    assert np.array_equal(outcome.heard, ~outcome.lost)


def test_all_meet_the_same_bursts(said: Speech) -> None:
    scene = scene_of("M2", "wan", seed=4)
    lost = [run(name, scene, said).lost for name in ("plc", "red-1", "rs-18+10", "repeat-request")]
    assert all(np.array_equal(lost[0], other) for other in lost[1:])


def test_a_frame_has_to_be_there_the_delay_after_its_sound_was_captured(said: Speech) -> None:
    at = times(scene_of("R5", "wan", seed=1), said)
    assert at.ready[10] == 11 * 20_000_000
    assert at.sounds[10] == 10 * 20_000_000 - 6_500_000 + 500_000_000
