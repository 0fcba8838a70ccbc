"""What the player does with streams, datagrams and pulls; the sound itself is in test_chain."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.network import MS, SECOND
from codec.dsp.fade import FADE_SAMPLES
from codec.format import SAMPLE_RATE, Samples
from endpoints.local import line_up_tone
from endpoints.player import Player
from tests.support.chain import (
    BLOCK,
    GENERATION,
    TRUSTED,
    Loudspeaker,
    Programme,
    certificate,
    human_voice,
    perfect_estimate,
    snr_db,
)
from tests.support.clock import MEDIA_EPOCH_NS, OwnClock
from transport.clock.estimator import ClockEstimate
from transport.control.messages import Listen, StreamSpec
from transport.control.priority import Priority
from transport.recovery.bundle import bundle
from transport.recovery.report import LossSummary
from transport.rtp.packet import RtpPacket
from transport.rtp.rtcp import Bye, ReceiverReport, SourceDescription, serialise_compound
from transport.security.keys import SigningKey, VerifyKey

OWN = OwnClock()


@cache
def programme(ssrc: int = 1) -> Programme:
    return Programme(human_voice()[9_600:][:SAMPLE_RATE], ssrc=ssrc, order=ssrc)


def make(*specs: StreamSpec, known: bool = True) -> Player:
    estimate = perfect_estimate(OWN) if known else None
    player = Player(lambda: estimate)
    player.trust(*TRUSTED)
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
    assert not speaker.play(SECOND // 2 + 100 * MS)[FADE_SAMPLES + 1 :].any()


# ------------------------------------------------------------------ sealed streams
@cache
def sealed(order: int = 1) -> Programme:
    return Programme(human_voice()[9_600:][:SAMPLE_RATE], order=order, sealed=True)


def with_certificate(spec: StreamSpec, data: bytes) -> StreamSpec:
    assert spec.seal is not None
    return replace(spec, seal=replace(spec.seal, certificate=data))


FRESH = SigningKey(b"f" * 32)
REFUSED = {
    "another station's": {"station": FRESH},
    "an older generation's": {"generation": GENERATION - 1},
    "a lower priority's": {"highest": Priority.BACKGROUND},
    "a test's": {"test": True},
}


@pytest.mark.parametrize("how", REFUSED.values(), ids=REFUSED.keys())
def test_a_stream_whose_certificate_does_not_hold_is_not_played_and_the_others_are(
    how: dict[str, Any],
) -> None:
    good, bad = sealed(1), sealed(2)
    speaker = Loudspeaker([good, bad])
    wrong = certificate(bad.key.public, bad.serial, **how)
    speaker.player.declare(Listen(2, (good.spec, with_certificate(bad.spec, wrong))))
    heard = speaker.play(SECOND)
    assert snr_db(heard, good.heard(0, len(heard))) > 100
    counts = speaker.player.counts()
    assert counts["dropped_certificate"] == 1
    assert counts["dropped_ssrc"] > 40


def test_before_it_knows_whom_to_trust_nothing_sealed_is_played() -> None:
    estimate = perfect_estimate(OWN)
    player = Player(lambda: estimate)
    player.declare(Listen(1, (sealed().spec,)))
    player.receive(sealed().packets[0].data, 0)
    assert player.counts() == {"dropped_certificate": 1, "dropped_ssrc": 1}


def test_a_station_with_a_new_key_certifies_what_plays_and_it_plays_on() -> None:
    speaker = Loudspeaker([sealed()])
    first = speaker.play(SECOND // 2)
    renewed = certificate(
        sealed().key.public, sealed().serial, station=FRESH, generation=GENERATION + 1
    )
    speaker.player.trust(VerifyKey(FRESH.public), GENERATION + 1)
    speaker.player.declare(Listen(2, (with_certificate(sealed().spec, renewed),)))
    heard = np.concatenate((first, speaker.play(SECOND)))
    assert snr_db(heard, sealed().heard(0, len(heard))) > 100
    assert set(speaker.player.counts()) == {"received"}


def test_what_an_older_station_key_certified_is_played_no_more() -> None:
    """The same Listen, but the station has been found to have a newer key meanwhile."""
    speaker = Loudspeaker([sealed()])
    speaker.play(SECOND // 2)
    speaker.player.trust(VerifyKey(FRESH.public), GENERATION + 1)
    speaker.player.declare(Listen(2, (sealed().spec,)))
    assert not speaker.play(SECOND)[FADE_SAMPLES + 1 :].any()
    assert speaker.player.counts()["dropped_certificate"] == 1


def test_another_stream_under_the_same_ssrc_begins_anew() -> None:
    """Its certificate names another key: none of what plays may pass for it."""
    speaker = Loudspeaker([sealed()])
    speaker.play(SECOND // 2)
    other = certificate(FRESH.public, 9)
    speaker.player.declare(Listen(2, (with_certificate(sealed().spec, other),)))
    assert not speaker.play(SECOND)[FADE_SAMPLES + 1 :].any()
    assert speaker.player.counts()["dropped_signature"] > 10


def test_packets_in_clear_are_none_of_a_sealed_stream() -> None:
    speaker = Loudspeaker([sealed()], later=True)
    for index, payload in enumerate(sealed().payloads):
        timestamp = (sealed().start + index * sealed().frame + 12_345) % 2**32
        plain = RtpPacket(96, index, timestamp, sealed().spec.ssrc, payload)
        speaker.player.receive(plain.serialise(), index * 20 * MS)
    assert not speaker.play(SECOND).any()
    assert speaker.player.counts() == {"dropped_unsigned": len(sealed().payloads)}


def test_a_goodbye_in_clear_does_not_end_a_sealed_stream() -> None:
    speaker = Loudspeaker([sealed()])
    first = speaker.play(SECOND // 2)
    ssrc = sealed().spec.ssrc
    goodbye = (ReceiverReport(ssrc), SourceDescription(ssrc, "x"), Bye((ssrc,)))
    speaker.player.receive(serialise_compound(goodbye), SECOND // 2)
    heard = np.concatenate((first, speaker.play(SECOND)))
    assert snr_db(heard, sealed().heard(0, len(heard))) > 100
    assert speaker.player.counts()["dropped_seal"] == 1


def test_only_while_a_stream_in_clear_is_heard_it_is_not_authenticated() -> None:
    clear = Programme(human_voice()[9_600:][: SAMPLE_RATE // 2], ssrc=5, order=9)
    speaker = Loudspeaker([sealed(), clear])
    known = []
    for until_ms in (100, 500, 1_000):
        speaker.play(until_ms * MS)
        known.append((speaker.player.hearing, speaker.player.authenticated))
    assert known == [("", True), ("p", False), ("p", True)]


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


@given(st.binary(max_size=200), st.integers(0, 2**62))
def test_arbitrary_datagrams_never_raise(data: bytes, now_ns: int) -> None:
    player = make(programme().spec, sealed().spec)
    player.receive(data, now_ns)
    for ssrc in (1, sealed().spec.ssrc):
        player.receive(data[:4] + bytes(4) + ssrc.to_bytes(4) + data[4:], now_ns)
        player.receive(b"\x80\xc9\0\1" + ssrc.to_bytes(4) + data, now_ns)
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


# ------------------------------------------------------------------ bundles and requests
def test_what_comes_in_bundles_is_heard_as_if_it_came_alone() -> None:
    speaker = Loudspeaker([programme()], later=True)
    packets = programme().packets
    for first in range(0, len(packets), 3):
        (data,) = bundle([packet.data for packet in packets[first : first + 3]])
        speaker.player.receive(data, packets[first].true_ns)
    heard = speaker.play(SECOND)
    assert snr_db(heard, programme().heard(0, len(heard))) > 100


@pytest.mark.parametrize("data", [b"\x41", b"\x41\0\0", b"\x41\0\5abcd", b"\x41" + bytes(99)])
def test_a_bundle_that_is_none_is_counted_and_dropped(data: bytes) -> None:
    player = make(programme().spec)
    player.receive(data, 0)
    assert player.counts() == {"dropped_bundle": 1}


def test_a_bundle_within_a_bundle_is_not_opened() -> None:
    player = make(programme().spec)
    (inner,) = bundle([programme().packets[0].data])
    (outer,) = bundle([inner])
    player.receive(outer, 0)
    assert player.counts() == {"dropped_ssrc": 1}


def missing_one_in_four(programmes: list[Programme], until_ns: int) -> Player:
    player = make(*(one.spec for one in programmes))
    for one in programmes:
        for number, packet in enumerate(one.packets):
            if number % 4 != 2 and packet.true_ns <= until_ns:
                player.receive(packet.data, packet.true_ns)
    return player


def test_what_is_missing_of_a_sealed_stream_is_asked_for() -> None:
    player = missing_one_in_four([sealed()], SECOND // 2)
    at_ns = player.next_request_ns()
    assert at_ns is not None
    (wanted, *_) = player.requests(max(at_ns, SECOND // 2))
    assert wanted.ssrc == sealed().spec.ssrcs[0]
    assert set(wanted.sequences) >= {18, 22}
    assert all(number % 4 == 2 for number in wanted.sequences if number < 23)


def test_of_a_stream_in_clear_nothing_is_asked_for() -> None:
    """The station keeps nothing of it: it is for players that cannot ask."""
    player = missing_one_in_four([programme()], SECOND // 2)
    assert player.next_request_ns() is None
    assert player.requests(SECOND // 2) == []


def test_before_the_clock_is_known_nothing_is_asked_for() -> None:
    player = make(sealed().spec, known=False)
    assert player.requests(0) == []
    assert player.next_request_ns() is None
    assert player.packets_a_second(0) == 0
    assert player.losses(0) == LossSummary()


def test_what_the_heard_voice_misses_is_asked_for_first() -> None:
    low, high = sealed(1), sealed(2)
    for programmes in ([low, high], [high, low]):
        player = missing_one_in_four(programmes, SECOND // 2)
        for n in range(100):
            player.pull(BLOCK, n * 5 * MS)
        ssrcs = [wanted.ssrc for wanted in player.requests(SECOND // 2 + 60 * MS)]
        assert ssrcs == [high.spec.ssrcs[0], low.spec.ssrcs[0]]


def test_packets_are_expected_of_what_is_being_sent() -> None:
    player = missing_one_in_four([sealed(1), sealed(2)], SECOND // 2)
    assert make(sealed().spec).packets_a_second(SECOND // 2) == 0
    assert player.packets_a_second(SECOND // 2) == 100
    assert player.packets_a_second(3 * SECOND) == 0


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
    player = Player(lambda: estimate, servo=False)
    for index in range(1_000):  # a crystal that is 100 us a second off, and nobody who follows it
        player.pull(BLOCK, index * 5 * MS + index * 500)
    assert player.sync_error_us == pytest.approx(500 - 100, abs=2)  # smoothed over a second


@pytest.mark.parametrize("wrong_s", [-3_600, 3_600])
def test_after_a_skip_to_the_right_place_there_is_no_error(wrong_s: int) -> None:
    estimate = ClockEstimate(0, 0.0, MEDIA_EPOCH_NS, 0.0, 0.0)
    player = Player(lambda: estimate, servo=False)
    errors = []
    for index, sounds_ns in enumerate([0, 5 * MS + 900_000, 11 * MS, wrong_s * SECOND]):
        player.pull(BLOCK, sounds_ns)
        errors.append((index, player.sync_error_us > 0))
    assert errors == [(0, False), (1, True), (2, True), (3, False)]


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


# ------------------------------------------------------------------ trim
def delay_of(heard: Samples, expected: Samples) -> float:
    """By how many samples what is heard comes later; to a tenth of one or so."""
    spectrum = np.fft.rfft(heard) * np.conj(np.fft.rfft(expected))
    correlation = np.fft.irfft(spectrum, len(heard))
    at = int(np.argmax(correlation))
    left, mid, right = (correlation[(at + n) % len(heard)] for n in (-1, 0, 1))
    at = at - len(heard) if at > len(heard) // 2 else at
    return float(at + (left - right) / (2 * (left - 2 * mid + right)))


@pytest.mark.parametrize("trim_us", [-50_000, -1_250, 250, 50_000])
def test_a_trim_makes_sound_later_or_earlier_by_exactly_so_much(trim_us: int) -> None:
    speaker = Loudspeaker([programme()])
    speaker.player.adjust(100, muted=False, trim_us=trim_us)
    heard = speaker.play(SECOND)
    expected = programme().heard(0, len(heard))
    assert delay_of(heard, expected) == pytest.approx(trim_us * 0.048, abs=0.1)
    shifted, middle = np.roll(heard, -round(trim_us * 0.048)), slice(4_800, -4_800)
    assert snr_db(shifted[middle], expected[middle]) > 100


def test_a_trim_that_changes_in_a_pause_is_there_with_the_next_word() -> None:
    speaker = Loudspeaker([programme()])
    speaker.play(SECOND // 10)  # D is not over yet
    speaker.player.adjust(100, muted=False, trim_us=-20_000)
    heard = speaker.play(SECOND)
    expected = programme().heard(SECOND // 10, len(heard))
    assert delay_of(heard, expected) == pytest.approx(-960, abs=0.1)
    assert speaker.player.sync_error_us < 1


def test_a_trim_that_changes_in_mid_sentence_is_approached_without_a_step() -> None:
    long = Programme(np.tile(human_voice()[9_600:][: 3 * SAMPLE_RATE], 5))
    speaker, same = Loudspeaker([long]), Loudspeaker([long])
    for one in (speaker, same):
        one.play(SECOND)
    speaker.player.adjust(100, muted=False, trim_us=1_000)
    heard, whole = speaker.play(14 * SECOND), same.play(14 * SECOND)
    one_s = slice(0, SAMPLE_RATE)
    assert abs(delay_of(heard[one_s], whole[one_s])) < 10  # of 48
    last_s = slice(-SAMPLE_RATE, None)
    assert delay_of(heard[last_s], whole[last_s]) == pytest.approx(48, abs=2)
    assert np.abs(np.diff(heard)).max() <= np.abs(np.diff(whole)).max() * 1.05
    assert speaker.player.sync_error_us < 100


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
