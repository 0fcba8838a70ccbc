"""What every process of the station is born with, and how it knows that its parent is gone."""

import ctypes
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass

# The usher and the gateway: they read routes, and the gateway the ring too.
OTHER_READERS = 2

DESCRIPTORS = (
    *("http", "ingest", "time", "rtp", "rtcp", "gateway"),
    *("ring", "wakes", "turns", "routes", "secret", "database", "notebook", "lifeline", "ready"),
    *("producer_bus", "senders_bus", "usher_bus", "gateway_bus", "halls"),
)
_LISTS = ("wakes", "halls")


@dataclass(frozen=True, slots=True)
class Birth:
    """The sockets and memory the supervisor hands down, as file descriptors, and the settings.

    The supervisor binds everything once: a port that is taken is known at once, and a process
    that dies and returns finds its callers still queued. `data` is the path of the station's
    folder, which it keeps locked; empty where there is none. `secret` holds 32 random bytes that
    control, usher and gateway derive the sessions' keys from; it is memory, for anybody on this
    machine can read a command line. `tls_certificate` and `tls_key` are paths.

    `database` is memory as well, of control alone: the URL of a server's database, with its
    password; empty where the database is a file.

    `wakes` has an eventfd for each reader of the ring: those of the senders, by shard, then the
    usher's, then the gateway's. `turns` is memory of which a sender locks the byte of its `shard`:
    whoever holds it sends, and whoever waits for it is the warm spare. `routes` is the memory of a
    `RouteBook`. `halls` are the sockets by which control hands loudspeakers on, one a hall, and of
    a hall itself its own end alone.
    """

    media_epoch_ns: int
    http: int
    ingest: int
    time: int
    rtp: int
    rtcp: int
    gateway: int
    ring: int
    wakes: tuple[int, ...]
    turns: int
    routes: int
    secret: int
    lifeline: int
    ready: int
    producer_bus: int
    senders_bus: int
    usher_bus: int
    gateway_bus: int
    halls: tuple[int, ...]
    notebook: int
    interface: str
    groups: str
    group_port: int
    ttl: int
    announce: bool
    shard: int = 0
    data: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    database: int = -1
    audit_days: int = 0
    programmes_days: int = 0

    def to_argument(self) -> str:
        """For the command line of a child."""
        return json.dumps(asdict(self))

    @classmethod
    def from_arguments(cls) -> "Birth":
        """What this child was given."""
        plain = json.loads(sys.argv[1])
        lists = {name: tuple(plain[name]) for name in _LISTS}
        return cls(**(plain | lists))

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that it was given of `DESCRIPTORS`."""
        given: list[int] = []
        for name in DESCRIPTORS:
            value = getattr(self, name)
            given += value if isinstance(value, tuple) else [value]
        return tuple(descriptor for descriptor in given if descriptor >= 0)

    def ports(self) -> dict[str, int]:
        """Which port is for what."""
        return {
            "control": socket_port(self.http),
            "ingest": socket_port(self.ingest),
            "time": socket_port(self.time),
            "media": socket_port(self.rtp),
            "rtcp": socket_port(self.rtcp),
            "gateway": socket_port(self.gateway),
        }

    @property
    def shards(self) -> int:
        """How many senders share the destinations."""
        return len(self.wakes) - OTHER_READERS

    @property
    def usher_wake(self) -> int:
        """The usher's wake-up."""
        return self.wakes[-2]

    @property
    def gateway_wake(self) -> int:
        """The gateway's wake-up."""
        return self.wakes[-1]


def adopt(descriptor: int) -> socket.socket:
    """An inherited socket; our copy of it, so that closing it leaves the supervisor's alone."""
    return socket.socket(fileno=os.dup(descriptor))


def hall_pair() -> tuple[socket.socket, socket.socket]:
    """The two ends between control and a hall: messages keep their bounds, and none is lost."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def socket_port(descriptor: int) -> int:
    """The port that an inherited socket is bound to."""
    with adopt(descriptor) as end:
        return int(end.getsockname()[1])


def socket_address(descriptor: int) -> str:
    """The address that an inherited socket is bound to."""
    with adopt(descriptor) as end:
        return str(end.getsockname()[0])


SECRET_BYTES = 32


def read_secret(descriptor: int) -> bytes:
    """The secret of this run of the station; see `Birth.secret`."""
    return os.pread(descriptor, SECRET_BYTES, 0)


def read_database(descriptor: int) -> str | None:
    """The URL of the database, None where it is a file; see `Birth.database`."""
    if descriptor < 0:
        return None
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode() or None


def ignore_interrupts() -> None:
    """Ctrl-C reaches the whole group: the supervisor alone answers and then cuts the lifeline."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# linux/prctl.h
_PR_SET_NAME, _PR_SET_TIMERSLACK = 15, 29


def name_process(name: str) -> None:
    """What `ps -o comm` and `top` call it, of 15 bytes at most; where the system knows that."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def wake_punctually() -> None:
    """This thread wakes up when it has asked to, and not 50 us later; where the system can."""
    _prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1))


def _prctl(option: int, argument: object) -> None:
    with suppress(OSError, AttributeError):  # a system without it
        ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)
