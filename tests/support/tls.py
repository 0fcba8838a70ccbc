"""A station's TLS for tests: one certificate for all of them, for to make one takes time."""

import atexit
import datetime as dt
import functools
import shutil
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from server.keys.selfmade import CERTIFICATE, KEY, make_certificate
from server.keys.tls import Trust, certificate_hash, server_context
from server.remote import Credentials

# What no station has drawn, and every station of a test may have.
TOKEN = "0123456789abcdef" * 4


@dataclass(frozen=True, slots=True)
class StationTls:
    """A certificate, its key, and what is trusted by whoever trusts it."""

    certificate: Path
    key: Path

    @property
    def hash(self) -> bytes:
        return certificate_hash(self.certificate)

    @property
    def trust(self) -> Trust:
        return Trust(self.hash)

    @property
    def credentials(self) -> Credentials:
        return Credentials(TOKEN, self.trust)

    @property
    def environment(self) -> dict[str, str]:
        """By which a command finds both."""
        return {"LOA_TOKEN": TOKEN, "LOA_FINGERPRINT": self.hash.hex()}

    def accepting(self) -> ssl.SSLContext:
        """For a station's end; a new one each time, since it may be changed."""
        return server_context(self.certificate, self.key)

    @staticmethod
    def calling() -> ssl.SSLContext:
        """For a client that asks not who answers."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


@functools.cache
def station_tls() -> StationTls:
    """The one of this run."""
    folder = Path(tempfile.mkdtemp(prefix="loa-tls-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make_certificate(folder, ["localhost", "127.0.0.1"], dt.datetime.now(dt.UTC))
    return StationTls(folder / CERTIFICATE, folder / KEY)
