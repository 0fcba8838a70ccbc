"""The TLS certificate that a station makes for itself, where the operator brings none."""

import datetime as dt
import ipaddress
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from server.keys.private import create_private

CERTIFICATE, KEY = "certificate.pem", "key.pem"
_YEARS = 10
_DAY = dt.timedelta(days=1)


def make_certificate(folder: Path, names: Iterable[str], now: dt.datetime) -> None:
    """Write a self-made ECDSA P-256 certificate for ten years, and its key, into a folder.

    `names` are host names and IPv4 addresses; what DNS could not carry is left out.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Loa station")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)  # somebody's clock may be a little behind
        .not_valid_after(now + _YEARS * 365.25 * _DAY)
        .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    create_private(folder / KEY, key.private_bytes(pem, pkcs8, plain))
    create_private(folder / CERTIFICATE, certificate.public_bytes(pem))


def _general_names(names: Iterable[str]) -> list[x509.GeneralName]:
    return [_general_name(name) for name in dict.fromkeys(names) if name and name.isascii()]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
