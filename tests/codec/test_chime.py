import itertools

import numpy as np
import pytest

from codec.sources.chime import CHIME_SAMPLES, LEVEL_DBFS, ChimeSource, chime


def test_it_lasts_two_seconds_at_the_level_it_says() -> None:
    sound = chime()
    assert sound.dtype == np.float32
    assert sound.shape == (CHIME_SAMPLES,) == (96_000,)
    assert np.max(np.abs(sound)) == pytest.approx(10 ** (LEVEL_DBFS / 20), rel=1e-6)
    assert np.max(np.abs(chime(-20))) == pytest.approx(0.1, rel=1e-6)


def test_neither_end_clicks() -> None:
    sound = chime(0)
    for end in (sound[:48], sound[::-1][:48]):
        assert end[0] == 0
        assert np.max(np.abs(np.diff(end))) < 0.02


def test_it_has_no_step_anywhere() -> None:
    # The second strike, the attack and the fade included: no faster than its highest partial.
    assert np.max(np.abs(np.diff(chime(0)))) < 0.25


@pytest.mark.parametrize(("start", "pitch"), [(0.1, 659.255), (1.0, 523.251)])
def test_the_bells_have_their_pitches(start: float, pitch: float) -> None:
    part = chime()[round(start * 48_000) :][:19_200]
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 18))
    assert np.argmax(spectrum) * 48_000 / (1 << 18) == pytest.approx(pitch, abs=1)


def test_it_decays() -> None:
    energies = [float(np.sum(part**2)) for part in np.split(chime()[28_800:], 4)]
    assert all(later < earlier / 2 for earlier, later in itertools.pairwise(energies))


def test_as_a_source_it_is_cut_into_blocks_and_ends() -> None:
    blocks = list(ChimeSource(channels=2).blocks(500))
    assert blocks[0].shape == (500, 2)
    whole = np.concatenate(blocks)
    assert np.array_equal(whole[:, 0], chime())
    assert np.array_equal(whole[:, 0], whole[:, 1])
    assert len(list(ChimeSource())) == 200


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="level_dbfs"):
        chime(1)
    with pytest.raises(ValueError, match="channels"):
        ChimeSource(channels=3)
