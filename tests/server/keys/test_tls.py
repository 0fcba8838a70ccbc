"""TLS at both ends: what is shown, and that nothing is said to whom we do not trust."""

import datetime as dt
import hashlib
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from server.keys.selfmade import CERTIFICATE, KEY, make_certificate
from server.keys.tls import TlsError, Trust, certificate_hash, server_context
from tests.support.tls import station_tls

NOW = dt.datetime(2031, 2, 3, tzinfo=dt.UTC)


@dataclass(slots=True)
class Heard:
    """What a server has been told by whoever called."""

    port: int = 0
    said: list[bytes] = field(default_factory=list)


@contextmanager
def answering(context: ssl.SSLContext) -> Iterator[Heard]:
    """A server for one caller."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        heard = Heard(listening.getsockname()[1])

        def serve() -> None:
            plain, _ = listening.accept()
            with suppress(OSError), context.wrap_socket(plain, server_side=True) as caller:
                while data := caller.recv(1 << 10):
                    heard.said.append(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield heard
        thread.join(5)
        assert not thread.is_alive()


def call(heard: Heard, trust: Trust, host: str = "127.0.0.1") -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", heard.port), 5)
    try:
        return trust.secure(plain, host)
    finally:
        plain.close()


# ------------------------------------------------------------------ the certificate
def test_a_self_made_certificate_names_the_machine_for_ten_years(tmp_path: Path) -> None:
    make_certificate(tmp_path, ["localhost", "192.0.2.1", "máy", "", "localhost"], NOW)
    made = x509.load_pem_x509_certificate((tmp_path / CERTIFICATE).read_bytes())
    key = made.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]
    assert made.not_valid_before_utc < NOW
    assert (made.not_valid_after_utc - NOW).days == 3652


def test_the_hash_is_that_of_what_is_shown() -> None:
    tls = station_tls()
    with answering(tls.accepting()) as heard, call(heard, Trust(tls.hash)) as secured:
        shown = secured.getpeercert(binary_form=True)
        assert shown is not None
        assert hashlib.sha256(shown).digest() == tls.hash
        assert secured.version() == "TLSv1.3"


def test_of_a_chain_the_first_is_shown(tmp_path: Path) -> None:
    tls = station_tls()
    make_certificate(tmp_path, ["ca"], NOW)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(b"# ours\n" + tls.certificate.read_bytes())
    chain.write_bytes(chain.read_bytes() + (tmp_path / CERTIFICATE).read_bytes())
    assert certificate_hash(chain) == tls.hash


def test_what_holds_no_certificate_is_one_line(tmp_path: Path) -> None:
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    for text in ("", "hello", begin + end, f"{begin}\nÄÄ\n{end}"):
        (tmp_path / "file").write_text(text)
        with pytest.raises(TlsError, match=r"^.*file holds no certificate$"):
            certificate_hash(tmp_path / "file")
    with pytest.raises(TlsError, match="No such file"):
        certificate_hash(tmp_path / "nothing")


# ------------------------------------------------------------------ the station's end
def line(certificate: Path, key: Path) -> str:
    with pytest.raises(TlsError) as refused:
        server_context(certificate, key)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def test_files_that_do_not_do_are_named(tmp_path: Path) -> None:
    tls = station_tls()
    make_certificate(tmp_path, ["x"], NOW)
    (tmp_path / "text").write_text("hello")
    (tmp_path / "text").chmod(0o600)
    nothing = tmp_path / "nothing"
    assert line(tls.certificate, tmp_path / KEY) == (
        f"{tmp_path / KEY} is not the key of {tls.certificate}"
    )
    assert "is no PEM file" in line(tls.certificate, tmp_path / "text")
    assert "is no PEM file" in line(tmp_path / "text", tls.key)
    assert f"{nothing}: No such file" in line(tls.certificate, nothing)
    assert f"{nothing}: No such file" in line(nothing, tls.key)


def test_a_key_that_everybody_can_read_is_not_used(tmp_path: Path) -> None:
    make_certificate(tmp_path, ["x"], NOW)
    (tmp_path / KEY).chmod(0o644)
    assert "`chmod 600" in line(tmp_path / CERTIFICATE, tmp_path / KEY)
    # As Debian keeps keys for its group ssl-cert.
    (tmp_path / KEY).chmod(0o640)
    server_context(tmp_path / CERTIFICATE, tmp_path / KEY)


# ------------------------------------------------------------------ a client's end
def test_nothing_is_said_to_whom_we_do_not_trust() -> None:
    with answering(station_tls().accepting()) as heard:
        with pytest.raises(TlsError, match=r"127\.0\.0\.1 has another certificate") as refused:
            call(heard, Trust(bytes(32)))
        assert len(str(refused.value).splitlines()) == 1
    assert heard.said == []


def test_whom_we_trust_hears_us_whatever_name_it_was_asked_by() -> None:
    tls = station_tls()
    with (
        answering(tls.accepting()) as heard,
        call(heard, tls.trust, "somewhere.example.org") as secured,
    ):
        secured.sendall(b"hello")
    assert heard.said == [b"hello"]


def test_without_a_pin_a_certificate_that_no_ca_vouches_for_is_not_taken() -> None:
    with answering(station_tls().accepting()) as heard:
        with pytest.raises(TlsError, match="no CA of this machine vouches for localhost") as error:
            call(heard, Trust(None), "localhost")
        assert "LOA_FINGERPRINT" in str(error.value)
    assert heard.said == []


@pytest.mark.parametrize(("host", "trusted"), [("localhost", True), ("example.org", False)])
def test_without_a_pin_the_system_decides_by_the_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, trusted: bool
) -> None:
    shutil.copy(station_tls().certificate, tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with answering(station_tls().accepting()) as heard:
        if trusted:
            call(heard, Trust(None), host).close()
        else:
            with pytest.raises(TlsError, match="no CA of this machine vouches"):
                call(heard, Trust(None), host)


def test_older_tls_is_not_spoken() -> None:
    context = station_tls().accepting()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with answering(context) as heard, pytest.raises(ssl.SSLError):
        call(heard, station_tls().trust)
