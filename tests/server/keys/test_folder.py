"""The station's keys: made whole, kept from others, rotated, backed up and put back."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from server.keys import folder as module
from server.keys.folder import KeyFolder, KeysError, check_passphrase
from transport.security.certificates import StationCertificate

PASSPHRASE = b"correct horse"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def folder(path: Path) -> KeyFolder:
    folder = KeyFolder(path)
    folder.create()
    return folder


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(KeysError) as error:
        act()
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


# ------------------------------------------------------------------ making and loading
def test_the_root_certifies_the_first_key(path: Path) -> None:
    made = KeyFolder(path).create()
    assert made.certificate.generation == 1
    assert made.certificate.public == made.key.public
    assert StationCertificate.parse(made.certificate.serialise()) == made.certificate
    loaded = KeyFolder(path).load()
    assert loaded.certificate == made.certificate
    assert loaded.key.seed == made.key.seed


def test_keys_that_are_there_are_not_made_again(folder: KeyFolder, path: Path) -> None:
    before = {file: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(OSError, match="not empty"):
        folder.create()
    assert {file: file.read_bytes() for file in path.iterdir()} == before
    assert [entry.name for entry in path.parent.iterdir()] == ["keys"]


@pytest.mark.parametrize("name", ["root.pem", "station.pem", "station.cert", "."])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_keys_that_others_can_reach_are_not_used(
    folder: KeyFolder, path: Path, name: str, mode: int
) -> None:
    place = path / name
    place.chmod(mode | (0o100 if place.is_dir() else 0))
    said = refused(folder.load)
    assert f"`chmod {700 if name == '.' else 600} {place}`" in said
    place.chmod(0o700 if place.is_dir() else 0o600)
    folder.load()


def test_without_the_root_the_station_speaks_on(folder: KeyFolder, path: Path) -> None:
    (path / "root.pem").unlink()
    assert not folder.has_root()
    assert folder.load().certificate.generation == 1


@pytest.mark.parametrize("name", ["station.pem", "station.cert"])
def test_a_key_and_a_certificate_that_do_not_fit_are_not_used(
    folder: KeyFolder, path: Path, tmp_path: Path, name: str
) -> None:
    KeyFolder(tmp_path / "other").create()
    shutil.copy(tmp_path / "other" / name, path / name)
    assert "is not the key that station.cert certifies" in refused(folder.load)


@pytest.mark.parametrize("name", ["station.pem", "station.cert"])
@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"AAAA", b"-----BEGIN PRIVATE KEY-----"])
def test_a_damaged_file_is_named_with_what_to_do(
    folder: KeyFolder, path: Path, name: str, data: bytes
) -> None:
    (path / name).write_bytes(data)
    said = refused(folder.load)
    assert str(path / name) in said
    assert "loa keys restore" in said


@pytest.mark.parametrize("name", ["station.pem", "station.cert", "."])
def test_a_file_that_is_missing_is_one_line(folder: KeyFolder, path: Path, name: str) -> None:
    (shutil.rmtree if name == "." else os.unlink)(path / name)
    assert str(path) in refused(folder.load)


# ------------------------------------------------------------------ rotation
def test_another_key_has_the_next_generation_and_the_same_root(folder: KeyFolder) -> None:
    first = folder.load()
    second = folder.rotate()
    assert second.certificate.generation == 2
    assert second.certificate.root == first.certificate.root
    assert second.key.public != first.key.public
    assert folder.load().key.seed == second.key.seed


def test_the_stamp_tells_of_a_rotation_and_of_nothing_else(folder: KeyFolder, path: Path) -> None:
    before = folder.stamp()
    folder.load()
    assert folder.stamp() == before
    folder.rotate()
    assert folder.stamp() != before
    assert KeyFolder(path.parent / "nowhere").stamp() == ()


def test_without_the_root_nothing_is_rotated(folder: KeyFolder, path: Path) -> None:
    (path / "root.pem").unlink()
    assert "loa keys restore FILE" in refused(folder.rotate)
    assert folder.load().certificate.generation == 1


class CutError(Exception):
    """The power fails."""


@pytest.mark.parametrize("survives", range(12))
def test_a_rotation_that_is_cut_off_leaves_the_old_key_or_the_new_and_can_be_done_again(
    folder: KeyFolder, monkeypatch: pytest.MonkeyPatch, survives: int
) -> None:
    first = folder.load()
    left = survives
    rename, fsync = Path.replace, os.fsync

    def step(act: Callable[..., object]) -> Callable[..., object]:
        def counted(*words: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise CutError
            return act(*words)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", step(rename))
        patch.setattr(os, "fsync", step(fsync))
        try:
            second = folder.rotate().certificate.generation
        except CutError:
            second = 1
    now = folder.load()
    assert now.certificate.generation in {1, 2}
    assert second <= now.certificate.generation
    assert (now.key.seed == first.key.seed) == (now.certificate.generation == 1)
    assert folder.rotate().certificate.generation == now.certificate.generation + 1
    assert folder.load().certificate.generation == now.certificate.generation + 1


def test_who_looks_while_a_rotation_ends_finds_a_key(
    folder: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The certificate is read before the rotation's last step, and the key after it.
    read = module._key
    looked: list[Path] = []

    def key(path: Path) -> object:
        found = read(path)
        looked.append(path)
        if len(looked) == 1:
            folder._next.replace(folder._station)
        return found

    old = folder._station.read_bytes()
    folder.rotate()
    folder._station.rename(folder._next)
    folder._station.write_bytes(old)
    folder._station.chmod(0o600)
    monkeypatch.setattr(module, "_key", key)
    assert folder.load().certificate.generation == 2


# ------------------------------------------------------------------ back-up
def test_a_back_up_is_sealed_and_for_its_owner_alone(
    folder: KeyFolder, path: Path, tmp_path: Path
) -> None:
    file = tmp_path / "root.backup"
    folder.back_up(file, PASSPHRASE)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"ENCRYPTED" in file.read_bytes()
    assert folder.has_root()
    seed = (path / "root.pem").read_bytes().splitlines()[1]
    assert seed not in file.read_bytes()


def test_openssl_opens_a_back_up(folder: KeyFolder, path: Path, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    file = tmp_path / "root.backup"
    folder.back_up(file, PASSPHRASE)
    command = ["openssl", "pkey", "-in", str(file), "-passin", f"pass:{PASSPHRASE.decode()}"]
    opened = subprocess.run(command, capture_output=True, check=True).stdout
    assert opened == (path / "root.pem").read_bytes()


def test_a_back_up_overwrites_nothing(folder: KeyFolder, tmp_path: Path) -> None:
    file = tmp_path / "root.backup"
    file.write_text("holiday")
    assert "exists already" in refused(lambda: folder.back_up(file, PASSPHRASE, take_away=True))
    assert file.read_text() == "holiday"
    assert folder.has_root()


def test_the_root_stays_until_the_back_up_was_opened_again(
    folder: KeyFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(path: Path, data: bytes) -> None:
        path.write_bytes(data[:-40])

    monkeypatch.setattr(module, "create_private", spoil)
    refused(lambda: folder.back_up(tmp_path / "backup", PASSPHRASE, take_away=True))
    assert folder.has_root()


def test_a_root_that_was_taken_away_is_put_back(folder: KeyFolder, tmp_path: Path) -> None:
    before = folder.load()
    folder.back_up(tmp_path / "backup", PASSPHRASE, take_away=True)
    assert not folder.has_root()
    assert folder.restore(tmp_path / "backup", PASSPHRASE).certificate == before.certificate
    assert folder.rotate().certificate.generation == 2


def test_on_a_new_machine_the_root_certifies_a_key_above_all_that_were(
    folder: KeyFolder, path: Path, tmp_path: Path
) -> None:
    root = folder.load().certificate.root
    folder.back_up(tmp_path / "backup", PASSPHRASE)
    newest = max(folder.rotate().certificate.generation for _ in range(3))
    shutil.rmtree(path)
    restored = folder.restore(tmp_path / "backup", PASSPHRASE)
    assert restored.certificate.root == root
    assert restored.certificate.generation > newest
    assert folder.load().certificate == restored.certificate
    folder.rotate()


def test_the_keys_of_another_station_are_not_overwritten(folder: KeyFolder, tmp_path: Path) -> None:
    folder.back_up(tmp_path / "backup", PASSPHRASE)
    other = KeyFolder(tmp_path / "other")
    before = other.create()
    said = refused(lambda: other.restore(tmp_path / "backup", PASSPHRASE))
    assert "another station" in said
    assert other.load().certificate == before.certificate


@pytest.mark.parametrize("passphrase", [b"wrong horses", b""])
def test_another_passphrase_opens_nothing(
    folder: KeyFolder, tmp_path: Path, passphrase: bytes
) -> None:
    folder.back_up(tmp_path / "backup", PASSPHRASE, take_away=True)
    assert "passphrase" in refused(lambda: folder.restore(tmp_path / "backup", passphrase))
    assert not folder.has_root()


@pytest.mark.parametrize("data", [b"", b"\xff" * 99, b"Generation: 1\n", b"-----BEGIN X-----"])
def test_what_is_no_back_up_is_one_line(folder: KeyFolder, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert "is no back-up" in refused(lambda: folder.restore(tmp_path / "file", PASSPHRASE))


# ------------------------------------------------------------------ passphrases
def test_a_passphrase_has_ten_characters() -> None:
    assert check_passphrase("0123456789") == b"0123456789"
    assert "at least 10" in refused(lambda: check_passphrase("123456789"))
    # Nine, whatever bytes they take.
    assert "at least 10" in refused(lambda: check_passphrase("Tân Phú á"))


def test_a_passphrase_is_the_same_on_every_keyboard() -> None:
    assert check_passphrase("cho\u031b\u0323 T\u00e2n Ph\u00fa") == check_passphrase("chợ Tân Phú")
