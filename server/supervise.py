"""The station's parent process: binds every port, starts the others, starts again what dies.

It holds no state but sockets and shared memory, imports little and serves nothing, so that it
has no reason to die; control can then be killed without a sample lost.
"""

import fcntl
import ipaddress
import os
import resource
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from server.data import DataError, DataFolder
from server.keys.tls import TlsError, server_context
from server.ports import bound_ports, multicast_interface
from server.processes.bus import bus_pair
from server.processes.child import (
    OTHER_READERS,
    SECRET_BYTES,
    Birth,
    hall_pair,
    socket_port,
)
from server.processes.notebook import create_notebook
from server.processes.ring import create_ring
from server.settings import Settings, SettingsError
from transport.control.address import StationAddress
from transport.net.clocks import media_epoch_ns

SENDER = "server.sender"
_START_S = 20.0
_CALM_S = 5.0
# Every death is a signal that ends the waiting; this is for none.
_LOOK_S = 10.0
_RETRY_S = (0.0, 0.2, 0.5, 1.0, 2.0)


@dataclass(slots=True)
class Child:
    """One process of the station, and how often it has died of late."""

    module: str
    birth: Birth
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    deaths: int = 0
    due_s: float | None = None

    def start(self, now_s: float) -> None:
        """Start it, with exactly the descriptors it was born with."""
        self.started_s = now_s
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", self.module, self.birth.to_argument()],
            pass_fds=self.birth.descriptors,
            stdin=subprocess.DEVNULL,
            env=_environment(),
        )

    def pause_s(self, now_s: float) -> float:
        """How long to wait before starting it again: at once after a long life."""
        self.deaths = 0 if now_s - self.started_s > _CALM_S else self.deaths + 1
        return _RETRY_S[min(self.deaths, len(_RETRY_S) - 1)]

    def revive(self, now_s: float) -> float:
        """Start it again if it has died and its pause is over; nobody else waits for that.

        Returns in how many seconds to look again, unless something happens before.
        """
        if self.process is None or self.process.poll() is None:
            return _LOOK_S
        if self.due_s is None:
            self.due_s = now_s + self.pause_s(now_s)
            print(
                f"loa: {self.module} ended with {self.process.returncode}; starting it again",
                file=sys.stderr,
            )
        if now_s < self.due_s:
            return self.due_s - now_s
        try:
            self.start(now_s)
        except OSError as error:  # no memory, say: the others live, so this process must
            self.due_s = now_s + _RETRY_S[-1]
            print(f"loa: cannot start {self.module}: {error}", file=sys.stderr)
        else:
            self.due_s = None
        return _LOOK_S


_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
# Whoever imports numpy would else start threads that spin for matrices nobody multiplies here.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
# Control alone is told the database's password, and by other means.
_NOT_FOR_CHILDREN = "LOA_DATABASE"


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != _NOT_FOR_CHILDREN}
    return kept | _ENVIRONMENT


@dataclass(frozen=True, slots=True)
class _Held:
    """Descriptors that are closed at the end."""

    stack: ExitStack

    def end(self, end: socket.socket) -> int:
        self.stack.callback(end.close)
        return end.fileno()

    def descriptor(self, descriptor: int) -> int:
        self.stack.callback(os.close, descriptor)
        return descriptor


@contextmanager
def _resources(settings: Settings) -> Iterator[tuple[dict[str, Birth], int, int]]:
    """All sockets and memory; yields each child's birth, the ready pipe and the HTTP port."""
    with ExitStack() as stack:
        held = _Held(stack)
        if settings.data is not None:
            stack.enter_context(_locked(DataFolder(settings.data), settings.database))
        certificate, key = _tls(settings)
        interface = multicast_interface(settings)
        ports: dict[str, Any] = {name: held.end(end) for name, end in bound_ports(settings)}
        ring, wakes = create_ring(settings.senders + OTHER_READERS)
        # Cut when this process dies, however it dies.
        lifeline, _ = map(held.descriptor, os.pipe())
        ready, ready_end = map(held.descriptor, os.pipe())
        common = Birth(
            media_epoch_ns=media_epoch_ns(),
            **ports,
            ring=held.descriptor(ring),
            wakes=tuple(map(held.descriptor, wakes)),
            turns=held.descriptor(os.memfd_create("loa-turns")),
            routes=held.descriptor(create_notebook()),
            lifeline=lifeline,
            ready=ready_end,
            **_NOBODYS,
            interface=interface,
            groups=settings.groups,
            group_port=settings.group_port,
            ttl=settings.ttl,
            announce=settings.announce,
            data="" if settings.data is None else str(settings.data.absolute()),
            tls_certificate=certificate,
            tls_key=key,
            audit_days=settings.audit_days,
            programmes_days=settings.programmes_days,
        )
        yield _births(common, settings, held), ready, socket_port(ports["http"])


# What is not for everybody.
_NOBODYS: dict[str, Any] = {
    "producer_bus": -1,
    "senders_bus": -1,
    "usher_bus": -1,
    "gateway_bus": -1,
    "halls": (),
    "notebook": -1,
    "secret": -1,
    "database": -1,
}


def _births(common: Birth, settings: Settings, held: _Held) -> dict[str, Birth]:
    """What each child is born with, in the order in which they are started.

    By its module, and a number where there are several: the first has none.
    """
    producer_control, producer = map(held.end, bus_pair())
    senders_control, senders = map(held.end, bus_pair())
    usher_control, usher = map(held.end, bus_pair())
    gateway_control, gateway = map(held.end, bus_pair())
    halls = [tuple(map(held.end, hall_pair())) for _ in range(settings.halls)]
    notebook = held.descriptor(create_notebook())
    secret = held.descriptor(_sealed("loa-secret", secrets.token_bytes(SECRET_BYTES)))
    database = held.descriptor(_sealed("loa-database", (settings.database or "").encode()))
    control = replace(
        common,
        producer_bus=producer_control,
        senders_bus=senders_control,
        usher_bus=usher_control,
        gateway_bus=gateway_control,
        halls=tuple(ours for ours, _ in halls),
        notebook=notebook,
        secret=secret,
        database=database,
    )
    return {
        **{
            _numbered(SENDER, shard): replace(common, senders_bus=senders, shard=shard)
            for shard in range(settings.senders)
        },
        "server.usher": replace(common, usher_bus=usher, secret=secret),
        "server.producer": replace(common, producer_bus=producer),
        "server.gateway": replace(common, gateway_bus=gateway, secret=secret),
        **{
            _numbered("server.hall", number): replace(common, halls=(end,))
            for number, (_, end) in enumerate(halls)
        },
        "server": control,
    }


def _numbered(module: str, number: int) -> str:
    return f"{module} {number}" if number else module


def _children(births: dict[str, Birth]) -> list[Child]:
    """Of each one process; of each sender two, for one is the other's warm spare."""
    children = []
    for name, birth in births.items():
        module, *_ = name.split()
        children += [Child(module, birth) for _ in range(2 if module == SENDER else 1)]
    return children


def _sealed(name: str, data: bytes) -> int:
    """Memory with these bytes, that nobody can change any more."""
    memory = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(memory, data)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
    return memory


def _tls(settings: Settings) -> tuple[str, str]:
    """The paths of the certificate and its key, once they are known to do."""
    if settings.tls_certificate is not None and settings.tls_key is not None:
        certificate, key = Path(settings.tls_certificate), Path(settings.tls_key)
    elif settings.data is not None:
        folder = DataFolder(settings.data.absolute())
        certificate, key = folder.tls_certificate, folder.tls_key
    else:
        return "", ""
    try:
        server_context(certificate, key)
    except TlsError as error:
        raise SettingsError(str(error)) from None
    return str(certificate), str(key)


@contextmanager
def _locked(folder: DataFolder, database: str | None) -> Iterator[None]:
    try:
        folder.check()
        folder.place(database)
        folder.check_secrets()
        with folder.lock():
            yield
    except DataError as error:
        raise SettingsError(str(error)) from None


@dataclass(frozen=True, slots=True)
class _Signals:
    """Those that mean an end, as they come, and a pipe that whatever happens can be read from."""

    stopping: list[int]
    news: socket.socket

    def wait(self, patience_s: float) -> None:
        """Until a signal comes or a child dies, no longer than so."""
        if select.select([self.news], [], [], patience_s)[0]:
            self.news.recv(4096)


@contextmanager
def _signals() -> Iterator[_Signals]:
    signals, wake = socket.socketpair()
    wake.setblocking(False)
    stopping: list[int] = []
    before = {
        number: signal.signal(number, lambda received, _: stopping.append(received))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    # With a handler, whatever it does, a child's death is a signal that wakes us up.
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
    former = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    try:
        with signals, wake:
            yield _Signals(stopping, signals)
    finally:
        signal.set_wakeup_fd(former)
        for number, handler in before.items():
            signal.signal(number, handler)


def supervise(settings: Settings, ready_line: Callable[[str], None]) -> int:
    """Run the station until a signal; SettingsError if it cannot start."""
    _allow_descriptors()
    with _signals() as signals, _resources(settings) as (births, ready, port):
        children = _children(births)
        try:
            for child in children:
                child.start(time.monotonic())
            _wait_ready(ready, children, signals.stopping)
            everywhere = ipaddress.ip_address(settings.bind).is_unspecified
            host = births["server"].interface if everywhere else settings.bind
            if not signals.stopping:
                ready_line(StationAddress(host, port).text)
            while not signals.stopping:
                now_s = time.monotonic()
                signals.wait(min(child.revive(now_s) for child in children))
        finally:
            _end(children)
    return 0


def _allow_descriptors() -> None:
    """As many as there may be, here and in the children: each loudspeaker's session takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _wait_ready(ready: int, children: list[Child], stopping: list[int]) -> None:
    deadline_s = time.monotonic() + _START_S
    while not stopping and not select.select([ready], [], [], 0.05)[0]:
        if any(c.process is not None and c.process.poll() is not None for c in children):
            raise SettingsError("the station could not start; what it said stands above")
        if time.monotonic() > deadline_s:
            raise SettingsError(f"the station was not ready after {_START_S:.0f} s")


def _end(children: list[Child]) -> None:
    for child in children:
        if child.process is not None:
            child.process.terminate()
    for child in children:
        if child.process is not None:
            try:
                child.process.wait(3)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
