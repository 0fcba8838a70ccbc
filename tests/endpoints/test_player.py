"""What the player does with streams, datagrams and pulls; the sound itself is in test_chain."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.network import MS, SECOND
from codec.dsp.fade import FADE_SAMPLES
from codec.format import SAMPLE_RATE, Samples
from endpoints.local import line_up_tone
from endpoints.player import Player
from tests.support.chain import BLOCK, Loudspeaker, Programme, human_voice, perfect_estimate, snr_db
from tests.support.clock import MEDIA_EPOCH_NS, OwnClock
from transport.clock.estimator import ClockEstimate
from transport.control.messages import Listen, StreamSpec
from transport.control.priority import Priority
from transport.rtp.rtcp import ReceiverReport, parse_compound

OWN = OwnClock()


@cache
def programme(ssrc: int = 1) -> Programme:
    return Programme(human_voice()[9_600:][:SAMPLE_RATE], ssrc=ssrc, order=ssrc)


def make(*specs: StreamSpec, known: bool = True) -> Player:
    estimate = perfect_estimate(OWN) if known else None
    player = Player(lambda: estimate, "us")
    player.declare(Listen(1, specs))
    return player


# ------------------------------------------------------------------ streams
def test_a_stream_declared_again_plays_on_untouched() -> None:
    speaker = Loudspeaker([programme()])
    blocks = []
    for revision in range(2, 12):
        blocks.append(speaker.play(revision * SECOND // 10))
        speaker.player.declare(Listen(revision, (programme().spec,)))
    heard = np.concatenate(blocks)
    assert snr_db(heard, programme().heard(0, len(heard))) > 100


def test_a_stream_that_is_no_longer_declared_fades_out_within_5_ms() -> None:
    speaker = Loudspeaker([programme()])
    speaker.play(SECOND // 2)
    speaker.player.declare(Listen(2, ()))
    rest = speaker.play(SECOND)
    assert rest[0] != 0
    assert not rest[FADE_SAMPLES + 1 :].any()


def test_what_a_former_stream_received_stays_counted() -> None:
    speaker = Loudspeaker([programme()])
    speaker.play(SECOND // 2)
    before = speaker.player.counts()
    assert before["received"] > 20
    speaker.player.declare(Listen(2, ()))
    assert speaker.player.counts() == before


def test_a_stream_with_another_description_begins_anew() -> None:
    speaker = Loudspeaker([programme()])
    speaker.play(SECOND // 2)
    moved = replace(programme().spec, playout_delay_ms=500.0)
    speaker.player.declare(Listen(2, (moved,)))
    assert speaker.player.reports(0) == []


# ------------------------------------------------------------------ datagrams
def test_a_stream_nobody_declared_is_counted_and_dropped() -> None:
    player = make(programme(1).spec)
    player.receive(programme(2).packets[0].data, 0)
    assert player.counts() == {"dropped_ssrc": 1}


@pytest.mark.parametrize("packet", [0, -1], ids=["sound", "goodbye"])
def test_before_the_clock_is_known_everything_is_dropped(packet: int) -> None:
    player = make(programme().spec, known=False)
    player.receive(programme().packets[packet].data, 0)
    assert player.counts() == {"dropped_no_clock": 1}


@pytest.mark.parametrize("length", [0, 1, 7, 11])
def test_a_datagram_too_short_to_say_whose_it_is_is_dropped(length: int) -> None:
    player = make(programme().spec)
    player.receive(programme().packets[0].data[:length], 0)
    assert player.counts() == {"dropped_ssrc": 1}


@given(st.binary(max_size=60), st.integers(0, 2**62))
def test_arbitrary_datagrams_never_raise(data: bytes, now_ns: int) -> None:
    player = make(programme().spec)
    player.receive(data, now_ns)
    player.receive(data[:4] + bytes(4) + (1).to_bytes(4) + data[4:], now_ns)
    assert player.counts().total() >= 1


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 49), st.integers(0, 3 * SECOND)), max_size=20))
def test_packets_at_any_time_in_any_order_never_make_a_pull_fail(
    arrivals: list[tuple[int, int]],
) -> None:
    player = make(programme().spec)
    for at, (index, now_ns) in enumerate(arrivals):
        player.receive(programme().packets[index].data, now_ns)
        block = player.pull(BLOCK, at * 50 * MS)
        assert np.all(np.isfinite(block))


# ------------------------------------------------------------------ pulls
@pytest.mark.parametrize("samples", [1, 7, 240, 441, 4_800, 48_000])
def test_a_pull_of_any_length_gives_exactly_that_many_of_the_same_sound(samples: int) -> None:
    player = make(programme().spec)
    for packet in programme().packets:
        player.receive(packet.data, packet.true_ns)
    blocks = []
    index = 0
    while index < SAMPLE_RATE // 4 + 10 * samples:
        sounds_ns = -(-index * SECOND // SAMPLE_RATE)
        block = player.pull(samples, sounds_ns)
        assert block.shape == (samples,)
        assert block.dtype == np.float32
        blocks.append(block)
        index += samples
    heard = np.concatenate(blocks)
    assert snr_db(heard, programme().heard(0, len(heard))) > 60


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 1_000), st.integers(0, 2**62)), max_size=20))
def test_whatever_the_sound_card_says_a_pull_gives_sound(pulls: list[tuple[int, int]]) -> None:
    player = make(programme().spec)
    player.receive(programme().packets[0].data, programme().packets[0].true_ns)
    for samples, sounds_ns in pulls:
        block = player.pull(samples, sounds_ns)
        assert len(block) == samples
        assert np.all(np.isfinite(block))
        assert np.isfinite(player.sync_error_us)


def test_without_streams_there_is_silence() -> None:
    assert not make().pull(BLOCK, 0).any()


# ------------------------------------------------------------------ figures
def test_the_state_says_what_it_does() -> None:
    speaker = Loudspeaker([programme()])
    states = [make(known=False).state, make().state]
    speaker.play(SECOND // 2)
    states.append(speaker.player.state)
    speaker.play(2 * SECOND)
    speaker.player.declare(Listen(2, ()))
    speaker.play(3 * SECOND)
    states.append(speaker.player.state)
    assert states == ["syncing", "idle", "playing", "idle"]


def test_the_level_is_that_of_what_is_heard() -> None:
    speaker = Loudspeaker([programme()])
    heard = speaker.play(SECOND)
    rms = np.sqrt(np.mean(np.square(heard[-14_400:])))
    assert speaker.player.level_dbfs == pytest.approx(20 * np.log10(rms), abs=0.5)
    speaker.play(3 * SECOND)
    assert speaker.player.level_dbfs == -96.0


def test_the_error_is_how_far_it_is_from_its_place() -> None:
    estimate = ClockEstimate(0, 0.0, MEDIA_EPOCH_NS, 0.0, 0.0)
    player = Player(lambda: estimate, "us", servo=False)
    for index in range(1_000):  # a crystal that is 100 us a second off, and nobody who follows it
        player.pull(BLOCK, index * 5 * MS + index * 500)
    assert player.sync_error_us == pytest.approx(500 - 100, abs=2)  # smoothed over a second


@pytest.mark.parametrize("wrong_s", [-3_600, 3_600])
def test_after_a_skip_to_the_right_place_there_is_no_error(wrong_s: int) -> None:
    estimate = ClockEstimate(0, 0.0, MEDIA_EPOCH_NS, 0.0, 0.0)
    player = Player(lambda: estimate, "us", servo=False)
    errors = []
    for index, sounds_ns in enumerate([0, 5 * MS + 900_000, 11 * MS, wrong_s * SECOND]):
        player.pull(BLOCK, sounds_ns)
        errors.append((index, player.sync_error_us > 0))
    assert errors == [(0, False), (1, True), (2, True), (3, False)]


def test_each_stream_that_was_heard_has_a_report() -> None:
    speaker = Loudspeaker([programme(1), programme(2), nothing_of(3)])
    speaker.play(SECOND)
    reports = [parse_compound(data)[0] for data in speaker.player.reports(SECOND)]
    blocks = [report.reports[0].ssrc for report in reports if isinstance(report, ReceiverReport)]
    assert blocks == [1, 2]


def nothing_of(ssrc: int) -> Programme:
    """A programme of which nothing arrives."""
    silent = Programme(np.zeros(960, np.float32), ssrc=ssrc)
    silent.packets.clear()
    return silent


# ------------------------------------------------------------------ volume, and sounds of its own
def test_half_the_volume_is_18_db_less_and_the_knob_does_not_click() -> None:
    speaker, same = Loudspeaker([programme()]), Loudspeaker([programme()])
    for one in (speaker, same):
        one.play(SECOND // 2)
    speaker.player.adjust(50, muted=False)
    softer, whole = speaker.play(SECOND), same.play(SECOND)
    gains = np.concatenate((np.linspace(1, 0.125, BLOCK), np.full(len(whole) - BLOCK, 0.125)))
    assert snr_db(softer, (whole * gains).astype(np.float32)) > 100


def test_a_muted_loudspeaker_plays_on_unheard() -> None:
    speaker = Loudspeaker([programme()])
    speaker.player.adjust(100, muted=True)
    speaker.play(SECOND // 2)
    assert not speaker.play(SECOND // 2 + 100 * MS).any()
    assert speaker.player.hearing == "p"
    speaker.player.adjust(100, muted=False)
    assert speaker.play(SECOND).any()


def test_a_tone_is_heard_while_nobody_speaks() -> None:
    player = make(known=False)
    player.pull(BLOCK, 0)
    player.sound(line_up_tone(0.5))
    heard = np.concatenate([player.pull(BLOCK, n * 5 * MS) for n in range(1, 121)])
    assert np.flatnonzero(heard)[-1] < SAMPLE_RATE // 2
    assert np.max(np.abs(heard)) == pytest.approx(0.1, rel=1e-3)
    # No step is steeper than the tone's own.
    assert np.max(np.abs(np.diff(heard))) <= 0.1 * 2 * np.pi * 1000 / SAMPLE_RATE * 1.01


def test_a_tone_gives_way_to_a_programme() -> None:
    speaker = Loudspeaker([programme()])
    begins = round(programme().sounds_from_ns() * SAMPLE_RATE / SECOND)
    speaker.player.sound(line_up_tone(2))
    heard = speaker.play(SECOND)
    assert np.max(np.abs(heard[:begins])) == pytest.approx(0.1, rel=1e-3)
    after = slice(begins + 2 * BLOCK, None)
    assert snr_db(heard[after], programme().heard(0, len(heard))[after]) > 100


# ------------------------------------------------------------------ priorities
def test_a_lower_priority_waits_however_late_it_comes() -> None:
    alert = Programme(human_voice()[9_600:][:SAMPLE_RATE], ssrc=1, priority=Priority.EMERGENCY)
    talk = Programme(human_voice()[:SAMPLE_RATE], SAMPLE_RATE // 4, ssrc=2, order=9)
    heard = Loudspeaker([talk, alert]).play(SECOND)
    assert snr_db(heard, alert.heard(0, len(heard))) > 100


@pytest.mark.parametrize("block", [96, 240, 441, 1_440])
def test_two_loudspeakers_change_over_at_the_same_sample_whatever_their_blocks(block: int) -> None:
    low = Programme(human_voice()[9_600:][: 2 * SAMPLE_RATE], ssrc=1)
    high = Programme(human_voice()[:SAMPLE_RATE], 20_011, ssrc=2, priority=Priority.PRIORITY)

    def play(samples: int) -> Samples:
        player = make(low.spec, high.spec)
        for packet in (*low.packets, *high.packets):
            player.receive(packet.data, packet.true_ns)
        starts = range(0, 2 * SAMPLE_RATE, samples)
        return np.concatenate(
            [player.pull(samples, -(-at * SECOND // SAMPLE_RATE)) for at in starts]
        )

    one, other = play(240), play(block)
    length = min(len(one), len(other))
    assert snr_db(one[:length], other[:length]) > 60
