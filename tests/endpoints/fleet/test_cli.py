"""What `loa fleet` refuses, in one line."""

import json
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from endpoints.fleet import cli

ROWS = [{"name": f"fleet-{n}", "key": bytes([n] * 32).hex()} for n in range(5)]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"root": "00" * 32, "generation": 1, "loudspeakers": ROWS}))
    return path


@pytest.fixture
def few_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["--server", "127.0.0.1:1", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("loa fleet: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--first", "3", "--count", "3"], "which has 5"),
        (["--count", "0"], "which has 5"),
        (["--first", "-1", "--count", "2"], "which has 5"),
        (["--base", "10.0.0.0"], "loopback"),
        (["--multicast", "--delivery", "wan"], "unicast alone"),
        (["--stall-share", "2"], "--stall-share"),
        (["--abreast", "-1"], "--abreast"),
        (["--media-port", "70000"], "--media-port"),
        (["--server", "nowhere:x"], "nowhere"),
    ],
)
def test_what_cannot_be(
    keys: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    assert why in refused(capsys, "--keys", str(keys), *words)


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such file" in refused(capsys, "--keys", str(tmp_path / "none"))


def test_a_port_that_is_taken(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        port = str(udp.getsockname()[1])
        assert port in refused(capsys, "--keys", str(keys), "--media-port", port)


@pytest.mark.usefixtures("few_files")
def test_more_than_this_process_may_open(
    keys: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(kind: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    rows = [{"name": f"fleet-{n}", "key": "00" * 32} for n in range(1000)]
    keys.write_text(json.dumps({"root": "00" * 32, "generation": 1, "loudspeakers": rows}))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    said = refused(capsys, "--keys", str(keys))
    monkeypatch.undo()
    assert "1050 files" in said
    assert "ulimit" in said
