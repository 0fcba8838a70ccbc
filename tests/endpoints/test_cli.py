"""`loa speaker` as a person starts it: what it says, how it ends, what it leaves on the disk."""

import io
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from endpoints import cli
from endpoints.station.store import SpeakerStore
from tests.support.station import (
    Guest,
    Station,
    Talk,
    listen,
    refuse,
    running_station,
    welcome_and_listen,
)
from tests.support.visitor import SEED, store_of
from transport.control.address import StationAddress
from transport.control.messages import Command, Done, Enrolled, Pending, Refused
from transport.security.enrolment import EnrolmentCode
from transport.security.keys import SigningKey, fingerprint, shown_fingerprint

CODE = EnrolmentCode(StationAddress("127.0.0.1", 1), bytes(16), bytes(10))
NOT_ENROLLED = (
    "loa speaker: this loudspeaker belongs to no station yet: get a code with `loa enrol NAME` "
    "at the station, and give it here with --enrol CODE"
)
PATIENCE_S = 30


# ------------------------------------------------------------------ what it says at once
def ended(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, list[str]]:
    """How a loudspeaker that plays nothing ended, and what it said."""
    code = cli.main(["--output", "null", *map(str, words)])
    return code, capsys.readouterr().err.splitlines()


def test_without_a_code_one_that_was_never_enrolled_says_where_to_get_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state.json"
    assert ended(capsys, "--state", path) == (2, [NOT_ENROLLED])
    assert not path.exists()
    SpeakerStore.open(path).close()
    assert ended(capsys, "--state", path) == (2, [NOT_ENROLLED])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--enrol", "abc"], "this is no code: it begins with loa:HOST:PORT/"),
        (["--enrol", CODE.text[:-1] + "7"], "a letter of this code is wrong"),
        (["--enrol", "-"], "there is no code in standard input: its first line is empty"),
        (["--enrol", CODE.text, "--name", "all"], "'all' is no loudspeaker's name"),
        (["--server", "a b"], "'a b' is no station's address"),
        (["--output", "nonsense"], "--output nonsense: use"),
        (["--delivery", "wan", "--multicast"], "delivery wan goes by unicast alone"),
        (["--interface", "::1"], "--interface ::1: use an IPv4 address of this machine"),
        (["--buffer-ms", "1"], "--buffer-ms 1.0: use 2 to 1000"),
        *(
            (["--max-kbps", said], f"--max-kbps {said}: use a whole number of kilobits a second")
            for said in ("", "x", "7", "1.5", "1000001", "1e3", "٦٤", "9" * 5_000)
        ),
    ],
)
def test_what_was_said_wrong_is_known_before_anything_is_made(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    why: str,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    path = tmp_path / "state.json"
    code, (line,) = ended(capsys, "--state", path, *words)
    assert code == 2
    assert line.startswith(f"loa speaker: {why}")
    assert not path.exists()


def test_a_state_file_that_others_may_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state.json"
    SpeakerStore.open(path).close()
    path.chmod(0o644)
    code, (line,) = ended(capsys, "--state", path)
    assert code == 1
    assert line.endswith(f"chmod 600 {path}")


def test_a_state_file_in_use_is_refused_and_left_to_its_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(tmp_path)
    code, (line,) = ended(capsys, "--state", store.path)
    store.close()
    assert code == 1
    assert "in use by another loudspeaker" in line


# ------------------------------------------------------------------ its life with a station
class Process:
    """A loudspeaker, and what it says."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._said = b""

    async def says(self, what: str, times: int = 1) -> None:
        """Returns once it has said this, or so many times."""
        stdout = self._process.stdout
        assert stdout is not None
        with trio.fail_after(PATIENCE_S):
            while self._said.count(what.encode()) < times:
                more = await stdout.receive_some()
                assert more, f"it ended, and had said {self._said.decode()!r}"
                self._said += more

    @property
    def said(self) -> list[str]:
        return self._said.decode().splitlines()

    async def end(self) -> int:
        """As a service manager ends it; its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        stdout = self._process.stdout
        assert stdout is not None
        with trio.fail_after(PATIENCE_S):
            async for more in stdout:
                self._said += more
            return await self._process.wait()


@asynccontextmanager
async def started(folder: Path, *words: str, told: bytes = b"") -> AsyncIterator[Process]:
    """It runs while the block does, unless it ends before; `told` is on its standard input."""
    state = str(folder / "state.json")
    arguments = ["--output", "null", "--no-discovery", "--state", state, *words]
    process = await trio.lowlevel.open_process(
        [sys.executable, "-P", "-m", "loa", "speaker", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdin is not None
    async with process.stdin:
        await process.stdin.send_all(told)
    try:
        yield Process(process)
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()


def at_a_station_that_enrols(name: str, *, revoked: bytes = b"") -> Talk:
    """Approves whoever has the code; will not have the key that is `revoked`."""

    async def talk(station: Station, guest: Guest) -> None:
        enrolled = len(station.enrols)
        await guest.greet()
        if len(station.enrols) > enrolled:
            await guest.say(Pending("a person is asked"))
            await guest.say(Enrolled(name))
        elif guest.key == revoked:
            await guest.say(Refused("this loudspeaker's key was revoked", final=True))
        else:
            await guest.say(station.welcome())
        await listen(station, guest)

    return talk


@pytest.mark.trio
async def test_with_a_code_it_is_enrolled_once_and_joins_by_itself_from_then_on(
    tmp_path: Path,
) -> None:
    async with running_station(at_a_station_that_enrols("Thôn 3")) as station:
        code = station.code
        async with started(tmp_path, "--enrol", code.text, "--name", "a wish") as process:
            await process.says("joined the station")
            assert await process.end() == 0
        store = SpeakerStore.open(tmp_path / "state.json")
        store.close()
        assert process.said == [
            (
                "loa speaker: waiting for approval at the station; this loudspeaker's key is "
                f"{shown_fingerprint(store.state.key.public)}"
            ),
            f"loa speaker: enrolled as Thôn 3 at {code.server.text}",
            "loa speaker: it is called Thôn 3: --name is a wish for when it is enrolled",
            f"loa speaker: joined the station at {code.server.text}",
        ]
        async with started(tmp_path) as process:
            await process.says("joined the station")
            assert await process.end() == 0
        async with started(tmp_path, "--enrol", code.text) as process:
            await process.says("joined the station")
            assert await process.end() == 0
        assert process.said[0] == (
            "loa speaker: already enrolled at this station as Thôn 3: the code is not used"
        )
    assert [word.name for word in station.enrols] == ["a wish"]
    assert [hello.name for hello in station.hellos] == ["Thôn 3"] * 3
    assert {hello.key for hello in station.hellos} == {store.state.key.public}


@pytest.mark.trio
@pytest.mark.parametrize("where", ["-", "code"])
async def test_a_code_that_other_users_cannot_see_enrols_and_begun_anew_it_is_not_missed(
    tmp_path: Path, where: str
) -> None:
    async with running_station(at_a_station_that_enrols("a")) as station:
        line, file = station.code.text.encode() + b"\n", tmp_path / "code"
        file.write_bytes(line)
        word, told = ("-", line) if where == "-" else (str(file), b"")
        async with started(tmp_path, "--enrol", word, told=told) as process:
            await process.says("joined the station")
            file.unlink()
            await station.say(Command(7, "restart"))
            await process.says("joined the station", times=2)
            assert await process.end() == 0
    assert station.answers == [Done(7)]
    assert len(station.enrols) == 1


@pytest.mark.trio
async def test_one_whose_key_was_revoked_is_enrolled_anew_with_a_code_and_another_key(
    tmp_path: Path,
) -> None:
    old = SigningKey(SEED).public
    async with running_station(at_a_station_that_enrols("b", revoked=old)) as station:
        store_of(tmp_path, station.port, session_number=0).close()
        async with started(tmp_path) as process:
            assert await process.ended() == 1
        assert process.said == ["loa speaker: this loudspeaker's key was revoked"]
        async with started(tmp_path, "--enrol", station.code.text) as process:
            await process.says("joined the station")
            assert await process.end() == 0
    assert old not in {word.key for word in station.enrols}
    assert (station.hellos[-1].name, station.hellos[-1].key) == ("b", station.enrols[-1].key)


@pytest.mark.trio
async def test_a_code_of_another_station_ends_it_in_one_line(tmp_path: Path) -> None:
    async with running_station(at_a_station_that_enrols("a")) as station:
        other = replace(station.code, root_fingerprint=fingerprint(b"other"))
        async with started(tmp_path, "--enrol", other.text) as process:
            assert await process.ended() == 1
    (line,) = process.said
    assert "is not the one that gave this code" in line
    assert station.enrols == []


@pytest.mark.trio
async def test_a_code_that_was_used_ends_it_in_one_line(tmp_path: Path) -> None:
    async with (
        running_station(refuse("this code was used", final=True)) as station,
        started(tmp_path, "--enrol", station.code.text) as process,
    ):
        assert await process.ended() == 1
    assert process.said == ["loa speaker: this code was used"]


@pytest.mark.trio
async def test_a_signal_while_it_waits_for_approval_ends_it_cleanly(tmp_path: Path) -> None:
    async def pending(station: Station, guest: Guest) -> None:
        await guest.greet()
        await guest.say(Pending("a person is asked"))
        await listen(station, guest)

    async with (
        running_station(pending) as station,
        started(tmp_path, "--enrol", station.code.text) as process,
    ):
        await process.says("waiting for approval")
        assert await process.end() == 0


@pytest.mark.trio
async def test_begun_anew_it_is_the_same_loudspeaker_at_the_same_station(tmp_path: Path) -> None:
    async with running_station(welcome_and_listen) as station:
        store_of(tmp_path, station.port).close()
        async with started(tmp_path) as process:
            await process.says("joined the station")
            await station.say(Command(7, "restart"))
            await process.says("joined the station", times=2)
            assert await process.end() == 0
    assert station.answers == [Done(7)]
    assert len({hello.key for hello in station.hellos}) == 1
    assert [welcome.number for welcome in station.welcomes] == [1, 2]
