"""What every process of the station is born with, and how it knows that its parent is gone."""

import json
import os
import signal
import socket
import sys
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Birth:
    """The sockets and memory the supervisor hands down, as file descriptors, and the settings.

    The supervisor binds everything once: a port that is taken is known at once, and a process
    that dies and returns finds its callers still queued. `data` is the path of the station's
    folder, which it keeps locked; empty where there is none. `secret` holds 32 random bytes that
    control, sender and gateway derive the sessions' keys from; it is memory, for anybody on this
    machine can read a command line. `tls_certificate` and `tls_key` are paths.
    """

    media_epoch_ns: int
    http: int
    ingest: int
    time: int
    rtp: int
    rtcp: int
    gateway: int
    ring: int
    wake: int
    gateway_wake: int
    secret: int
    lifeline: int
    ready: int
    producer_bus: int
    sender_bus: int
    gateway_bus: int
    notebook: int
    interface: str
    groups: str
    group_port: int
    ttl: int
    announce: bool
    data: str = ""
    tls_certificate: str = ""
    tls_key: str = ""

    def to_argument(self) -> str:
        """For the command line of a child."""
        return json.dumps(asdict(self))

    @classmethod
    def from_arguments(cls) -> "Birth":
        """What this child was given."""
        return cls(**json.loads(sys.argv[1]))


def adopt(descriptor: int) -> socket.socket:
    """An inherited socket; our copy of it, so that closing it leaves the supervisor's alone."""
    return socket.socket(fileno=os.dup(descriptor))


def socket_port(descriptor: int) -> int:
    """The port that an inherited socket is bound to."""
    with adopt(descriptor) as end:
        return int(end.getsockname()[1])


def socket_address(descriptor: int) -> str:
    """The IPv4 address that an inherited socket is bound to."""
    with adopt(descriptor) as end:
        return str(end.getsockname()[0])


SECRET_BYTES = 32


def read_secret(descriptor: int) -> bytes:
    """The secret of this run of the station; see `Birth.secret`."""
    return os.pread(descriptor, SECRET_BYTES, 0)


def ignore_interrupts() -> None:
    """Ctrl-C reaches the whole group: the supervisor alone answers and then cuts the lifeline."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
