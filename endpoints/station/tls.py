"""TLS to the station, which is known by its certificate and not by whoever issued that.

The station key signs the hash of the certificate (`Identity.binding`), so no authority is asked
and no name compared; whoever does not hold the certificate's key ends in the handshake (RFC 8446
section 4.4.3).
"""

import ssl
from dataclasses import dataclass
from functools import cache

import trio
from typing_extensions import override
from websockets.trio.client import connect
from websockets.typing import Subprotocol

from transport.control.address import StationAddress
from transport.control.messages import SUBPROTOCOL
from transport.control.session import HELLO_TIMEOUT_S
from transport.security.certificates import tls_hash


@dataclass(frozen=True, slots=True)
class TlsPeer:
    """The station's end of a connection: the host called, and its certificate's SHA-256."""

    host: str
    hash: bytes


@cache
def client_context() -> ssl.SSLContext:
    """TLS 1.3 and nothing else; it verifies no chain, for the caller compares the hash.

    One for all connections of this process. A station that shares its sessions out over processes
    tells a loudspeaker's by what the handshake offers to speak (RFC 7301).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([SUBPROTOCOL])
    return context


async def open_tls(
    host: str, port: int, local_address: str | None = None
) -> tuple[trio.SSLStream[trio.SocketStream], TlsPeer]:
    """A connection and who is at its other end; OSError, or TooSlowError if nobody takes it.

    The caller sets the time limit for TLS, which a station begins when it has time for us.
    It comes from `local_address`, one of this machine's, or from whichever the system chooses.
    """
    with trio.fail_after(HELLO_TIMEOUT_S):
        tcp = await trio.open_tcp_stream(host, port, local_address=local_address)
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


class Websocket(connect):
    """A WebSocket over `stream`, which is TLS already.

    It pings every `ping_s`, and waits `silence_s` for each answer. It goes where it was sent: a
    redirection is an answer like any other refusal.
    """

    def __init__(
        self,
        address: StationAddress,
        path: str,
        stream: trio.abc.Stream,
        subprotocol: str,
        *,
        max_size: int,
        headers: dict[str, str] | None = None,
        ping_s: float | None = None,
        silence_s: float | None = None,
    ) -> None:
        super().__init__(
            f"ws://{address.text}{path}",
            stream=stream,
            subprotocols=[Subprotocol(subprotocol)],
            additional_headers=headers,
            compression=None,
            proxy=None,
            max_size=max_size,
            open_timeout=HELLO_TIMEOUT_S,
            ping_interval=ping_s,
            ping_timeout=silence_s,
            close_timeout=1,
        )

    @override
    def process_redirect(self, exc: Exception) -> Exception:
        return exc
