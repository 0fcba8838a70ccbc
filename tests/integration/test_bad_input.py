"""What a person may get wrong: one clear line, a non-zero exit, and nobody else disturbed."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.demo import VOICE
from bench.processes import Bench, end, wait_until
from server.data import DataFolder
from server.enrolment import Code
from server.keys.folder import KeyFolder
from server.keys.tls import certificate_hash
from server.store.store import Store
from tests.support.ports import nobodys_port
from transport.control.address import StationAddress
from transport.security.enrolment import EnrolmentCode, key_of, number_of
from transport.security.keys import fingerprint

pytestmark = pytest.mark.realtime
# Who has not answered in 0.3 s, of a busy machine, joins a moment later, and that is said.
_LATE = "not listening yet: other; they join when they return"
# The secret of a code that nobody can use any more.
_EXPIRED = b"ten years "


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A station with a programme on air to a loudspeaker that must not notice anything."""
    with Bench(tmp_path_factory.mktemp("busy")) as bench:
        bench.data.create("Bench")
        _save_expired_code(bench.data)
        bench.start_station()
        bench.start_speaker("steady", "--buffer-ms", "60")
        bench.start_speaker("other", "--output", "null")
        spare = bench.start_speaker("spare", "--output", "null")
        bench.wait_until_idle(["steady", "other", "spare"])
        assert end(spare, signal.SIGTERM) == 0
        words = [str(VOICE), "--repeat", "100", "--server", bench.address, "--to", "steady"]
        # A busy machine may take half a second from whoever sends or plays.
        bench.start("live", *words, "--playout-delay-ms", "800", log="live")
        wait_until(lambda: bench.speakers()["steady"]["packets_received"] > 0, "sound")
        yield bench


def _save_expired_code(folder: DataFolder) -> None:
    """One that was good for an hour in 1970; no station makes one that is over at once."""
    store = Store.open(folder.database)
    store.save_codes([Code(number_of(_EXPIRED), key_of(_EXPIRED), "late", None, 3600)])
    store.close()


def _live(
    bench: Bench, source: Path | str, *words: str, **options: Any
) -> subprocess.CompletedProcess[str]:
    where = ["--server", bench.address, "--to", "other"]
    return bench.run("live", str(source), *where, *words, **options)


def _speaker(
    bench: Bench, *words: str, state: Path | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """A loudspeaker that must not come to play; its state is that of `spare` unless given."""
    given = ["--state", str(state or bench.state("spare")), "--no-discovery"]
    output = () if "--output" in words else ("--output", "null")
    return bench.run("speaker", *given, *output, *words, timeout=30, **options)


def _assert_one_line(done: subprocess.CompletedProcess[str], *said: str) -> None:
    lines = [line for line in done.stderr.strip().splitlines() if line != _LATE]
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
    assert [p["name"] for p in busy.get("/api/v1/programmes")] == ["live-1"], "nothing went on air"


def test_an_empty_standard_input(busy: Bench) -> None:
    done = _live(busy, "-", "--raw", "s16le:48000:1")
    _assert_one_line(done, "standard input")


def test_an_unknown_speaker_is_refused_with_the_nearest_names(busy: Bench) -> None:
    done = busy.run("live", str(VOICE), "--server", busy.address, "--to", "stedy")
    _assert_one_line(done, "'stedy'", "steady")


def test_a_bad_encoder_setting(busy: Bench) -> None:
    _assert_one_line(_live(busy, VOICE, "--frame-ms", "7"), "7")


def test_a_station_that_is_not_there(busy: Bench) -> None:
    with nobodys_port() as port:
        done = busy.run("live", str(VOICE), "--server", f"127.0.0.1:{port}", "--to", "all")
    _assert_one_line(done, "station not found", str(port))


def test_something_else_at_the_stations_address(busy: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = busy.run("live", str(VOICE), "--server", address, "--to", "all")
    _assert_one_line(done, address)


def test_a_port_in_use(busy: Bench, tmp_path: Path) -> None:
    other = DataFolder(tmp_path / "other")
    other.create("Other")
    words = ("--data", str(other.path), "--port", busy.address.rpartition(":")[2])
    _assert_one_line(busy.run("serve", *words), "in use", "--port")


def test_a_folder_in_use(busy: Bench) -> None:
    _assert_one_line(busy.run("serve", "--data", str(busy.data.path)), str(busy.data.path))


def test_a_folder_that_holds_no_station(bench: Bench, tmp_path: Path) -> None:
    _assert_one_line(bench.run("serve", "--data", str(tmp_path)), "loa init")


def test_a_setting_that_cannot_be_is_refused_with_its_line(bench: Bench, tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "other")
    folder.create("Other", '\nport = "abc"\n')
    _assert_one_line(bench.run("serve", "--data", str(folder.path)), "line 2", "port")


def test_a_folder_of_a_version_without_keys(bench: Bench) -> None:
    bench.data.create("Old")
    for place in bench.data.secrets:
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    done = bench.run("serve", "--data", str(bench.data.path), "--port", "0")
    _assert_one_line(done, f"loa keys create --data {bench.data.path}")
    # And what it says helps.
    assert bench.run("keys", "create", "--data", str(bench.data.path)).returncode == 0
    bench.start_station()


def test_an_unknown_zone_is_refused(busy: Bench) -> None:
    done = busy.run("live", str(VOICE), "--server", busy.address, "--zone", "xyz")
    _assert_one_line(done, "'xyz'")


def test_to_nobody(busy: Bench) -> None:
    _assert_one_line(busy.run("live", str(VOICE), "--server", busy.address), "zone", "all")


@pytest.mark.parametrize("words", [("--gain-db", "90"), ("--repeat", "0")])
def test_a_treatment_that_cannot_be(busy: Bench, words: tuple[str, str]) -> None:
    _assert_one_line(_live(busy, VOICE, *words), words[0])


# ------------------------------------------------------------------ keys and codes
def test_no_token(busy: Bench, tmp_path: Path) -> None:
    done = busy.run("speakers", env={"LOA_DATA": str(tmp_path)})
    _assert_one_line(done, "LOA_TOKEN", "loa keys token")


def test_the_token_of_another_station(busy: Bench) -> None:
    pin = certificate_hash(busy.data.tls_certificate).hex()
    done = busy.run("speakers", env={"LOA_TOKEN": "0" * 64, "LOA_FINGERPRINT": pin})
    _assert_one_line(done, "does not take this token", "loa keys token")


def test_the_fingerprint_of_another_station(busy: Bench) -> None:
    env = {"LOA_TOKEN": busy.credentials.token, "LOA_FINGERPRINT": "0" * 64}
    _assert_one_line(busy.run("speakers", env=env), "certificate", "loa keys show")
    _assert_one_line(_live(busy, VOICE, env=env), "certificate", "loa keys show")


def test_a_token_that_others_can_read(busy: Bench) -> None:
    busy.data.token.chmod(0o644)
    try:
        _assert_one_line(busy.run("speakers"), "chmod 600", str(busy.data.token))
    finally:
        busy.data.token.chmod(0o600)


def test_a_loudspeaker_without_a_code(busy: Bench, tmp_path: Path) -> None:
    done = _speaker(busy, "--server", busy.address, state=tmp_path / "new.json")
    _assert_one_line(done, "loa enrol", "--enrol")
    assert not (tmp_path / "new.json").exists()


def test_a_code_with_a_slip_of_the_pen(busy: Bench, tmp_path: Path) -> None:
    code = busy.code("new")
    wrong = code[:-1] + ("A" if code[-1] != "A" else "B")
    done = _speaker(busy, "--enrol", wrong, state=tmp_path / "new.json")
    _assert_one_line(done, "a letter of this code is wrong")
    assert not (tmp_path / "new.json").exists()


def test_a_code_that_was_used(busy: Bench, tmp_path: Path) -> None:
    code = busy.code("once")
    first = busy.start("speaker", "--enrol", code, "--state", str(tmp_path / "1.json"), log="once")
    busy.wait_until_idle(["once"])
    assert end(first, signal.SIGTERM) == 0
    done = _speaker(busy, "--enrol", code, state=tmp_path / "2.json")
    _assert_one_line(done, "code", "loa enrol")


def test_a_code_that_is_too_old(busy: Bench, tmp_path: Path) -> None:
    root = fingerprint(KeyFolder(busy.data.keys).load().certificate.root)
    code = EnrolmentCode(StationAddress.parse(busy.address), root, _EXPIRED)
    done = _speaker(busy, "--enrol", code.text, state=tmp_path / "new.json")
    _assert_one_line(done, "code", "loa enrol")


def test_a_code_of_another_station(busy: Bench, tmp_path: Path) -> None:
    code = EnrolmentCode(StationAddress.parse(busy.address), bytes(16), bytes(10))
    done = _speaker(busy, "--enrol", code.text, state=tmp_path / "new.json")
    _assert_one_line(done, "not the one that gave this code")


def test_a_state_that_others_can_read(busy: Bench, tmp_path: Path) -> None:
    state = _copied(busy, tmp_path)
    state.chmod(0o640)
    _assert_one_line(_speaker(busy, state=state), f"chmod 600 {state}")


@pytest.mark.parametrize("of", ["", "nonsense", '{"version": 1}', "[" * 3000, "1"])
def test_a_state_that_is_damaged(busy: Bench, tmp_path: Path, of: str) -> None:
    state = _copied(busy, tmp_path)
    state.write_text(of)
    _assert_one_line(_speaker(busy, state=state), str(state), "--enrol")
    assert state.read_text() == of, "nobody may overwrite what may yet be mended"


def test_a_state_in_use(busy: Bench) -> None:
    done = _speaker(busy, state=busy.state("steady"))
    _assert_one_line(done, "in use by another loudspeaker", "--state")


def test_a_loudspeaker_that_was_revoked_ends_and_says_what_to_do(busy: Bench) -> None:
    speaker = busy.start_speaker("gone", "--output", "null")
    busy.wait_until_idle(["gone"])
    assert busy.run("speakers", "revoke", "gone").returncode == 0
    assert speaker.wait(10) == 1
    assert "loa enrol" in busy.log("gone").splitlines()[-1]
    _assert_one_line(_speaker(busy, state=busy.state("gone")), "not enrolled", "loa enrol")


def _copied(bench: Bench, folder: Path) -> Path:
    state = folder / "state.json"
    shutil.copy2(bench.state("spare"), state)
    return state


# ------------------------------------------------------------------ loudspeakers
def test_a_speaker_whose_station_is_not_there_says_so_and_goes_on_trying(station: Bench) -> None:
    first = station.start_speaker("lonely", "--output", "null")
    station.wait_until_idle(["lonely"])
    end(first, signal.SIGTERM)
    end(station.station)
    before = len(station.log("lonely").splitlines())
    speaker = station.start_speaker("lonely", "--output", "null")
    wait_until(lambda: "station not found" in station.log("lonely"), "a word")
    assert speaker.poll() is None
    assert len(station.log("lonely").splitlines()) == before + 1


def test_a_code_of_a_station_that_is_not_there_is_tried_again(bench: Bench, tmp_path: Path) -> None:
    with nobodys_port() as port:
        code = EnrolmentCode(StationAddress("127.0.0.1", port), bytes(16), bytes(10)).text
        words = ["--enrol", code, "--state", str(tmp_path / "new.json"), "--output", "null"]
        speaker = bench.start("speaker", *words, log="lonely")
        wait_until(lambda: "trying again" in bench.log("lonely"), "a word")
        assert speaker.poll() is None
        assert len(bench.log("lonely").splitlines()) == 1


def test_an_output_that_cannot_be_opened(busy: Bench) -> None:
    _assert_one_line(_speaker(busy, "--output", "wav:/nowhere/x.wav"), "/nowhere/x.wav")


def test_an_unknown_output(busy: Bench) -> None:
    _assert_one_line(_speaker(busy, "--output", "gramophone"), "wav:FILE")


def test_a_disk_that_fills_up_under_a_recording(busy: Bench, tmp_path: Path) -> None:
    def small_disk() -> None:
        # A limit of the process stands for a full disk: write() fails at the same place.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    output = f"wav:{tmp_path / 'x.wav'}"
    done = _speaker(busy, "--output", output, state=_copied(busy, tmp_path), preexec_fn=small_disk)
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
