"""`loa calibrate` and `loa speakers delay`: what a person measures, and what is kept of it."""

import json
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec.format import SAMPLE_RATE, Samples
from codec.pcm import pcm16
from tests.support.rooms import recorded

Desk = Any  # the fixture's; see conftest
AtDesk = Callable[[Callable[[Desk], Awaitable[None]]], None]
LATER_S = 0.0125


def write(path: Path, sound: Samples) -> Path:
    """Any number of channels, 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1 if sound.ndim == 1 else sound.shape[1], 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(pcm16(sound))
    return path


@pytest.fixture(scope="module")
def heard() -> Samples:
    """The second is heard 12.5 ms after the first."""
    draw = np.random.default_rng(7)
    return recorded(draw, LATER_S, (np.ones(1), np.ones(1)), snr_db=20, recorder_ppm=30)


@pytest.fixture
def recording(tmp_path: Path, heard: Samples) -> Path:
    return write(tmp_path / "heard.wav", heard)


def _trims(desk: Desk) -> dict[str, int]:
    endpoints = desk.room.control.station.directory.endpoints
    return {name: endpoint.trim_us for name, endpoint in endpoints.items()}


def _join(desk: Desk, *names: str) -> None:
    for name in names:
        desk.room.join(name)


# ------------------------------------------------------------------ a recording
def test_the_second_is_trimmed_to_the_first(at_desk: AtDesk, recording: Path) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "a", "b")
        await desk.says("speakers", "set", "b", "--trim-us", "500")
        said = await desk.says("calibrate", "a", "b", "--recording", str(recording))
        assert said.lines[0].startswith("b sounds 12.5 ms after a, ± 10 µs (")
        assert said.lines[0].endswith("recorder +30 ppm)")
        assert said.lines[1] == "trim of b: 500 µs before, -12000 µs from now on"
        assert _trims(desk) == {"a": 0, "b": -12_000}

    at_desk(scenario)


def test_the_first_is_said_to_sound_before_or_after(at_desk: AtDesk, recording: Path) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "a", "b")
        # Named the other way round than they swept: the sign follows the sweeps.
        said = await desk.says("calibrate", "b", "a", "--recording", str(recording), "--json")
        answer = json.loads(said.out)
        assert answer["later_us"] == pytest.approx(LATER_S * 1e6, abs=3)
        assert (answer["a"], answer["b"], answer["trim_us"]) == ("b", "a", -12_500)
        assert answer["stored"] is True
        assert _trims(desk) == {"a": -12_500, "b": 0}

    at_desk(scenario)


def test_a_dry_run_changes_nothing_and_needs_no_station(
    at_desk: AtDesk, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "a", "b")
        monkeypatch.setenv("LOA_SERVER", "127.0.0.1:1")
        said = await desk.says("calibrate", "a", "b", "--recording", str(recording), "--dry-run")
        assert len(said.lines) == 1
        assert "12.5 ms after a" in said.out
        assert _trims(desk) == {"a": 0, "b": 0}

    at_desk(scenario)


def test_the_way_to_the_microphone_does_not_count(at_desk: AtDesk, recording: Path) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "a", "b")
        # 3.432 m are 10 ms at 20 degrees.
        far = ["--distance-a", "1", "--distance-b", "4.432", "--temperature", "20", "--json"]
        said = await desk.says("calibrate", "a", "b", "--recording", str(recording), *far)
        assert json.loads(said.out)["later_us"] == pytest.approx(2500, abs=5)
        assert _trims(desk)["b"] == pytest.approx(-2500, abs=5)

    at_desk(scenario)


def test_a_telephone_with_two_microphones_of_which_one_is_dead_will_do(
    at_desk: AtDesk, tmp_path: Path, heard: Samples
) -> None:
    path = write(tmp_path / "stereo.wav", np.column_stack((np.zeros_like(heard), heard)))

    async def scenario(desk: Desk) -> None:
        said = await desk.says("calibrate", "a", "b", "--recording", str(path), "--dry-run")
        assert "12.5 ms after a" in said.out

    at_desk(scenario)


def test_what_no_trim_makes_up_for_is_refused(at_desk: AtDesk, recording: Path) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "a", "b")
        await desk.says("speakers", "set", "b", "--trim-us", "-40000")
        said = await desk.loa("calibrate", "a", "b", "--recording", str(recording))
        assert said.status == 1
        assert "b would need a trim of -52500 µs, and 50000 is the most" in said.err
        assert _trims(desk)["b"] == -40_000

    at_desk(scenario)


def test_a_recording_that_does_not_tell_is_one_line(at_desk: AtDesk, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).standard_normal(14 * SAMPLE_RATE) * 0.1
    path = write(tmp_path / "noise.wav", noise.astype(np.float32))

    async def scenario(desk: Desk) -> None:
        _join(desk, "a", "b")
        said = await desk.loa("calibrate", "a", "b", "--recording", str(path))
        assert (said.status, said.out) == (1, "")
        assert said.err.startswith(f"loa calibrate: {path}: no sweeps stand out of the noise")
        assert len(said.err.splitlines()) == 1
        assert _trims(desk)["b"] == 0

    at_desk(scenario)


def test_a_loudspeaker_that_there_is_not_is_named(at_desk: AtDesk, recording: Path) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "a", "b")
        for names in (("a", "bb"), ("aa", "b")):
            said = await desk.loa("calibrate", *names, "--recording", str(recording))
            assert said.status == 1
            assert "no loudspeaker" in said.err
        assert _trims(desk) == {"a": 0, "b": 0}

    at_desk(scenario)


# ------------------------------------------------------------------ what is played
def test_the_sweeps_are_written_as_they_would_be_played(at_desk: AtDesk, tmp_path: Path) -> None:
    async def scenario(desk: Desk) -> None:
        path = tmp_path / "sweeps.wav"
        await desk.says("calibrate", "--sweep", str(path))
        with wave.open(str(path)) as file:
            assert file.getparams()[:4] == (2, 2, SAMPLE_RATE, 12 * SAMPLE_RATE)
            both = np.frombuffer(file.readframes(12 * SAMPLE_RATE), "<i2").reshape(-1, 2)
        mixed = write(tmp_path / "mixed.wav", (both.sum(axis=1) / 65536).astype(np.float32))
        said = await desk.says("calibrate", "a", "b", "--recording", str(mixed), "--dry-run")
        assert said.out.startswith("b sounds 0 µs ")

    at_desk(scenario)


def test_the_sweeps_are_played_to_both_at_once(
    at_desk: AtDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[tuple[tuple[str, ...], tuple[int, ...]]] = []

    def play(_: str, names: tuple[str, ...], sound: Samples) -> None:
        played.append((names, sound.shape))
        assert not np.any(sound[: 5 * SAMPLE_RATE])

    monkeypatch.setattr("server.cli.calibrate.play_together", play)

    async def scenario(desk: Desk) -> None:
        _join(desk, "a", "b")
        said = await desk.says("calibrate", "a", "b", "--play", "--after", "5")
        assert said.lines[0] == "a and b sweep in turn: record now"
        assert played == [(("a", "b"), (17 * SAMPLE_RATE, 2))]
        assert (await desk.loa("calibrate", "a", "c", "--play")).status == 1
        assert len(played) == 1

    at_desk(scenario)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["a", "b"], 2, "one of the arguments --play --recording --sweep is required"),
        (["a", "--play"], 2, "which two?"),
        (["a", "a", "--play"], 2, "a is always in step with itself"),
        (["a", "b", "--play", "--sweep", "x.wav"], 2, "not allowed with"),
        (["a", "b", "--recording", "/nowhere.wav"], 1, "/nowhere.wav: there is no such file"),
        (["--sweep", "/nowhere/x.wav"], 1, "it cannot be written: No such file"),
        (["a", "b", "--recording", "x", "--distance-a", "3"], 2, "give both --distance-a and"),
        (["a", "b", "--recording", "x", "--distance-a", "-3"], 2, "'-3' is no distance"),
        (["a", "b", "--recording", "x", "--temperature", "nan"], 2, "--temperature nan: use"),
        (["a", "b", "--play", "--after", "soon"], 2, "'soon' is no wait: use 0 to 600 seconds"),
    ],
)
def test_what_cannot_be_is_one_line(
    at_desk: AtDesk, words: list[str], status: int, said: str
) -> None:
    async def scenario(desk: Desk) -> None:
        done = await desk.loa("calibrate", *words)
        assert (done.status, done.out) == (status, "")
        assert said in done.err
        assert len(done.err.splitlines()) == 1

    at_desk(scenario)


# ------------------------------------------------------------------ by distance
async def _street(desk: Desk) -> None:
    _join(desk, "near", "far")
    await desk.says("speakers", "set", "near", "--position", "-6.2,106.8")
    await desk.says("speakers", "set", "far", "--position", "-6.2001,106.8")  # 11.1 m


def test_a_street_s_trims_are_shown_before_they_are_kept(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        await _street(desk)
        words = ["speakers", "delay", "--zone", "all", "--from", "-6.1999,106.8"]
        said = await desk.says(*words, "--temperature", "30")
        assert said.cells(0) == ["name", "distance", "trim now", "trim by distance"]
        assert said.cells(1) == ["near", "11.1 m", "-", "-"]
        assert said.cells(2)[:3] == ["far", "22.2 m", "-"]
        assert said.lines[3] == "nothing was changed: --store keeps these"
        assert _trims(desk) == {"near": 0, "far": 0}
        assert (await desk.says(*words, "--store")).lines[3] == "2 loudspeakers trimmed"
        # 11.12 m at 343.2 m/s.
        assert _trims(desk) == {"near": 0, "far": pytest.approx(32_400, abs=20)}

    at_desk(scenario)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--zone", "all"], 2, "required: --from"),
        (["--from", "1,1"], 2, "to whom?"),
        (["--zone", "all", "--from", "here"], 2, "--from here: use LAT,LON in degrees"),
        (["--zone", "all", "--from", "106,6"], 2, "latitude comes first, as in 6,106"),
        (["--to", "lost", "--from", "1,1"], 1, "nobody said where to find lost"),
    ],
)
def test_what_gives_no_trims_is_one_line(
    at_desk: AtDesk, words: list[str], status: int, said: str
) -> None:
    async def scenario(desk: Desk) -> None:
        await _street(desk)
        _join(desk, "lost")
        done = await desk.loa("speakers", "delay", *words)
        assert (done.status, done.out) == (status, "")
        assert said in done.err
        assert len(done.err.splitlines()) == 1

    at_desk(scenario)
