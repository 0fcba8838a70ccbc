"""A station's self-made TLS certificate, and the server's end of TLS."""

import datetime as dt
import ssl
import tempfile
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from transport.security.certificates import tls_hash


def _self_made() -> tuple[bytes, bytes, bytes]:
    """Key and certificate as PEM, and the certificate as DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a station")])
    began = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + dt.timedelta(days=1))  # no loudspeaker minds
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, certificate.public_bytes(Encoding.PEM), certificate.public_bytes(Encoding.DER)


@cache
def server_tls(which: str = "station") -> tuple[ssl.SSLContext, bytes]:
    """A server's context and its certificate's hash; each name has a certificate of its own."""
    key, certificate, der = _self_made()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with tempfile.TemporaryDirectory() as folder:  # the ssl module reads nothing but files
        path = Path(folder, which)
        path.write_bytes(key + certificate)
        context.load_cert_chain(path)
    return context, tls_hash(der)
