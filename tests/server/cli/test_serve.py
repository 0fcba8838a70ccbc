"""`loa serve`: its options become settings, and wrong ones one line."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from server.cli import serve
from server.data import DataFolder
from server.settings import Settings


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is set, and whoever runs the tests may have a station of his own."""
    for name in ("LOA_DATA", *(f"LOA_{field.upper()}" for field in Settings.__slots__)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("server.data.SYSTEM_FOLDER", tmp_path / "system")


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What would have been supervised."""
    supervised: list[Settings] = []

    def supervise(settings: Settings, ready: Callable[[str], None]) -> int:
        supervised.append(settings)
        ready("127.0.0.1:7460")
        return 0

    monkeypatch.setattr(serve, "supervise", supervise)
    return supervised


def test_without_options_the_settings_are_the_defaults(
    supervised: list[Settings], tmp_path: Path
) -> None:
    assert serve.main([]) == 0
    assert supervised == [Settings(data=tmp_path / "loa")]


def test_every_option_becomes_a_setting(supervised: list[Settings]) -> None:
    words = "--bind 0.0.0.0 --port 8000 --interface 192.0.2.1 --groups 239.1.0.0/16 "
    words += "--group-port 6000 --ttl 5 --no-announce --data /srv/loa "
    words += "--tls-certificate /c.pem --tls-key /k.pem --senders 3 --halls 2"
    serve.main(words.split())
    assert supervised == [
        Settings(
            bind="0.0.0.0",
            port=8000,
            interface="192.0.2.1",
            groups="239.1.0.0/16",
            group_port=6000,
            ttl=5,
            announce=False,
            senders=3,
            halls=2,
            tls_certificate="/c.pem",
            tls_key="/k.pem",
            data=Path("/srv/loa"),
        )
    ]


def test_file_and_environment_are_asked_where_an_option_is_not_given(
    supervised: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loa.toml").write_text("port = 1000\nttl = 2\ngroup_port = 6000\n")
    monkeypatch.setenv("LOA_TTL", "3")
    serve.main(["--data", str(tmp_path), "--port", "3000"])
    assert supervised == [Settings(port=3000, ttl=3, group_port=6000, data=tmp_path)]


@pytest.mark.parametrize("words", ["--bind market", "--port abc", "--ttl 256", "--tls-key /k"])
def test_a_wrong_setting_is_one_line_and_nothing_starts(
    supervised: list[Settings], capsys: pytest.CaptureFixture[str], words: str
) -> None:
    assert serve.main(words.split()) == 2
    assert supervised == []
    said = capsys.readouterr().err
    assert said.startswith(f"loa serve: {words}: ")
    assert len(said.splitlines()) == 1


def test_a_folder_without_a_station_is_one_line_that_names_the_verb(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "my station"
    assert serve.main(["--data", str(folder)]) == 2
    said = capsys.readouterr().err
    assert f"`loa init '{folder}'`" in said
    assert len(said.splitlines()) == 1
    assert not folder.exists()


def test_a_folder_of_an_older_version_is_one_line_that_names_the_verb(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = DataFolder(tmp_path / "station")
    folder.create("Station")
    shutil.rmtree(folder.keys)
    folder.token.unlink()
    assert serve.main(["--data", str(folder.path), "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"loa serve: {folder.path} holds no keys and no operator.token: put the root back with "
        f"`loa keys restore FILE --data {folder.path}`, or, if there is none, make new ones with "
        f"`loa keys create --data {folder.path}` and enrol every loudspeaker anew\n"
    )


def test_ready_is_said_with_the_address(
    supervised: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    serve.main([])
    assert capsys.readouterr().out == "station ready at https://127.0.0.1:7460\n"
