"""`loa keys`: what a person asks of the keys, and what is typed."""

import os
import pty
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from server.cli import keys
from server.data import DataFolder
from server.keys.folder import KeyFolder
from server.keys.tls import certificate_hash
from server.keys.token import TokenFile
from server.remote import ApiError, find_credentials
from tests.support.tls import station_tls
from transport.security.keys import shown_fingerprint

LOA = (sys.executable, "-P", "-m", "loa", "keys")
PASSPHRASE = "correct horse"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is set, and whoever runs the tests may have a station of his own."""
    for name in ("DATA", "PASSPHRASE", "TOKEN", "FINGERPRINT", "TLS_CERTIFICATE", "TLS_KEY"):
        monkeypatch.delenv(f"LOA_{name}", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setattr("server.data.SYSTEM_FOLDER", tmp_path / "system")


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "station")
    folder.create("Station", "port = 9000\n")
    return folder


Loa = Callable[..., str]


@pytest.fixture
def loa(folder: DataFolder, capsys: pytest.CaptureFixture[str]) -> Loa:
    """What a verb that must do it says."""

    def loa(*words: str) -> str:
        assert keys.main(["--data", str(folder.path), *words]) == 0
        return capsys.readouterr().out

    return loa


@pytest.fixture
def refused(folder: DataFolder, capsys: pytest.CaptureFixture[str]) -> Loa:
    """The one line of a verb that must not do it."""

    def refused(*words: str) -> str:
        assert keys.main(["--data", str(folder.path), *words]) in {1, 2}
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("loa keys: ")
        assert len(said.err.splitlines()) == 1
        return said.err

    return refused


def generation(folder: DataFolder) -> int:
    return KeyFolder(folder.keys).load().certificate.generation


# ------------------------------------------------------------------ show, rotate, create
@pytest.mark.parametrize("words", [[], ["show"]])
def test_what_another_machine_needs_is_shown_and_nothing_secret(
    folder: DataFolder, loa: Loa, words: list[str]
) -> None:
    said = loa(*words)
    root = KeyFolder(folder.keys).load().certificate.root
    pin = certificate_hash(folder.tls_certificate).hex()
    assert said.splitlines()[0] == f"root         {shown_fingerprint(root)}"
    assert "generation   1" in said
    assert f"export LOA_FINGERPRINT={pin}" in said
    assert "export LOA_SERVER=HOST:9000" in said
    assert TokenFile(folder.token).load() not in said


def test_a_certificate_of_the_operators_is_shown_in_place_of_ours(
    folder: DataFolder, loa: Loa
) -> None:
    tls = station_tls()
    folder.config.write_text(f'tls_certificate = "{tls.certificate}"\ntls_key = "{tls.key}"\n')
    assert f"LOA_FINGERPRINT={tls.hash.hex()}" in loa()
    assert find_credentials({"LOA_DATA": str(folder.path)}).trust == tls.trust


def test_a_rotation_says_the_generation(folder: DataFolder, loa: Loa) -> None:
    said = loa("rotate")
    assert said == (
        "the station's key is of generation 2; a running station takes it up within seconds\n"
    )
    assert generation(folder) == 2


def test_what_is_missing_is_made_once(folder: DataFolder, loa: Loa, refused: Loa) -> None:
    shutil.rmtree(folder.keys)
    assert "loa keys create" in refused()
    assert "loa keys create" in refused("rotate")
    assert loa("create").startswith("made: keys\n")
    assert "nothing was made" in loa("create")


def test_a_folder_without_a_station_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keys.main(["--data", str(tmp_path / "nothing")]) == 1
    assert "loa init" in capsys.readouterr().err


def test_the_folder_may_be_named_behind_the_verb(
    folder: DataFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keys.main(["rotate", "--data", str(folder.path)]) == 0
    assert "generation 2" in capsys.readouterr().out


# ------------------------------------------------------------------ back-up
def test_a_root_goes_away_and_comes_back(
    folder: DataFolder, loa: Loa, refused: Loa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOA_PASSPHRASE", PASSPHRASE)
    backup = tmp_path / "backup"
    assert "sealed" in loa("backup", str(backup), "--take-away")
    assert "taken away" in loa("show")
    assert "loa keys restore FILE" in refused("rotate")
    assert "is back" in loa("restore", str(backup))
    loa("rotate")
    assert generation(folder) == 2


def test_on_a_new_machine_the_generation_is_said(
    folder: DataFolder, loa: Loa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOA_PASSPHRASE", PASSPHRASE)
    loa("backup", str(tmp_path / "backup"))
    shutil.rmtree(folder.keys)
    assert "the station's key is of generation 1001" in loa("restore", str(tmp_path / "backup"))


def test_a_file_in_the_way_is_told_before_a_passphrase_is_asked(
    folder: DataFolder, refused: Loa, tmp_path: Path
) -> None:
    (tmp_path / "backup").touch()
    assert "exists already" in refused("backup", str(tmp_path / "backup"))
    assert "no such file" in refused("restore", str(tmp_path / "nothing"))


def test_without_a_terminal_the_variable_is_named(
    refused: Loa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert "set LOA_PASSPHRASE" in refused("backup", str(tmp_path / "backup"))
    monkeypatch.setenv("LOA_PASSPHRASE", "short")
    assert "at least 10 characters" in refused("backup", str(tmp_path / "backup"))
    assert not (tmp_path / "backup").exists()


def typed(answers: str, *words: str) -> tuple[int, str]:
    """What a person who types these answers on a terminal sees, and the exit status."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(LOA[0], [*LOA, *words])
    said = b""
    lines = answers.splitlines(keepends=True)
    try:
        while data := os.read(terminal, 1 << 10):
            said += data
            # What is typed before it is asked for would be thrown away.
            if lines and said.endswith(b": "):
                os.write(terminal, lines.pop(0).encode())
    except OSError:  # the other side of the terminal is closed
        pass
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), said.decode()


def test_a_passphrase_is_asked_for_twice_and_never_shown(
    folder: DataFolder, tmp_path: Path
) -> None:
    words = ("--data", str(folder.path), "backup", str(tmp_path / "backup"))
    status, said = typed(f"{PASSPHRASE}\n{PASSPHRASE}\n", *words)
    assert status == 0, said
    assert "again: " in said
    assert PASSPHRASE not in said
    KeyFolder(folder.keys).restore(tmp_path / "backup", PASSPHRASE.encode())


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (f"{PASSPHRASE}\n{PASSPHRASE}!\n", "two different passphrases"),
        ("short\n", "at least 10 characters"),
        ("\x04", "no passphrase was given"),
    ],
)
def test_a_passphrase_that_does_not_do_makes_no_back_up(
    folder: DataFolder, tmp_path: Path, answers: str, says: str
) -> None:
    words = ("--data", str(folder.path), "backup", str(tmp_path / "backup"), "--take-away")
    status, said = typed(answers, *words)
    assert status in {1, 2}
    assert says in said
    assert "Traceback" not in said
    assert not (tmp_path / "backup").exists()
    assert KeyFolder(folder.keys).has_root()


# ------------------------------------------------------------------ the token, and who finds it
def test_the_token_is_printed_alone_so_that_a_shell_can_take_it(
    folder: DataFolder, loa: Loa
) -> None:
    token = TokenFile(folder.token).load()
    assert loa("token") == f"{token}\n"
    anew = loa("token", "--new").strip()
    assert anew not in {token, ""}
    assert TokenFile(folder.token).load() == anew


def test_a_token_that_is_damaged_can_be_made_anew(
    folder: DataFolder, loa: Loa, refused: Loa
) -> None:
    folder.token.write_text("x")
    assert "loa keys token --new" in refused("token")
    assert len(loa("token", "--new").strip()) == 64


def test_credentials_are_those_of_the_environment_or_of_this_machines_station(
    folder: DataFolder, tmp_path: Path
) -> None:
    local = find_credentials({"LOA_DATA": str(folder.path)})
    assert local.token == TokenFile(folder.token).load()
    assert local.trust.pin == certificate_hash(folder.tls_certificate)
    environment = {"LOA_DATA": str(folder.path), "LOA_TOKEN": "t", "LOA_FINGERPRINT": "AB:" * 32}
    said = find_credentials(environment)
    assert (said.token, said.trust.pin) == ("t", b"\xab" * 32)
    assert find_credentials({"LOA_TOKEN": "t"}).trust.pin is None


NO_CREDENTIALS = [
    ({}, "(`loa init` makes one), and LOA_TOKEN is not set"),
    ({"LOA_FINGERPRINT": "ab" * 32}, "LOA_FINGERPRINT is set and LOA_TOKEN is not"),
    ({"LOA_FINGERPRINT": "ab"}, "LOA_FINGERPRINT has 64 hexadecimal digits"),
    ({"LOA_TOKEN": "a\nX-Header: b"}, "LOA_TOKEN is no token"),
    ({"LOA_TOKEN": "ä"}, "LOA_TOKEN is no token"),
]


@pytest.mark.parametrize(("environment", "says"), NO_CREDENTIALS)
def test_who_has_none_is_told_where_they_are(
    environment: dict[str, str], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ApiError) as refused:
        find_credentials({"XDG_DATA_HOME": str(tmp_path / "none"), **environment})
    assert says in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_broken_configuration_does_not_keep_an_operator_out(folder: DataFolder) -> None:
    folder.config.write_text("port = \n")
    found = find_credentials({"LOA_DATA": str(folder.path)})
    assert found.trust.pin == certificate_hash(folder.tls_certificate)


def test_a_token_is_in_no_traceback(folder: DataFolder) -> None:
    found = find_credentials({"LOA_DATA": str(folder.path)})
    assert found.token not in repr(found)
