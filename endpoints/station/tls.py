"""TLS to the station, which is known by its certificate and not by whoever issued that.

The station key signs the hash of the certificate (`Identity.binding`), so no authority is asked
and no name compared; whoever does not hold the certificate's key ends in the handshake (RFC 8446
section 4.4.3).
"""

import ssl
from dataclasses import dataclass

import trio

from transport.security.certificates import tls_hash


@dataclass(frozen=True, slots=True)
class TlsPeer:
    """The station's end of a connection: the host called, and its certificate's SHA-256."""

    host: str
    hash: bytes


def client_context() -> ssl.SSLContext:
    """TLS 1.3 and nothing else; it verifies no chain, for the caller compares the hash."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def open_tls(host: str, port: int) -> tuple[trio.SSLStream[trio.SocketStream], TlsPeer]:
    """A connection and who is at its other end; OSError. The caller sets the time limit."""
    tcp = await trio.open_tcp_stream(host, port)
    stream = trio.SSLStream(tcp, client_context(), https_compatible=True)
    try:
        await stream.do_handshake()
        certificate = stream.getpeercert(binary_form=True)
    except trio.BrokenResourceError:
        await trio.aclose_forcefully(stream)
        raise ConnectionError("no TLS 1.3 is spoken there") from None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    # A server of TLS 1.3 always shows one, for nothing is agreed on beforehand.
    return stream, TlsPeer(host, tls_hash(certificate or b""))
