"""A station, asked over its HTTP API from another process: plain and synchronous."""

import http.client
import json
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from server.configuration import configure
from server.data import DataError, DataFolder, default_folder
from server.keys.tls import TlsError, Trust, certificate_hash
from server.keys.token import AccessError, TokenFile
from server.problem import detail_of
from server.settings import SettingsError
from server.signed_in import Kept, SignedIn, SignedInError, file_of
from server.users.records import SESSION_PREFIX
from transport.control.address import StationAddress
from transport.control.messages import spelt_alike

_TIMEOUT_S = 5.0
_DOWNLOAD_TIMEOUT_S = 60.0
_CHUNK_BYTES = 64 << 10
# The figures of 20,000 loudspeakers are less.
_MAX_REPLY = 64 << 20
_A_PAGE = 1_000
_NEXT_PAGE = re.compile(r'<(?P<path>/[^<>\s]*)>; rel="next"')


_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
# What a header can carry of a token (RFC 6750 section 2.1).
_TOKEN = re.compile(r"[\w.~+/=-]{1,4096}", re.ASCII)
_UNSET = (
    "LOA_TOKEN is not set: for the station of another machine set LOA_TOKEN and LOA_FINGERPRINT to "
    "what `loa keys token` and `loa keys show` say there"
)
_WANTED = (
    "the station wants its operator's token: run as the station's user on its machine, or set "
    "LOA_TOKEN and LOA_FINGERPRINT to what `loa keys token` and `loa keys show` say there"
)


class ApiError(Exception):
    """The station did not do it, or is not there; one line that says why."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What an operator's program needs: the token, and whom to show it to."""

    token: str = field(repr=False)
    trust: Trust


def find_credentials(environment: Mapping[str, str], server: str | None = None) -> Credentials:
    """Those of LOA_TOKEN and LOA_FINGERPRINT, or of `loa login`, or of this machine's station.

    `server` is who will be asked: a session is good at one station alone. Without LOA_FINGERPRINT,
    LOA_TOKEN is shown to whom the system's CAs vouch for. ApiError if there are none.
    """
    token = environment.get("LOA_TOKEN", "").strip()
    pin = environment.get("LOA_FINGERPRINT", "").replace(":", "").strip().lower()
    if pin and not _FINGERPRINT.fullmatch(pin):
        raise ApiError("LOA_FINGERPRINT has 64 hexadecimal digits: `loa keys show` says them")
    if token:
        if not _TOKEN.fullmatch(token):
            raise ApiError("LOA_TOKEN is no token: `loa keys token` says it")
        return Credentials(token, Trust(bytes.fromhex(pin) if pin else None))
    kept = None if server is None else signed_in_at(environment, server)
    if kept is not None:
        known = pin or kept.fingerprint
        return Credentials(kept.session, Trust(bytes.fromhex(known) if known else None))
    if pin:
        raise ApiError(
            "LOA_FINGERPRINT is set and LOA_TOKEN is not: set both, or sign in with `loa login`"
        )
    try:
        folder = DataFolder(default_folder(environment))
    except DataError:
        raise ApiError(_WANTED) from None
    if not folder.holds_station():
        raise ApiError(f"{folder.path} holds no station (`loa init` makes one), and {_UNSET}")
    return credentials_of(folder, environment)


def signed_in_at(environment: Mapping[str, str], server: str) -> Kept | None:
    """The session that `loa login` has kept for a station; None if there is none."""
    path = file_of(environment)
    try:
        address = StationAddress.parse(server).text
        return None if path is None else SignedIn(path).at(address)
    except ValueError as error:
        raise ApiError(str(error)) from None
    except SignedInError as error:
        raise ApiError(str(error)) from None


def find_trust(environment: Mapping[str, str]) -> Trust:
    """By what a station is known before anybody has signed in there; ApiError for no fingerprint.

    LOA_FINGERPRINT, or the certificate of this machine's station, or the system's CAs.
    """
    pin = environment.get("LOA_FINGERPRINT", "").replace(":", "").strip().lower()
    if pin:
        if not _FINGERPRINT.fullmatch(pin):
            raise ApiError("LOA_FINGERPRINT has 64 hexadecimal digits: `loa keys show` says them")
        return Trust(bytes.fromhex(pin))
    try:
        folder = DataFolder(default_folder(environment))
        if folder.holds_station():
            return Trust(certificate_hash(certificate_of(folder, environment)))
    except (DataError, TlsError):
        pass
    return Trust(None)


def credentials_of(folder: DataFolder, environment: Mapping[str, str]) -> Credentials:
    """Those of the station in a folder; ApiError if this user may not read them."""
    try:
        token = TokenFile(folder.token).load()
        return Credentials(token, Trust(certificate_hash(certificate_of(folder, environment))))
    except (AccessError, TlsError) as error:
        raise ApiError(str(error)) from None


def certificate_of(folder: DataFolder, environment: Mapping[str, str]) -> Path:
    """The certificate that the station in a folder shows."""
    try:
        named = configure({"data": str(folder.path)}, environment).tls_certificate
    except SettingsError:
        named = None  # a station that runs has better ones, and may have to be stopped
    return folder.tls_certificate if named is None else Path(named)


def call(
    server: str,
    method: str,
    path: str,
    body: object = None,
    timeout_s: float = _TIMEOUT_S,
    credentials: Credentials | None = None,
) -> Any:
    """What the station at `server` (`host[:port]`) answers; None if it says only that it is done.

    `path` as `path_of` makes it. Without `credentials`, those that `find_credentials` finds.
    ApiError if the station refuses or is not there.
    """
    address, credentials = _whom(server, credentials)
    return _asked(address, method, path, body, timeout_s, credentials)[0]


def _whom(
    server: str, credentials: Credentials | None = None
) -> tuple[StationAddress, Credentials]:
    try:
        address = StationAddress.parse(server)
    except ValueError as error:
        raise ApiError(str(error)) from None
    return address, credentials or find_credentials(os.environ, server)


def _asked(
    address: StationAddress,
    method: str,
    path: str,
    body: object,
    timeout_s: float,
    credentials: Credentials,
) -> tuple[Any, str]:
    """What the station answers, and the path of the next page; empty if there is none."""
    connection = _Connection(address, timeout_s, credentials.trust)
    status, data, link = _exchange(connection, method, path, body, credentials.token)
    if status == HTTPStatus.UNAUTHORIZED:
        raise ApiError(_unauthorised(address, credentials, data))
    try:
        answer = json.loads(data) if data else None
    except (ValueError, RecursionError):
        raise not_a_station(address) from None
    if not 200 <= status < 300:
        raise ApiError(detail_of(answer) or f"the station answered {status}")
    if answer is None and status != HTTPStatus.NO_CONTENT:
        raise not_a_station(address)
    following = _NEXT_PAGE.fullmatch(link)
    return answer, "" if following is None else following["path"]


def _unauthorised(address: StationAddress, credentials: Credentials, data: bytes) -> str:
    if not credentials.token:  # whoever signs in has none yet
        return _refusal(data, HTTPStatus.UNAUTHORIZED)
    if credentials.token.startswith(SESSION_PREFIX):
        return (
            f"the session at {address.text} is over: `loa login` begins another "
            "(`loa logout` has this user's own rights count again)"
        )
    return f"{address.text} does not take this token: {_WANTED}"


def rows(
    server: str,
    path: str,
    timeout_s: float = _TIMEOUT_S,
    credentials: Credentials | None = None,
    most: int | None = None,
) -> list[dict[str, Any]]:
    """A list of objects, all its pages, or `most` of them; ApiError as `call`."""
    found = listed(server, path, timeout_s, credentials, most)
    if not all(isinstance(row, dict) for row in found):
        raise not_a_station(StationAddress.parse(server))
    return found


def listed(
    server: str,
    path: str,
    timeout_s: float = _TIMEOUT_S,
    credentials: Credentials | None = None,
    most: int | None = None,
) -> list[Any]:
    """The same for a list of anything."""
    address, credentials = _whom(server, credentials)
    size = _A_PAGE if most is None else min(most, _A_PAGE)
    found: list[Any] = []
    path = f"{path}{'&' if '?' in path else '?'}limit={size}"
    while path and (most is None or len(found) < most):
        page, path = _asked(address, "GET", path, None, timeout_s, credentials)
        if not isinstance(page, list):
            raise not_a_station(address)
        found += page
    return found[:most]


def download(server: str, path: str) -> Iterator[bytes]:
    """What the station answers, part by part as it comes, however long; ApiError as `call`."""
    address, credentials = _whom(server)
    connection = _Connection(address, _DOWNLOAD_TIMEOUT_S, credentials.trust)
    with _explaining(address), closing(connection):
        headers = {"Authorization": f"Bearer {credentials.token}"}
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        if reply.status != HTTPStatus.OK:
            raise ApiError(_refusal(reply.read(_MAX_REPLY), reply.status))
        while part := reply.read1(_CHUNK_BYTES):  # what there is, for it may come for ever
            yield part


def _refusal(data: bytes, status: int) -> str:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        answer = None
    return detail_of(answer) or f"the station answered {status}"


@contextmanager
def _explaining(address: StationAddress) -> Iterator[None]:
    try:
        yield
    except http.client.IncompleteRead:
        raise ApiError(f"{address.text} broke off: try again") from None
    except OSError as error:
        why = error.strerror or str(error)
        raise ApiError(f"station not found at {address.text}: {why}") from None
    except (http.client.HTTPException, ValueError):
        raise not_a_station(address) from None


def path_of(collection: str, name: str, *, nested: bool = False) -> str:
    """The path of one thing in a collection, its name in the one spelling.

    Only a `nested` name may have `/` in it. ApiError for what could not be a name.
    """
    if not name.strip("/") or ("/" in name and not nested):
        raise ApiError(f"{name!r} is no name")
    return f"{collection}/{quote(spelt_alike(name), safe='/', errors='replace')}"


def not_a_station(address: StationAddress) -> ApiError:
    """The error for an answer that no station gives."""
    return ApiError(f"what answers at {address.text} is not a station")


class _Connection(http.client.HTTPConnection):
    """HTTP over TLS, once we know to whom."""

    def __init__(self, address: StationAddress, timeout_s: float, trust: Trust) -> None:
        super().__init__(address.host, address.port, timeout=timeout_s)
        self.address = address
        self._trust = trust

    def connect(self) -> None:  # type: ignore[explicit-override]  # typing.override is of 3.12
        """Also see who it is, before anything is said."""
        super().connect()
        try:
            self.sock = self._trust.secure(self.sock, self.address.host)
        except ssl.SSLError:
            raise not_a_station(self.address) from None
        except TlsError as error:
            raise ApiError(str(error)) from None


def _exchange(
    connection: _Connection, method: str, path: str, body: object, token: str
) -> tuple[int, bytes, str]:
    address = connection.address
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, headers)
        reply = connection.getresponse()
        return reply.status, reply.read(_MAX_REPLY), reply.headers.get("Link", "")
    except OSError as error:
        why = error.strerror or str(error)
        hint = "start it with `loa serve`, or name another with --server"
        raise ApiError(f"station not found at {address.text}: {why} ({hint})") from None
    except (http.client.HTTPException, ValueError):
        raise not_a_station(address) from None
    finally:
        connection.close()
