"""The first bytes of a TLS client."""

import ssl

import pytest


def client_hello(*protocols: str) -> bytes:
    """As OpenSSL of this machine says it, offering these by ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    out = ssl.MemoryBIO()
    caller = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="station.example")
    with pytest.raises(ssl.SSLWantReadError):
        caller.do_handshake()
    return out.read()
