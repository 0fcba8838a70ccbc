"""A voice from the encoder to the ear, on virtual time, over a seeded network."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bench.measure import Recording, offset_seconds
from bench.network import MS, SECOND, Impairments, Jitter, Link, Straggle
from codec.dsp.fade import Fader
from codec.format import SAMPLE_RATE, Samples
from endpoints.simulate import Simulation
from tests.support.chain import Loudspeaker, Programme, human_voice, snr_db
from tests.support.clock import OwnClock, exchanges
from transport.rtp.packet import RtpPacket

FRAME_MS = pytest.mark.parametrize("frame_ms", [2.5, 5, 10, 20, 40, 60])


@cache
def speech(seconds: float = 2.0) -> Samples:
    """The beginning of the reading, without the breath before it."""
    return human_voice()[9_600:][: round(seconds * SAMPLE_RATE)]


def level_db(samples: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-12))


# ------------------------------------------------------------------ a clean network
@FRAME_MS
@pytest.mark.parametrize("delay_ms", [90.0, 1_000.5])
def test_what_is_heard_is_what_was_sent_at_its_media_time_plus_d(
    frame_ms: float, delay_ms: float
) -> None:
    """To the last sample, and sooner or later nothing: no rate is off, so nothing is resampled."""
    programme = Programme(speech(0.6), frame_ms=frame_ms, delay_ms=delay_ms)
    heard = Loudspeaker([programme]).play(2 * SECOND)
    assert np.abs(heard - programme.heard(0, len(heard))).max() < 1e-6
    assert level_db(heard) > -40


@pytest.mark.parametrize("offset", [0, 2**32 - 1_000, 2**31])
@pytest.mark.parametrize("first_sequence", [0, 65_530])
def test_neither_wrap_of_rtp_is_heard(offset: int, first_sequence: int) -> None:
    programme = Programme(speech(0.6), offset=offset, first_sequence=first_sequence)
    loudspeaker = Loudspeaker([programme])
    heard = loudspeaker.play(SECOND)
    assert snr_db(heard, programme.heard(0, len(heard))) > 100
    assert set(loudspeaker.player.counts()) == {"received"}


def test_the_timestamp_may_wrap_in_mid_sentence() -> None:
    plain = Programme(speech(0.6))
    offset = -(plain.start + 10 * plain.frame) % 2**32
    programme = Programme(speech(0.6), offset=offset)
    stamps = [RtpPacket.parse(packet.data).timestamp for packet in programme.packets[:-1]]
    assert stamps[10] == 0
    heard = Loudspeaker([programme]).play(SECOND)
    assert snr_db(heard, programme.heard(0, len(heard))) > 100


@pytest.mark.parametrize("dac_ppm", [-50.0, 50.0])
@pytest.mark.parametrize("offset_s", [-3_600.0, 7.5])
def test_a_wrong_crystal_and_a_wrong_clock_are_not_heard(
    tmp_path: Path, dac_ppm: float, offset_s: float
) -> None:
    """Before the microphone, in true time, it is the reference at media time + D."""
    programme = Programme(speech(), start=15 * SAMPLE_RATE)
    world = Simulation(dac_ppm=dac_ppm, dac_wander_ppm=2, seed=5)
    loudspeaker = Loudspeaker([programme], own=OwnClock(offset_s, 40), world=world)
    loudspeaker.record(tmp_path / "a.wav", 18 * SECOND)
    first = 15 * SAMPLE_RATE + programme.delay
    recording = Recording.load(tmp_path / "a.wav")
    reference = Recording(programme.heard(first * SECOND // SAMPLE_RATE, 90_000), SAMPLE_RATE, 0)
    shifted = replace(recording, first_sample_time_ns=-first * SECOND // SAMPLE_RATE)
    offset = offset_seconds(reference, shifted, SECOND // 10, SECOND, 0.01)
    assert abs(offset.seconds) < 2e-6
    assert offset.correlation > 0.9999


# ------------------------------------------------------------------ two in step
@pytest.mark.parametrize(("delivery", "seed"), [("lan", 1), ("lossy", 1), ("lossy", 2)])
def test_two_loudspeakers_are_in_step_within_fifty_microseconds(
    tmp_path: Path, delivery: str, seed: int
) -> None:
    """Each has its own wrong clock, wandering crystal, noisy readings, and its own network."""
    lossy = Impairments(loss=0.05, delay_ns=MS, jitter=Jitter("exponential", 5 * MS))
    path = lossy if delivery == "lossy" else Impairments(delay_ns=MS)
    asking = Impairments(delay_ns=MS // 5, jitter=Jitter("exponential", 50_000))
    recordings = []
    programme = Programme(speech(3), start=15 * SAMPLE_RATE)
    for number, sign in enumerate((-1, 1)):
        own = OwnClock(sign * 5.0, sign * 45, wander_ppm=1, phase=float(number))
        rng = np.random.default_rng((seed, number))
        world = Simulation(
            dac_ppm=-sign * 40, dac_wander_ppm=2, reading_noise_us=30, seed=10 * seed + number
        )
        loudspeaker = Loudspeaker(
            [programme],
            path,
            seed=10 * seed + number,
            own=own,
            world=world,
            learns=exchanges(own, (Link(asking, rng), Link(asking, rng)), rng, 19),
        )
        loudspeaker.record(tmp_path / f"{number}.wav", 19 * SECOND)
        recordings.append(Recording.load(tmp_path / f"{number}.wav"))
    one, other = recordings
    for start_ms in (15_500, 16_200, 16_900):
        offset = offset_seconds(one, other, start_ms * MS, 700 * MS, 0.02)
        assert abs(offset.seconds) < 50e-6


# ------------------------------------------------------------------ a bad one
def test_five_percent_of_loss_is_concealed_and_counted() -> None:
    programme = Programme(speech(4))
    loudspeaker = Loudspeaker([programme], Impairments(loss=0.05), seed=3)
    heard = loudspeaker.play(5 * SECOND)
    counts = loudspeaker.player.counts()
    assert counts["lost"] == loudspeaker.link.lost > 5
    assert counts["concealed"] == counts["lost"]
    assert set(counts) == {"received", "lost", "concealed"}
    # Every hole is filled with something, and what is whole is where it belongs.
    expected = programme.heard(0, len(heard))
    blocks, wanted = heard.reshape(-1, 960), expected.reshape(-1, 960)
    loud = np.flatnonzero(np.abs(wanted).max(axis=1) > 0.1)
    assert all(np.abs(blocks[index]).max() > 0.003 for index in loud)
    assert snr_db(heard, expected) > 5


@pytest.mark.parametrize(
    "path",
    [
        Impairments(duplicate=0.5),
        Impairments(reorder=Straggle(0.3, 50 * MS)),
        Impairments(delay_ns=10 * MS, jitter=Jitter("exponential", 15 * MS)),
        Impairments(duplicate=0.3, reorder=Straggle(0.2, 100 * MS), delay_ns=30 * MS),
    ],
    ids=["duplicates", "reordering", "jitter", "all of it"],
)
def test_what_d_can_absorb_is_not_heard_at_all(path: Impairments) -> None:
    programme = Programme(speech())
    loudspeaker = Loudspeaker([programme], path, seed=4)
    heard = loudspeaker.play(3 * SECOND)
    assert snr_db(heard, programme.heard(0, len(heard))) > 100
    counts = loudspeaker.player.counts()
    assert set(counts) <= {"received", "dropped_duplicate"}
    assert counts["received"] == len(programme.packets) - 1  # the goodbye is no packet of sound
    assert loudspeaker.link.duplicated - counts["dropped_duplicate"] in {0, 1}


def test_jitter_beyond_d_costs_the_late_frames_and_no_others() -> None:
    programme = Programme(speech(4), delay_ms=80)
    path = Impairments(tail=Straggle(0.1, 200 * MS))
    loudspeaker = Loudspeaker([programme], path, seed=5)
    heard = loudspeaker.play(5 * SECOND)
    counts = loudspeaker.player.counts()
    assert counts["dropped_late"] > 5
    # The last frame may be late too, and nobody knows that there was one.
    assert 0 <= counts["dropped_late"] - counts["concealed"] <= 1
    assert counts["received"] == len(programme.packets) - 1
    assert snr_db(heard, programme.heard(0, len(heard))) > 3


def test_in_band_fec_is_used_where_the_next_packet_is_at_hand() -> None:
    with_fec = Programme(speech(4), fec=True)
    with_fec.packets[:-1] = [p for index, p in enumerate(with_fec.packets[:-1]) if index % 5 != 2]
    without = Programme(speech(4), fec=True)
    without.packets[:] = with_fec.packets
    without.spec = replace(with_fec.spec, inband_fec=False)
    ratios = []
    for programme in (with_fec, without):
        loudspeaker = Loudspeaker([programme])
        heard = loudspeaker.play(5 * SECOND)
        ratios.append(snr_db(heard, programme.heard(0, len(heard))))
        assert loudspeaker.player.counts()["concealed"] == 40
    assert ratios[0] > ratios[1] + 3


def test_after_half_a_second_of_nothing_there_is_silence_and_then_the_voice_again() -> None:
    programme = Programme(speech(4))
    dead = range(SECOND, 3 * SECOND)
    programme.packets[:] = [p for p in programme.packets if p.true_ns not in dead]
    loudspeaker = Loudspeaker([programme])
    heard = loudspeaker.play(5 * SECOND)
    # Frames that were sent before second 1 sound until 1.2 s; those of 3 s from 3.18 s on.
    silent = heard[round(1.75 * SAMPLE_RATE) : round(3.15 * SAMPLE_RATE)]
    assert not silent.any()
    resumed = slice(round(3.4 * SAMPLE_RATE), round(4.0 * SAMPLE_RATE))
    assert snr_db(heard[resumed], programme.heard(0, len(heard))[resumed]) > 15


def test_a_pause_of_discontinuous_transmission_stays_quiet_and_ends_on_time() -> None:
    sound = np.concatenate((speech(1), np.zeros(3 * SAMPLE_RATE, np.float32), speech(1)))
    programme = Programme(sound, dtx=True)
    assert programme.payloads.count(b"") > 80
    heard = Loudspeaker([programme]).play(6 * SECOND)
    pause = heard[round(1.4 * SAMPLE_RATE) : round(4.15 * SAMPLE_RATE)]
    assert level_db(pause) < -60
    with_silence = Programme(sound)
    expected = with_silence.heard(0, len(heard))
    both = [Recording(samples, SAMPLE_RATE, 0) for samples in (expected, heard)]
    offset = offset_seconds(both[0], both[1], 4_300 * MS, 800 * MS)
    assert abs(offset.seconds) < 50e-6
    assert offset.correlation > 0.9


# ------------------------------------------------------------------ sealed
@FRAME_MS
def test_a_sealed_voice_is_heard_as_one_in_clear_is(frame_ms: float) -> None:
    programme = Programme(speech(0.6), frame_ms=frame_ms, sealed=True)
    loudspeaker = Loudspeaker([programme])
    heard = loudspeaker.play(SECOND)
    assert np.abs(heard - programme.heard(0, len(heard))).max() < 1e-6
    assert set(loudspeaker.player.counts()) == {"received"}


REORDERED = Impairments(delay_ns=5 * MS, reorder=Straggle(0.3, 100 * MS), duplicate=0.1)


@pytest.mark.parametrize("path", [Impairments(), REORDERED], ids=["clean", "reordered"])
@pytest.mark.parametrize(
    ("epoch_packets", "rekeys"),
    [(20, ()), (65_000, tuple(range(0, 660, 60))), (70, tuple(range(30, 660, 60)))],
    ids=["full", "forced", "both"],
)
def test_ten_epochs_change_without_a_lost_frame_or_a_click(
    path: Impairments, epoch_packets: int, rekeys: tuple[int, ...]
) -> None:
    """A fifth of a second of frames, some of the former epoch, is under way at each change."""
    sound = np.concatenate([speech(4)] * (1 if epoch_packets == 20 else 4))
    programme = Programme(sound, sealed=True, epoch_packets=epoch_packets, rekeys=rekeys)
    sound_packets = programme.packets[:-1]
    assert len({RtpPacket.parse(p.data).ssrc for p in sound_packets}) > 10
    loudspeaker = Loudspeaker([programme], path, seed=6)
    heard = loudspeaker.play((len(sound) // SAMPLE_RATE + 1) * SECOND)
    assert snr_db(heard, programme.heard(0, len(heard))) > 100
    counts = loudspeaker.player.counts()
    assert counts["received"] == len(sound_packets)
    assert set(counts) <= {"received", "dropped_replay"}


def test_a_loudspeaker_that_joins_in_a_later_epoch_hears_the_rest() -> None:
    programme = Programme(speech(4), sealed=True, epoch_packets=30)
    at_ns, spec = next(told for told in programme.told if told[0] >= 2 * SECOND)
    programme.spec = spec
    programme.told = [(0, spec), *(told for told in programme.told if told[0] > at_ns)]
    programme.packets[:] = [p for p in programme.packets if p.true_ns >= at_ns]
    loudspeaker = Loudspeaker([programme])
    heard = loudspeaker.play(5 * SECOND)
    later = slice(3 * SAMPLE_RATE, None)
    assert snr_db(heard[later], programme.heard(0, len(heard))[later]) > 15
    assert set(loudspeaker.player.counts()) == {"received"}


def test_losses_are_counted_within_each_epoch() -> None:
    programme = Programme(speech(4), sealed=True, epoch_packets=50)
    sound_packets = len(programme.packets) - 1
    missing = {7, 8, 60, 110, 130}
    programme.packets[:] = [p for n, p in enumerate(programme.packets) if n not in missing]
    loudspeaker = Loudspeaker([programme])
    loudspeaker.play(5 * SECOND)
    counts = loudspeaker.player.counts()
    assert (counts["lost"], counts["received"]) == (5, sound_packets - 5)


# ------------------------------------------------------------------ hostile bytes
class Spoiler:
    """Turns some bits of some datagrams over."""

    def __init__(self, share: float, rng: np.random.Generator) -> None:
        self._share, self._rng = share, rng
        self.count = 0

    def __call__(self, data: bytes) -> bytes:
        if self._rng.random() >= self._share:
            return data
        self.count += 1
        spoilt = bytearray(data)
        for at in self._rng.integers(0, len(data), 5):
            spoilt[at] ^= 1 << int(self._rng.integers(8))
        return bytes(spoilt)


@pytest.mark.parametrize("fec", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("sealed", [False, True])
def test_spoilt_packets_are_survived(seed: int, fec: bool, sealed: bool) -> None:
    programme = Programme(speech(4), fec=fec, sealed=sealed)
    loudspeaker = Loudspeaker([programme], Impairments(loss=0.1), seed=seed)
    change = Spoiler(0.3, np.random.default_rng(seed))
    heard = loudspeaker.play(5 * SECOND, change)
    assert change.count > 30
    assert np.all(np.abs(heard) <= 1.05)  # the interpolator may overshoot a clipped sample
    assert loudspeaker.player.counts().total() > 100


def test_a_payload_that_opus_refuses_is_concealed_and_counted() -> None:
    programme = Programme(speech(1), fec=True)
    rubbish = bytes((programme.payloads[0][0] | 3, 0x83)) + b"\xff" * 20
    for index in (10, 11, 20):
        packet = RtpPacket.parse(programme.packets[index].data)
        data = replace(packet, payload=rubbish[:22]).serialise()
        programme.packets[index] = replace(programme.packets[index], data=data)
    loudspeaker = Loudspeaker([programme])
    loudspeaker.play(2 * SECOND)
    assert loudspeaker.player.counts()["dropped_opus"] == 3


def test_a_spoilt_packet_that_is_sealed_is_lost_and_no_more() -> None:
    programme = Programme(speech(4), sealed=True, goodbye=False)
    loudspeaker = Loudspeaker([programme])
    change = Spoiler(0.3, np.random.default_rng(1))
    loudspeaker.play(5 * SECOND, change)
    counts = loudspeaker.player.counts()
    assert counts["received"] == len(programme.packets) - change.count
    assert counts["dropped_opus"] == 0


# ------------------------------------------------------------------ who is heard
def test_a_later_voice_pre_empts_and_the_earlier_resumes() -> None:
    """Each at the sample where it is due, not where its first packet came in."""
    long = Programme(speech(4), delay_ms=500)
    alert = Programme(speech(1), SAMPLE_RATE, ssrc=2, order=2, delay_ms=500, frame_ms=60)
    heard = Loudspeaker([long, alert]).play(5 * SECOND)
    long_alone, alert_alone = (p.heard(0, len(heard)) for p in (long, alert))
    begins = round(alert.sounds_from_ns() * SAMPLE_RATE / SECOND)
    ends = begins + len(alert.payloads) * alert.frame
    fader = Fader()
    for target, at in ((1.0, begins), (0.0, ends)):
        fader.turn(target, at)
    gains = fader.gains(0, np.arange(len(heard), dtype=np.float64))
    expected = long_alone * (1 - gains) + alert_alone
    before, during, after = slice(0, ends), slice(begins, ends), slice(ends, 4 * SAMPLE_RATE)
    assert snr_db(heard[before], expected[before]) > 100
    assert snr_db(heard[during], expected[during]) > 100
    print(snr_db(heard[after], expected[after]))
    # The decoder was given 80 ms to find back into the interrupted voice.
    assert snr_db(heard[after], expected[after]) > 25


def test_a_ticket_nobody_speaks_on_silences_nobody() -> None:
    programme = Programme(speech(1))
    silent = Programme(speech(0.1), ssrc=2, order=9)
    silent.packets.clear()
    heard = Loudspeaker([programme, silent]).play(2 * SECOND)
    assert snr_db(heard, programme.heard(0, len(heard))) > 100


def test_a_voice_whose_every_frame_comes_too_late_silences_nobody() -> None:
    programme = Programme(speech(1))
    late = Programme(speech(1), ssrc=2, order=9, delay_ms=10)
    heard = Loudspeaker([programme, late]).play(2 * SECOND)
    assert snr_db(heard, programme.heard(0, len(heard))) > 100


def test_an_earlier_voice_that_begins_meanwhile_waits() -> None:
    later = Programme(speech(1), ssrc=2, order=9)
    earlier = Programme(speech(1), SAMPLE_RATE // 2)
    heard = Loudspeaker([earlier, later]).play(3 * SECOND)
    ends = round(later.sounds_from_ns() * SAMPLE_RATE / SECOND) + 51 * later.frame
    assert snr_db(heard[:ends], later.heard(0, len(heard))[:ends]) > 100


def test_after_a_goodbye_nothing_is_invented() -> None:
    programme = Programme(speech(1))
    heard = Loudspeaker([programme]).play(3 * SECOND)
    last = np.flatnonzero(heard)[-1]
    ends = round(programme.sounds_from_ns() * SAMPLE_RATE / SECOND)
    assert last < ends + len(programme.payloads) * programme.frame + 16


def test_a_goodbye_that_overtakes_the_last_frames_costs_none_of_them() -> None:
    programme = Programme(speech(1))
    goodbye = programme.packets.pop()
    programme.packets.insert(40, replace(goodbye, true_ns=programme.packets[40].true_ns))
    heard = Loudspeaker([programme]).play(2 * SECOND)
    assert snr_db(heard, programme.heard(0, len(heard))) > 100


def test_memory_is_bounded_when_a_voice_is_not_heard_for_minutes() -> None:
    alert, hidden = (Programme(speech(1), ssrc=n, order=n, goodbye=False) for n in (2, 1))
    loudspeaker = Loudspeaker([alert, hidden], later=True)
    held = []
    for second in range(90):
        loudspeaker.queue([alert, hidden], second)
        loudspeaker.play((second + 1) * SECOND)
        voices = loudspeaker.player._voices.values()
        held.append(sum(len(v.receiver.buffer) + len(v._history) // 960 for v in voices))
    assert max(held[1:]) <= 2 * (200 // 20 + 3)
    assert loudspeaker.player.counts()["received"] > 2 * 90 * 50 - 10


# ------------------------------------------------------------------ clocks that change
@pytest.mark.parametrize("wrong_s", [-5.0, -0.01, 0.01, 5.0])
def test_a_clock_that_was_wrong_and_is_put_right_finds_the_place_at_once(wrong_s: float) -> None:
    programme = Programme(speech(4))
    loudspeaker = Loudspeaker([programme])
    right = loudspeaker.estimate
    assert right is not None
    loudspeaker.estimate = replace(right, base_ns=right.base_ns + round(wrong_s * SECOND))
    loudspeaker.play(SECOND)
    loudspeaker.estimate = right
    loudspeaker.player.clock_changed()
    heard = loudspeaker.play(4 * SECOND)
    # A decoder that begins in mid-sentence needs a moment.
    expected = programme.heard(SECOND, len(heard))
    later = slice(SAMPLE_RATE // 2, None)
    assert snr_db(heard[later], expected[later]) > 15


def test_a_step_of_the_loudspeakers_own_clock_is_mended() -> None:
    programme = Programme(speech(4))
    loudspeaker = Loudspeaker([programme])
    loudspeaker.play(SECOND)
    right = loudspeaker.estimate
    assert right is not None
    loudspeaker.own = OwnClock(30.0)  # the machine slept
    loudspeaker.play(round(1.2 * SECOND))
    loudspeaker.estimate = replace(right, base_ns=right.base_ns - 30 * SECOND)
    loudspeaker.player.clock_changed()
    heard = loudspeaker.play(4 * SECOND)
    expected = programme.heard(round(1.2 * SECOND), len(heard))
    later = slice(SAMPLE_RATE // 2, None)
    assert snr_db(heard[later], expected[later]) > 15


def test_without_knowledge_of_the_clock_there_is_silence() -> None:
    programme = Programme(speech(1))
    loudspeaker = Loudspeaker([programme])
    loudspeaker.estimate = None
    assert not loudspeaker.play(2 * SECOND).any()
    assert loudspeaker.player.state == "syncing"
    assert loudspeaker.player.counts()["dropped_no_clock"] == len(programme.packets)


def test_a_voice_whose_every_frame_comes_too_late_is_counted_as_late() -> None:
    late = Programme(speech(1), delay_ms=10)
    speaker = Loudspeaker([late])
    speaker.play(2 * SECOND)
    counts = speaker.player.counts()
    assert counts["dropped_late"] == counts["received"] > 40
