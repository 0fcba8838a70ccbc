"""A voice from the encoder to the ear over a bad network, with copies and repairs."""

from functools import cache

import pytest

from bench.network import MS, SECOND, Impairments
from codec.format import SAMPLE_RATE, Samples
from tests.support.chain import Loudspeaker, Programme, human_voice, snr_db
from transport.recovery.erasure import Code

FRAME = 960
LOSSY = Impairments(loss=0.2, delay_ns=20 * MS)


@cache
def speech(seconds: float = 3.0) -> Samples:
    return human_voice()[9_600:][: round(seconds * SAMPLE_RATE)]


def programme(copies: tuple[int, ...] = (), *, sealed: bool = True) -> Programme:
    """With epochs of 50 frames: losses fall on the first and the last of some."""
    return Programme(speech(), delay_ms=500.0, sealed=sealed, epoch_packets=50, copies=copies)


def heard(said: Programme, loudspeaker: Loudspeaker) -> float:
    """How near what is heard until shortly before the end is to what was said, in dB."""
    sound = loudspeaker.play(said.sounds_from_ns() + round(2.9 * SECOND))
    return snr_db(sound, said.heard(0, len(sound)))


def test_without_either_it_is_not_what_was_said() -> None:
    said = programme()
    loudspeaker = Loudspeaker([said], LOSSY, seed=3)
    assert heard(said, loudspeaker) < 20
    assert loudspeaker.player.counts()["concealed"] > 10


@pytest.mark.parametrize("sealed", [False, True], ids=["clear", "sealed"])
def test_copies_are_heard_as_what_they_are_of(*, sealed: bool) -> None:
    said = programme((FRAME, 2 * FRAME, 7 * FRAME), sealed=sealed)
    loudspeaker = Loudspeaker([said], LOSSY, seed=3)
    assert heard(said, loudspeaker) > 100
    counts = loudspeaker.player.counts()
    assert counts["recovered_copy"] >= counts["lost"] > 10
    assert set(counts) == {"received", "lost", "recovered_copy"}


def test_what_is_decoded_is_heard_as_what_was_said() -> None:
    said = Programme(
        speech(), delay_ms=500.0, sealed=True, epoch_packets=50, code=Code(8, 24), rekeys=(70,)
    )
    loudspeaker = Loudspeaker([said], LOSSY, seed=3)
    # What is said in the end has no packets after it that could bring it back.
    sound = loudspeaker.play(said.sounds_from_ns() + round(2.5 * SECOND))
    assert snr_db(sound, said.heard(0, len(sound))) > 100
    counts = loudspeaker.player.counts()
    assert counts["recovered_erasure"] >= 0.9 * counts["lost"] > 10
    assert set(counts) == {"received", "lost", "recovered_erasure"}


def test_repairs_are_heard_as_what_they_are_of() -> None:
    said = programme()
    loudspeaker = Loudspeaker([said], LOSSY, seed=3, asks=LOSSY)
    assert heard(said, loudspeaker) > 100
    counts = loudspeaker.player.counts()
    assert counts["recovered_repair"] >= counts["lost"] > 10
    assert set(counts) == {"received", "lost", "recovered_repair"}


def test_an_outage_shorter_than_the_copies_are_old_is_not_heard() -> None:
    said = programme((21 * FRAME,))
    from_ns = 1_200 * MS
    said.packets = [p for p in said.packets if not from_ns <= p.true_ns < from_ns + 400 * MS]
    loudspeaker = Loudspeaker([said])
    assert heard(said, loudspeaker) > 100
    counts = loudspeaker.player.counts()
    assert counts["recovered_copy"] == 20
    assert set(counts) == {"received", "lost", "recovered_copy"}
