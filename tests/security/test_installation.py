"""A fresh installation: what a stranger finds who reaches its ports, or has installed one too."""

import http.client
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.processes import Bench
from server.cli import init
from server.data import DataFolder
from server.keys.folder import KeyFolder
from server.keys.tls import Trust, certificate_hash
from server.keys.token import TokenFile
from server.remote import ApiError, Credentials, call, credentials_of
from tests.support.tls import station_tls

pytestmark = pytest.mark.realtime
# One that changes something, and one that only looks.
CALLS: list[tuple[str, str, object]] = [
    ("POST", "/api/v1/stop", {}),
    ("GET", "/api/v1/speakers", None),
]
GUESSES = ["admin", "loa", "operator", "0" * 64, "None", "null", "Bearer"]


def installed(path: Path) -> DataFolder:
    """What `loa init` makes if nobody says anything."""
    assert init.main([str(path), "--yes"]) == 0
    return DataFolder(path)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A station as it was installed, that has been started for the first time."""
    with Bench(tmp_path) as bench:
        installed(bench.data.path)
        bench.start_station()
        yield bench


def secrets_of(folder: DataFolder) -> list[bytes]:
    """All that must be its own: keys of both kinds, certificates, fingerprints and the token."""
    keys = KeyFolder(folder.keys).load()
    files = [file for place in folder.secrets for file in (place, *place.rglob("*"))]
    return [
        *(file.read_bytes() for file in files if file.is_file()),
        keys.key.seed,
        keys.key.public,
        keys.certificate.root,
        certificate_hash(folder.tls_certificate),
        TokenFile(folder.token).load().encode(),
    ]


def status(bench: Bench, method: str, path: str, authorization: str | None) -> tuple[int, bytes]:
    """What a stranger is answered, who takes any certificate."""
    host, _, port = bench.address.partition(":")
    context = station_tls().calling()
    connection = http.client.HTTPSConnection(host, int(port), timeout=5, context=context)
    headers = {} if authorization is None else {"Authorization": authorization}
    try:
        connection.request(method, path, b"{}" if method == "POST" else None, headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_S3_two_installations_share_no_key_no_certificate_and_no_token(  # noqa: N802
    tmp_path: Path,
) -> None:
    """Seen to fail with constants for what is drawn: the seeds, the token, the key of TLS."""
    one, other = installed(tmp_path / "one"), installed(tmp_path / "other")
    mine, theirs = secrets_of(one), secrets_of(other)
    assert not set(mine) & set(theirs)
    assert len(set(mine)) == len(mine)


def test_S3_nothing_secret_of_an_installation_is_open_to_others(  # noqa: N802
    tmp_path: Path,
) -> None:
    """Seen to fail with new files made as `open` makes them, under a umask of 0."""
    before = os.umask(0)
    try:
        folder = installed(tmp_path / "station")
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    for place in folder.secrets:
        for file in (place, *place.rglob("*")):
            assert not stat.S_IMODE(file.stat().st_mode) & 0o077, file


def test_S3_a_fresh_station_does_nothing_for_whoever_has_no_token(  # noqa: N802
    bench: Bench, tmp_path: Path
) -> None:
    """Seen to fail with the access check left out of the API, and with one that let "" pass."""
    other = TokenFile(installed(tmp_path / "other").token).load()
    for method, path, _ in CALLS:
        for shown in (None, "", "Bearer", "Bearer ", *(f"Bearer {guess}" for guess in GUESSES)):
            answered, reply = status(bench, method, path, shown)
            assert answered == 401, (path, shown)
            assert "loa keys token" in json.loads(reply)["detail"]
        assert status(bench, method, path, f"Bearer {other}")[0] == 401
    for method, path, body in CALLS:
        call(bench.address, method, path, body, credentials=credentials_of(bench.data, {}))


def test_S3_the_token_of_a_fresh_station_is_shown_to_no_other(  # noqa: N802
    bench: Bench, tmp_path: Path
) -> None:
    """Seen to fail with a client that compared no certificate."""
    here = credentials_of(bench.data, {})
    other = credentials_of(installed(tmp_path / "other"), {})
    with pytest.raises(ApiError, match="has another certificate"):
        call(bench.address, "GET", "/api/v1/speakers", credentials=Credentials("t", other.trust))
    with pytest.raises(ApiError, match="no CA of this machine"):
        call(bench.address, "GET", "/api/v1/speakers", credentials=Credentials("t", Trust(None)))
    call(bench.address, "GET", "/api/v1/speakers", credentials=here)


def test_S3_plain_text_is_answered_by_nobody(bench: Bench) -> None:  # noqa: N802
    """Seen to fail with uvicorn's own start-up, which speaks HTTP without TLS."""
    host, _, port = bench.address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    token = TokenFile(bench.data.token).load()
    connection.request("GET", "/api/v1/speakers", headers={"Authorization": f"Bearer {token}"})
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        connection.getresponse()
    connection.close()
