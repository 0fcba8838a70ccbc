"""What a person may get wrong: one clear line, a non-zero exit, and nobody else disturbed."""

import os
import resource
import socket
import subprocess
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.demo import VOICE
from bench.processes import LOA, Bench, wait_until
from server.data import DataFolder

pytestmark = pytest.mark.realtime


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A station with a programme on air to a loudspeaker that must not notice anything."""
    with Bench(tmp_path_factory.mktemp("busy")) as bench:
        bench.start_station()
        bench.start_speaker("steady", "--buffer-ms", "60")
        bench.start_speaker("other", "--output", "null")
        bench.wait_until_idle(["steady", "other"])
        words = [str(VOICE), "--repeat", "100", "--server", bench.address, "--to", "steady"]
        bench.start("live", *words, "--playout-delay-ms", "300", log="live")
        wait_until(lambda: bench.speakers()["steady"]["packets_received"] > 0, "sound")
        yield bench


def _run(
    *words: str, stdin: int = subprocess.DEVNULL, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LOA, *words],
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        preexec_fn=before,
    )


def _live(
    bench: Bench, source: Path | str, *words: str, stdin: int = subprocess.DEVNULL
) -> subprocess.CompletedProcess[str]:
    where = ["--server", bench.address, "--to", "other"]
    return _run("live", str(source), *where, *words, stdin=stdin)


def _assert_one_line(done: subprocess.CompletedProcess[str], *said: str) -> None:
    lines = done.stderr.strip().splitlines()
    assert done.returncode != 0
    assert len(lines) == 1, done.stderr
    for words in said:
        assert words in lines[0]


def _wav(path: Path, frames: bytes) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes(frames)
    return path


def test_a_missing_file(busy: Bench) -> None:
    _assert_one_line(_live(busy, "/nowhere/news.wav"), "/nowhere/news.wav")


def test_a_folder(busy: Bench, tmp_path: Path) -> None:
    _assert_one_line(_live(busy, tmp_path), str(tmp_path))


def test_a_file_that_is_not_audio(busy: Bench) -> None:
    _assert_one_line(_live(busy, __file__), "test_bad_input.py")


def test_an_empty_file(busy: Bench, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    _assert_one_line(_live(busy, tmp_path / "empty.wav"), "empty.wav")


def test_a_file_without_a_sample(busy: Bench, tmp_path: Path) -> None:
    _assert_one_line(_live(busy, _wav(tmp_path / "short.wav", b"")), "short.wav")


def test_a_silent_file(busy: Bench, tmp_path: Path) -> None:
    path = _wav(tmp_path / "silent.wav", bytes(2 * 48_000))
    _assert_one_line(_live(busy, path), "silent.wav", "silent")
    assert [p["name"] for p in busy.get("/api/programmes")] == ["live-1"], "nothing went on air"


def test_an_empty_standard_input(busy: Bench) -> None:
    done = _live(busy, "-", "--raw", "s16le:48000:1")
    _assert_one_line(done, "standard input")


def test_an_unknown_speaker_is_refused_with_the_nearest_names(busy: Bench) -> None:
    done = _run("live", str(VOICE), "--server", busy.address, "--to", "stedy")
    _assert_one_line(done, "'stedy'", "steady")


def test_a_bad_encoder_setting(busy: Bench) -> None:
    _assert_one_line(_live(busy, VOICE, "--frame-ms", "7"), "7")


def test_a_station_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    done = _run("live", str(VOICE), "--server", f"127.0.0.1:{port}", "--to", "all")
    _assert_one_line(done, "station not found", str(port))


def test_something_else_at_the_stations_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = _run("live", str(VOICE), "--server", address, "--to", "all")
    _assert_one_line(done, address)


def test_a_port_in_use(busy: Bench, tmp_path: Path) -> None:
    other = DataFolder(tmp_path / "other")
    other.create("Other")
    words = ("--data", str(other.path), "--port", busy.address.rpartition(":")[2])
    _assert_one_line(_run("serve", *words), "in use", "--port")


def test_a_folder_in_use(busy: Bench) -> None:
    _assert_one_line(_run("serve", "--data", str(busy.data.path)), str(busy.data.path))


def test_a_folder_that_holds_no_station(tmp_path: Path) -> None:
    _assert_one_line(_run("serve", "--data", str(tmp_path)), "loa init")


def test_a_setting_that_cannot_be_is_refused_with_its_line(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "other")
    folder.create("Other", '\nport = "abc"\n')
    _assert_one_line(_run("serve", "--data", str(folder.path)), "line 2", "port")


def test_an_unknown_zone_is_refused(busy: Bench) -> None:
    done = _run("live", str(VOICE), "--server", busy.address, "--zone", "xyz")
    _assert_one_line(done, "'xyz'")


def test_to_nobody(busy: Bench) -> None:
    _assert_one_line(_run("live", str(VOICE), "--server", busy.address), "zone", "all")


@pytest.mark.parametrize("words", [("--gain-db", "90"), ("--repeat", "0")])
def test_a_treatment_that_cannot_be(busy: Bench, words: tuple[str, str]) -> None:
    _assert_one_line(_live(busy, VOICE, *words), words[0])


def test_binding_beyond_loopback_without_insecure() -> None:
    _assert_one_line(_run("serve", "--bind", "0.0.0.0", "--port", "0"), "--insecure")


def test_a_speaker_whose_station_is_not_there_says_so_and_goes_on_trying(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bench.address = f"127.0.0.1:{taken.getsockname()[1]}"
    speaker = bench.start_speaker("lonely", "--output", "null")
    wait_until(lambda: "station not found" in bench.log("lonely"), "a word")
    assert speaker.poll() is None
    assert len(bench.log("lonely").splitlines()) == 1


def test_a_speakers_name_that_is_taken_is_said_and_asked_for_again(busy: Bench) -> None:
    second = busy.start("speaker", "--server", busy.address, "--name", "steady", log="second")
    wait_until(lambda: "in use" in busy.log("second"), "a word")
    assert second.poll() is None


def test_an_output_that_cannot_be_opened(busy: Bench) -> None:
    done = _run("speaker", "--server", busy.address, "--output", "wav:/nowhere/x.wav")
    _assert_one_line(done, "/nowhere/x.wav")


def test_an_unknown_output(busy: Bench) -> None:
    _assert_one_line(
        _run("speaker", "--server", busy.address, "--output", "gramophone"), "wav:FILE"
    )


def test_a_disk_that_fills_up_under_a_recording(busy: Bench, tmp_path: Path) -> None:
    def small_disk() -> None:
        # A limit of the process stands for a full disk: write() fails at the same place.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    words = ["--server", busy.address, "--name", "full", "--output", f"wav:{tmp_path / 'x.wav'}"]
    done = _run("speaker", *words, before=small_disk)
    lines = [line for line in done.stderr.splitlines() if "joined" not in line]
    assert done.returncode != 0
    assert len(lines) == 1, done.stderr
    assert "x.wav: the output failed" in lines[0]


def test_a_source_that_stops(busy: Bench) -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, bytes(9600))
        done = _live(busy, "-", "--raw", "s16le:48000:1", stdin=reading)
    finally:
        os.close(reading)
        os.close(writing)
    _assert_one_line(done, "source stopped")


def test_nobody_else_was_disturbed(busy: Bench) -> None:
    row = busy.speakers()["steady"]
    assert (row["state"], row["packets_lost"], row["packets_late"]) == ("playing", 0, 0)
    assert busy.log("station") == ""
