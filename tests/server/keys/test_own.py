"""What only the station has: read once, and again when `loa keys` has made it anew."""

from pathlib import Path

import pytest

from server.data import DataFolder
from server.keys.folder import KeyFolder, KeysError
from server.keys.own import OwnSecrets
from server.keys.tls import TlsError, certificate_hash
from server.keys.token import AccessError, TokenFile
from tests.support.stations import TO_ALL, a_station, on_air
from transport.security.certificates import StationCertificate, StreamCertificate
from transport.security.keys import VerifyKey


@pytest.fixture
def folder(database: Path) -> DataFolder:
    """A station's."""
    return DataFolder(database.parent)


@pytest.fixture
def own(folder: DataFolder) -> OwnSecrets:
    """What it has."""
    return OwnSecrets(folder.keys, folder.token, folder.tls_certificate)


def certificate(own: OwnSecrets) -> bytes:
    """Of one stream, by the key that there is now."""
    programme = on_air(a_station(), TO_ALL)
    (order,), report = programme.streams, programme.report
    assert report is not None
    return own.certifier.certificate(order, report.streams[0], 3, False)


def test_a_station_shows_itself_with_its_own_key_and_certificate(
    folder: DataFolder, own: OwnSecrets
) -> None:
    shown = own.credentials()
    assert shown.key.public == StationCertificate.parse(shown.certificate).public
    assert shown.tls_hash == certificate_hash(folder.tls_certificate)
    assert own.generation == 1


def test_nothing_is_read_again_while_it_is_as_it_was(own: OwnSecrets) -> None:
    before = own.keys, own.token, own.certifier
    assert not own.keys_changed()
    assert not own.token_changed()
    assert (own.keys, own.token, own.certifier) == before


def test_a_key_that_was_rotated_is_taken_up_once(folder: DataFolder, own: OwnSecrets) -> None:
    KeyFolder(folder.keys).rotate()
    assert own.keys_changed()
    assert not own.keys_changed()
    assert own.generation == 2
    assert own.credentials().key.public == own.keys.certificate.public


def test_what_is_certified_then_is_so_by_the_new_key_and_of_its_generation(
    folder: DataFolder, own: OwnSecrets
) -> None:
    first = VerifyKey(own.keys.key.public)
    assert StreamCertificate.parse(certificate(own), first, 1).highest_priority == 3
    KeyFolder(folder.keys).rotate()
    own.keys_changed()
    second = VerifyKey(own.keys.key.public)
    assert second.public != first.public
    assert StreamCertificate.parse(certificate(own), second, 2).generation == 2


def test_a_token_made_anew_is_taken_up_once(folder: DataFolder, own: OwnSecrets) -> None:
    before = own.token
    TokenFile(folder.token).renew()
    assert own.token_changed()
    assert not own.token_changed()
    assert own.token == TokenFile(folder.token).load() != before


def test_a_certificate_of_keys_that_makes_no_sense_changes_nothing_and_is_told_of_once(
    folder: DataFolder, own: OwnSecrets, caplog: pytest.LogCaptureFixture
) -> None:
    before = own.keys, own.certifier
    (folder.keys / "station.cert").write_text("nonsense\n")
    assert [own.keys_changed() for _ in range(5)] == [False] * 5
    assert (own.keys, own.certifier) == before
    (told,) = caplog.messages
    assert told.startswith("loa: the station goes on as before: ")
    assert "station.cert is damaged" in told


def test_what_could_not_be_read_is_taken_up_when_it_can(
    folder: DataFolder, own: OwnSecrets, caplog: pytest.LogCaptureFixture
) -> None:
    KeyFolder(folder.keys).rotate()
    folder.keys.chmod(0o755)
    assert not own.keys_changed()
    folder.keys.chmod(0o700)
    assert own.keys_changed()
    assert own.generation == 2
    assert ["chmod 700" in message for message in caplog.messages] == [True]


def test_a_token_that_is_gone_leaves_the_one_that_was(
    folder: DataFolder, own: OwnSecrets, caplog: pytest.LogCaptureFixture
) -> None:
    before = own.token
    folder.token.unlink()
    assert [own.token_changed() for _ in range(5)] == [False] * 5
    assert own.token == before
    assert len(caplog.messages) == 1


def test_a_second_thing_that_is_wrong_is_told_of_too(
    folder: DataFolder, own: OwnSecrets, caplog: pytest.LogCaptureFixture
) -> None:
    folder.token.write_text("short\n")
    assert not own.token_changed()
    (folder.keys / "station.cert").write_text("nonsense\n")
    assert not own.keys_changed()
    assert len(caplog.messages) == 2


def test_two_things_that_are_wrong_at_once_are_told_of_once_each(
    folder: DataFolder, own: OwnSecrets, caplog: pytest.LogCaptureFixture
) -> None:
    folder.token.write_text("short\n")
    (folder.keys / "station.cert").write_text("nonsense\n")
    for _ in range(5):
        assert not own.token_changed()
        assert not own.keys_changed()
    assert len(caplog.messages) == 2


@pytest.mark.parametrize(
    ("of", "error"), [("keys", KeysError), ("token", AccessError), ("tls", TlsError)]
)
def test_a_station_without_one_of_them_does_not_begin(
    folder: DataFolder, of: str, error: type[Exception]
) -> None:
    {"keys": folder.keys / "station.pem", "token": folder.token, "tls": folder.tls_certificate}[
        of
    ].unlink()
    with pytest.raises(error):
        OwnSecrets(folder.keys, folder.token, folder.tls_certificate)
