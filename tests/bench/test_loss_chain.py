from pathlib import Path

import numpy as np
import pytest

from bench.loss_chain import Chain
from bench.loss_scene import Outcome, Scene, scene_of
from bench.loss_sound import VOICE, Speech, clean, speech
from codec.opus import EncoderSettings


def speak(frame_ms: float, seconds: float = 12) -> Speech:
    return speech(VOICE, seconds, EncoderSettings(frame_ms=frame_ms))


def replay(tmp_path: Path, lines: str, delivery: str = "wan") -> Scene:
    trace = tmp_path / "a.trace"
    trace.write_text(lines)
    return scene_of("trace", delivery, seed=1, trace=trace)


def run(scene: Scene, said: Speech) -> Outcome:
    return Chain(scene, said, said.clips(60)).run()


def snr_db(heard: np.ndarray, expected: np.ndarray) -> float:
    difference = float(np.mean(np.square(heard - expected)))
    return 10 * float(np.log10(np.mean(np.square(expected)) / max(difference, 1e-20)))


@pytest.mark.parametrize(("delivery", "frame_ms"), [("lan", 10), ("wan", 20), ("saver", 60)])
def test_what_is_heard_over_a_perfect_path_is_what_opus_makes_of_it(
    tmp_path: Path, delivery: str, frame_ms: float
) -> None:
    said = speak(frame_ms)
    outcome = run(replay(tmp_path, "0\n", delivery), said)
    assert outcome.heard.all()
    assert not outcome.lost.any()
    (expected,) = clean(said, said.clips(60))
    # The first frame is faded in.
    assert snr_db(outcome.clips[0][480:], expected[480:]) > 60


def test_a_frame_counts_as_lost_and_as_unheard_where_all_was_lost(tmp_path: Path) -> None:
    said = speak(20)
    fates = ["10"] * 200 + ["lost"] * 1_000
    outcome = run(replay(tmp_path, "\n".join(fates)), said)
    assert not outcome.lost[:200].any()
    assert outcome.lost[200:].all()
    assert not outcome.heard[200:].any()


def test_copies_and_repairs_bring_nearly_all_back() -> None:
    said = speak(20, 30)
    outcome = run(scene_of("R20", "wan", seed=3), said)
    assert outcome.lost.mean() == pytest.approx(0.2, abs=0.04)
    assert np.mean(~outcome.heard) < 0.003
    assert 1.5 < outcome.opus_bytes / sum(map(len, said.payloads)) < 2.8
    assert 0 < outcome.up_bytes < outcome.wire_bytes / 5


def test_repairs_alone_bring_back_what_a_delay_leaves_time_for() -> None:
    said = speak(60, 30)
    outcome = run(scene_of("R10", "saver", seed=1), said)
    assert outcome.lost.any()
    assert np.mean(~outcome.heard) < 0.01


def test_by_multicast_nobody_asks() -> None:
    said = speak(10)
    outcome = run(scene_of("R5", "lan", seed=1, multicast=True), said)
    assert outcome.lost.any()
    assert outcome.up_bytes == 0
    assert outcome.heard[outcome.lost].mean() > 0.9


def test_a_group_that_loses_every_fifth_packet_has_a_code() -> None:
    said = speak(10, 20)
    scene = scene_of("R20", "lan", seed=1, multicast=True, playout_delay_ms=500)
    outcome = run(scene, said)
    assert outcome.lost.mean() == pytest.approx(0.2, abs=0.04)
    # What is said last has nothing after it that could bring it back.
    assert np.mean(~outcome.heard[:-40]) < 0.003
    assert outcome.opus_bytes / sum(map(len, said.payloads)) < 4


def test_equal_seeds_give_equal_runs() -> None:
    said = speak(20, 6)
    first, again, other = (run(scene_of("M2", "wan", seed=seed), said) for seed in (1, 1, 2))
    assert np.array_equal(first.heard, again.heard)
    assert (first.wire_bytes, first.opus_bytes) == (again.wire_bytes, again.opus_bytes)
    assert np.array_equal(first.clips[0], again.clips[0])
    assert not np.array_equal(first.lost, other.lost)


def test_what_the_output_keeps_ready_is_taken_from_the_delay(tmp_path: Path) -> None:
    said = speak(20, 6)
    trace = tmp_path / "late.trace"
    trace.write_text("470\n")
    heard = [
        run(scene_of("late", "wan", seed=1, trace=trace, buffer_ms=buffer_ms), said).heard
        for buffer_ms in (0.0, 10.0)
    ]
    # Captured 20 ms and look-ahead after it begins, it comes 496.5 ms later.
    assert heard[0].all()
    # After half a second of silence a frame that comes late is played from where it still can be.
    assert heard[1].mean() < 0.05


def test_it_says_how_far_it_is(tmp_path: Path) -> None:
    said = speak(20, 4)
    shares: list[float] = []
    Chain(replay(tmp_path, "0\n"), said, [], shares.append).run()
    assert shares == sorted(shares)
    assert 0.9 < shares[-1] <= 1.01
