import gc
import tracemalloc
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.errors import CorruptPacket
from codec.format import FRAME_MS, Samples
from codec.opus import MAX_PACKET_SAMPLES, Decoder, Encoder, EncoderSettings, packet_samples

VOICE = Path(__file__).parents[2] / "bench" / "audio" / "voice.wav"


def sine(samples: int, frequency: float = 2_000.0, amplitude: float = 0.3) -> Samples:
    # High enough that the phase of "voip"'s high-pass filter does not show.
    wave = amplitude * np.sin(2 * np.pi * frequency / 48_000 * np.arange(samples))
    return np.asarray(wave, np.float32)


def voice() -> Samples:
    with wave.open(str(VOICE)) as file:
        narrow = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    positions = np.arange(3 * len(narrow)) / 3
    return np.interp(positions, np.arange(len(narrow)), narrow).astype(np.float32)


def frames_of(sound: Samples, samples: int) -> list[Samples]:
    return [sound[at : at + samples] for at in range(0, len(sound) - samples + 1, samples)]


def encode_all(settings: EncoderSettings, sound: Samples) -> list[bytes]:
    encoder = Encoder(settings)
    return [encoder.encode(frame) for frame in frames_of(sound, encoder.frame_samples)]


def similarity(a: Samples, b: Samples) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.mark.parametrize("frame_ms", FRAME_MS)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("application", ["voip", "audio", "lowdelay"])
def test_a_sine_comes_back_after_the_lookahead(
    frame_ms: float, channels: int, application: Any
) -> None:
    settings = EncoderSettings(
        bitrate=96_000 * channels, frame_ms=frame_ms, channels=channels, application=application
    )
    sound = sine(48_000)
    if channels == 2:
        sound = np.stack([sound, sine(48_000, 2_500)], axis=1)
    encoder, decoder = Encoder(settings), Decoder(channels)
    heard = np.concatenate(
        [decoder.decode(encoder.encode(f)) for f in frames_of(sound, encoder.frame_samples)]
    )
    lag = encoder.lookahead
    assert heard.shape[1:] == sound.shape[1:]
    tail = heard[9_600 + lag : 38_400 + lag]
    assert similarity(sound[9_600:38_400], tail) > 0.99
    for error in (-2, 2):
        beside = heard[9_600 + lag + error : 38_400 + lag + error]
        assert similarity(sound[9_600:38_400], tail) > similarity(sound[9_600:38_400], beside)


def test_lowdelay_looks_ahead_less() -> None:
    assert Encoder(EncoderSettings()).lookahead == 312
    assert Encoder(EncoderSettings(application="lowdelay")).lookahead == 120


def test_a_mono_decoder_plays_stereo_packets_and_a_stereo_one_mono() -> None:
    sound = sine(9_600)
    mono = encode_all(EncoderSettings(), sound)
    stereo = encode_all(EncoderSettings(channels=2), np.stack([sound, sound], axis=1))
    assert Decoder(2).decode(mono[0]).shape == (480, 2)
    assert Decoder(1).decode(stereo[0]).shape == (480,)


@pytest.mark.parametrize("frame_ms", [10, 20, 60])
@pytest.mark.parametrize("bitrate", [12_000, 24_000, 64_000])
@pytest.mark.parametrize("vbr", [True, False])
def test_the_bitrate_is_kept(bitrate: int, frame_ms: float, vbr: bool) -> None:
    packets = encode_all(EncoderSettings(bitrate=bitrate, frame_ms=frame_ms, vbr=vbr), voice())
    measured = 8 * sum(map(len, packets)) / (len(packets) * frame_ms / 1000)
    assert measured == pytest.approx(bitrate, rel=0.15)
    if not vbr:
        assert len({len(packet) for packet in packets}) == 1


@pytest.mark.parametrize("frame_ms", [10, 20, 60])
def test_dtx_sends_nothing_for_most_of_a_silence(frame_ms: float) -> None:
    silence = np.zeros(5 * 48_000, np.float32)
    talking = encode_all(EncoderSettings(frame_ms=frame_ms, dtx=False), silence)
    saving = encode_all(EncoderSettings(frame_ms=frame_ms, dtx=True), silence)
    assert all(talking)
    assert sum(map(bool, saving)) < len(talking) / 3


def test_dtx_does_not_swallow_speech() -> None:
    packets = encode_all(EncoderSettings(frame_ms=20, dtx=True), voice())
    assert sum(map(bool, packets)) > 0.6 * len(packets)


def spectrum_error(reference: Samples, heard: Samples) -> float:
    """Distance of log spectra in dB, which hears a wrong sound but forgives its phase."""
    pair = [
        20 * np.log10(np.abs(np.fft.rfft(x * np.hanning(len(x))))[:160] + 1e-3)
        for x in (reference, heard)
    ]
    return float(np.sqrt(np.mean((pair[0] - pair[1]) ** 2)))


def test_fec_restores_a_lost_frame_better_than_concealment() -> None:
    settings = EncoderSettings(
        bitrate=32_000, frame_ms=20, inband_fec=True, expected_loss_percent=20
    )
    packets = encode_all(settings, voice())
    errors: dict[str, list[float]] = {"conceal": [], "recover": []}
    whole, broken = Decoder(), {"conceal": Decoder(), "recover": Decoder()}
    for index, packet in enumerate(packets[:-1]):
        truth = whole.decode(packet)
        lost = index % 5 == 4
        loud = float(np.sqrt(np.mean(truth**2))) > 0.02
        for way, decoder in broken.items():
            if not lost:
                decoder.decode(packet)
                continue
            heard = (
                decoder.conceal(960)
                if way == "conceal"
                else decoder.recover(packets[index + 1], 960)
            )
            assert heard.shape == truth.shape
            if loud:
                errors[way].append(spectrum_error(truth, heard))
    assert len(errors["recover"]) > 20
    assert np.mean(errors["recover"]) < 0.75 * np.mean(errors["conceal"])


def test_concealment_continues_the_sound() -> None:
    packets = encode_all(EncoderSettings(bitrate=64_000), sine(24_000))
    decoder = Decoder()
    for packet in packets[:-1]:
        decoder.decode(packet)
    invented = decoder.conceal(480)
    assert np.sqrt(np.mean(invented**2)) > 0.1
    whole = Decoder()
    truth = [whole.decode(packet) for packet in packets][-1]
    assert similarity(invented, truth) > 0.9


@pytest.mark.parametrize("samples", [0, -120, 100, 481, 5880])
def test_a_gap_is_whole_steps_of_2_5_ms(samples: int) -> None:
    packet = encode_all(EncoderSettings(), sine(480))[0]
    with pytest.raises(ValueError, match="gap"):
        Decoder().conceal(samples)
    with pytest.raises(ValueError, match="gap"):
        Decoder().recover(packet, samples)


@pytest.mark.parametrize("frame_ms", FRAME_MS)
def test_packet_samples_is_the_frame(frame_ms: float) -> None:
    encoder = Encoder(EncoderSettings(frame_ms=frame_ms))
    packet = encoder.encode(sine(encoder.frame_samples))
    assert packet_samples(packet) == encoder.frame_samples


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b"", "empty"),
        (b"\x03", "code 3 without its count"),
        (b"\x03\x00", "code 3 with no frames"),
        (b"\x1b\x03", "three frames of 60 ms"),
        (b"\x83\x31" + bytes(49), "49 frames of 2.5 ms"),
    ],
)
def test_rubbish_is_a_corrupt_packet(packet: bytes, why: str) -> None:
    with pytest.raises(CorruptPacket):
        packet_samples(packet)
    with pytest.raises(CorruptPacket):
        Decoder().decode(packet)
    with pytest.raises(CorruptPacket):
        Decoder().recover(packet, 960)


@given(st.binary(max_size=400))
def test_packet_samples_of_any_bytes_is_a_duration_or_corrupt(packet: bytes) -> None:
    try:
        samples = packet_samples(packet)
    except CorruptPacket:
        return
    assert 0 < samples <= MAX_PACKET_SAMPLES
    assert samples % 120 == 0


@given(st.lists(st.binary(max_size=200), max_size=6), st.sampled_from([1, 2]))
def test_any_bytes_decode_to_bounded_sound_or_are_corrupt(
    packets: list[bytes], channels: int
) -> None:
    decoder = Decoder(channels)
    for packet in packets:
        for act in (decoder.decode, lambda p: decoder.recover(p, 960)):
            try:
                pcm = act(packet)
            except CorruptPacket:
                continue
            assert pcm.dtype == np.float32
            assert np.all(np.abs(pcm) <= 1.0)


def test_a_decoder_goes_on_after_a_corrupt_packet() -> None:
    packets = encode_all(EncoderSettings(), sine(48_000))
    decoder = Decoder()
    for packet in packets[:50]:
        decoder.decode(packet)
    with pytest.raises(CorruptPacket):
        decoder.decode(b"\x03\x00")
    assert np.sqrt(np.mean(decoder.decode(packets[50]) ** 2)) > 0.1


def test_a_decoded_block_survives_the_next_call() -> None:
    packets = encode_all(EncoderSettings(), sine(4_800))
    decoder = Decoder()
    block = [decoder.decode(packet) for packet in packets][-1]
    before = block.copy()
    decoder.conceal(480)
    assert np.array_equal(block, before)


@pytest.mark.parametrize(
    "pcm",
    [
        np.zeros(479, np.float32),
        np.zeros((480, 1), np.float32),
        np.zeros((480, 2), np.float32),
        np.zeros(480, np.float64),
        np.zeros(480, np.int16),
    ],
)
def test_the_encoder_takes_exactly_one_frame(pcm: Any) -> None:
    with pytest.raises(ValueError, match="expected float32"):
        Encoder(EncoderSettings()).encode(pcm)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bitrate": 512_001},
        {"frame_ms": 15},
        {"frame_ms": 120},
        {"channels": 3},
        {"complexity": 11},
        {"application": "music"},
        {"expected_loss_percent": 101},
    ],
)
def test_senseless_settings_cannot_exist(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong)))):
        EncoderSettings(**wrong)


LEAST = {2.5: 9_600, 5: 4_800, 10: 2_400, 20: 1_200, 40: 2_400, 60: 2_400}


@pytest.mark.parametrize(("frame_ms", "least"), LEAST.items())
def test_the_least_bitrate_still_carries_sound(frame_ms: float, least: int) -> None:
    """Below it libopus codes empty frames and reports no error."""
    settings = EncoderSettings(bitrate=least, frame_ms=frame_ms)
    assert np.mean([len(packet) > 2 for packet in encode_all(settings, voice()[:96_000])]) > 0.9
    with pytest.raises(ValueError, match=f"bitrate must be from {least}"):
        EncoderSettings(bitrate=least - 1, frame_ms=frame_ms)


def test_decoding_leaves_nothing_behind_even_without_the_collector() -> None:
    packets = encode_all(EncoderSettings(), sine(48_000))
    decoder = Decoder()
    for packet in packets:
        decoder.decode(packet)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            for packet in packets:
                decoder.decode(packet)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()
    assert grown < 20_000


@pytest.mark.parametrize(
    ("make", "count"), [(lambda: Encoder(EncoderSettings()), 500), (Decoder, 1_000)]
)
def test_states_are_given_back_to_libopus(make: Callable[[], object], count: int) -> None:
    def resident_pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    for _ in range(50):
        make()
    before = resident_pages()
    for _ in range(count):
        make()
    # Some 50 and 20 KB each: leaked, they would be 5,000 pages and more.
    assert resident_pages() - before < 1_000


def test_complexity_reaches_the_encoder() -> None:
    sound = voice()[:96_000]
    quick = encode_all(EncoderSettings(complexity=0), sound)
    assert quick != encode_all(EncoderSettings(complexity=10), sound)


@pytest.mark.parametrize("frame_ms", [20.0, 40.0, 60.0])
def test_no_packet_is_larger_than_it_may_be(frame_ms: float) -> None:
    loud = np.random.default_rng(1).uniform(-1, 1, 48_000).astype(np.float32)
    settings = EncoderSettings(bitrate=160_000, frame_ms=frame_ms, max_packet_bytes=300)
    packets = encode_all(settings, loud)
    assert 200 < max(map(len, packets)) <= 300


@pytest.mark.parametrize("most", [2, 4001])
def test_a_largest_packet_that_cannot_be_is_refused(most: int) -> None:
    with pytest.raises(ValueError, match="max_packet_bytes must be"):
        EncoderSettings(max_packet_bytes=most)
