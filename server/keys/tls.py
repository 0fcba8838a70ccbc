"""TLS, at both ends: what the station shows, and whom a client takes for the station."""

import hashlib
import hmac
import re
import socket
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from server.keys.private import PrivateError, read_private

_FIRST = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class TlsError(Exception):
    """A certificate cannot be used, or is not the one we trust; one line that says what to do."""


# ------------------------------------------------------------------ the station's end
def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For connections that the station accepts: TLS 1.3 alone; TlsError if the files do not do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A session is as long as a connection; tickets would be two more writes after each handshake.
    context.num_tickets = 0
    try:
        # An operator's key may be shared with a group of this machine, as Debian's ssl-cert is.
        read_private(key, stat.S_IRWXO)
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (PrivateError, OSError, ValueError) as error:
        raise TlsError(_why(certificate, key, error)) from None
    return context


def _no_passphrase() -> str:
    raise ValueError("it is sealed by a passphrase: give one that is not")


def _why(certificate: Path, key: Path, error: Exception) -> str:
    if isinstance(error, PrivateError):
        return str(error)
    if isinstance(error, ssl.SSLError):
        if error.reason in {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"}:
            return f"{key} is not the key of {certificate}"
        return f"{certificate} or {key} is no PEM file of a certificate or its key"
    if isinstance(error, OSError):
        return f"{certificate}: {error.strerror} (let the station's user read it)"
    return f"{key}: {error}"


def certificate_hash(path: Path) -> bytes:
    """SHA-256 of the (first) certificate in a PEM file, as DER; TlsError if there is none."""
    try:
        found = _FIRST.search(path.read_bytes())
        if found is None:
            raise TlsError(f"{path} holds no certificate")
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(found[0].decode("ascii"))).digest()
    except OSError as error:
        raise TlsError(f"{path}: {error.strerror} (run as the station's user)") from None
    except ValueError:
        raise TlsError(f"{path} holds no certificate") from None


# ------------------------------------------------------------------ a client's end
@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a client takes for the station.

    Whoever shows the certificate with this SHA-256; with None, whom the CAs of this machine's
    system certify by the name that was asked for.
    """

    pin: bytes | None

    def secure(self, connection: socket.socket, host: str) -> ssl.SSLSocket:
        """TLS over a connected socket, which is this one's from now on.

        TlsError if the other end is not whom we trust: nothing was said to it then. OSError if
        it speaks no TLS.
        """
        context = ssl.create_default_context() if self.pin is None else _pinned_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            secured = context.wrap_socket(connection, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            raise TlsError(
                f"no CA of this machine vouches for {host}: {error.verify_message} "
                "(set LOA_FINGERPRINT to what `loa keys show` says on its machine)"
            ) from None
        if self.pin is not None and not hmac.compare_digest(self.pin, _shown(secured)):
            secured.close()
            raise TlsError(
                f"{host} has another certificate than the one trusted here: for the station of "
                "another machine set LOA_TOKEN and LOA_FINGERPRINT (`loa keys show` there)"
            )
        return secured


def _pinned_context() -> ssl.SSLContext:
    """Takes any certificate; `Trust` compares it before a byte is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _shown(secured: ssl.SSLSocket) -> bytes:
    return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").digest()
