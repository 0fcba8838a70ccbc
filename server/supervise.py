"""The station's parent process: binds every port, starts the others, starts again what dies.

It holds no state but sockets and shared memory, imports little and serves nothing, so that it
has no reason to die; control can then be killed without a sample lost.
"""

import errno
import fcntl
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
from dataclasses import dataclass, fields, replace
from pathlib import Path

from server.data import DataError, DataFolder
from server.keys.tls import TlsError, server_context
from server.processes.bus import bus_pair
from server.processes.child import SECRET_BYTES, Birth, socket_port
from server.processes.notebook import create_notebook
from server.processes.ring import create_ring
from server.settings import Settings, SettingsError
from transport.net.clocks import media_epoch_ns
from transport.net.mdns import mdns_interfaces
from transport.net.stamped import route_interface, send_options, udp_socket

_START_S = 20.0
# Whoever calls speaks first, so until then the kernel alone knows of it.
_SPEECHLESS_S = 5
_CALM_S = 5.0
_RETRY_S = (0.0, 0.2, 0.5, 1.0, 2.0)
# Any address outside decides which interface the default route takes; nothing is sent to it.
_ANYWHERE = "192.0.2.1"
_ADVICE = {
    errno.EADDRINUSE: "is another station running? choose another --port",
    errno.EADDRNOTAVAIL: "use an IPv4 address of this machine with --bind",
    errno.EACCES: "ports below 1024 need a privilege: choose another --port",
}


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
        descriptors = [getattr(self.birth, f.name) for f in fields(Birth) if f.name in _DESCRIPTORS]
        self.started_s = now_s
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", self.module, self.birth.to_argument()],
            pass_fds=[d for d in descriptors if d >= 0],
            stdin=subprocess.DEVNULL,
        )

    def pause_s(self, now_s: float) -> float:
        """How long to wait before starting it again: at once after a long life."""
        self.deaths = 0 if now_s - self.started_s > _CALM_S else self.deaths + 1
        return _RETRY_S[min(self.deaths, len(_RETRY_S) - 1)]

    def revive(self, now_s: float) -> None:
        """Start it again if it has died and its pause is over; nobody else waits for that."""
        if self.process is None or self.process.poll() is None:
            return
        if self.due_s is None:
            self.due_s = now_s + self.pause_s(now_s)
            print(
                f"loa: {self.module} ended with {self.process.returncode}; starting it again",
                file=sys.stderr,
            )
        if now_s >= self.due_s:
            try:
                self.start(now_s)
            except OSError as error:  # no memory, say: the others live, so this process must
                self.due_s = now_s + _RETRY_S[-1]
                print(f"loa: cannot start {self.module}: {error}", file=sys.stderr)
            else:
                self.due_s = None


_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_DESCRIPTORS = {
    "http",
    "ingest",
    "time",
    "rtp",
    "rtcp",
    "gateway",
    "ring",
    "wake",
    "gateway_wake",
    "secret",
    "lifeline",
    "ready",
    "producer_bus",
    "sender_bus",
    "gateway_bus",
    "notebook",
}


def _listen(address: str, port: int) -> socket.socket:
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _SPEECHLESS_S)
        tcp.bind((address, port))
        tcp.listen(1024)
    except OSError:
        tcp.close()
        raise
    return tcp


def _bind(make: Callable[[str, int], socket.socket], address: str, port: int) -> socket.socket:
    try:
        return make(address, port)
    except OSError as error:
        kind = "TCP" if make is _listen else "UDP"
        why = error.strerror or str(error)
        advice = _ADVICE.get(error.errno or 0, "choose another --bind or --port")
        raise SettingsError(
            f"cannot use {kind} port {port} on {address}: {why} ({advice})"
        ) from None


def _ports(settings: Settings) -> Iterator[tuple[str, socket.socket]]:
    """Every port of the station, bound one by one, so that each is owned before the next."""

    def bound(make: Callable[[str, int], socket.socket], step: int) -> socket.socket:
        return _bind(make, settings.bind, settings.port + step if settings.port else 0)

    yield "http", bound(_listen, 0)
    yield "ingest", bound(_listen, 1)
    yield "time", bound(udp_socket, 0)
    yield "rtp", bound(udp_socket, 2)
    yield "rtcp", bound(udp_socket, 3)
    yield "gateway", bound(_listen, 4)


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
            stack.enter_context(_locked(DataFolder(settings.data)))
        certificate, key = _tls(settings)
        interface = _interface(settings)
        ports = {name: held.end(end) for name, end in _ports(settings)}
        ring, wake, gateway_wake = map(held.descriptor, create_ring())
        # Cut when this process dies, however it dies.
        lifeline, _ = map(held.descriptor, os.pipe())
        ready, ready_end = map(held.descriptor, os.pipe())
        common = Birth(
            media_epoch_ns=media_epoch_ns(),
            **ports,
            ring=ring,
            wake=wake,
            gateway_wake=gateway_wake,
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
        )
        yield _births(common, held), ready, socket_port(ports["http"])


# What is not for everybody.
_NOBODYS = {"producer_bus": -1, "sender_bus": -1, "gateway_bus": -1, "notebook": -1, "secret": -1}


def _births(common: Birth, held: _Held) -> dict[str, Birth]:
    """What each child is born with, in the order in which they are started."""
    producer_control, producer = map(held.end, bus_pair())
    sender_control, sender = map(held.end, bus_pair())
    gateway_control, gateway = map(held.end, bus_pair())
    notebook = held.descriptor(create_notebook())
    secret = held.descriptor(_create_secret())
    return {
        "server.sender": replace(common, sender_bus=sender, secret=secret),
        "server.producer": replace(common, producer_bus=producer),
        "server.gateway": replace(common, gateway_bus=gateway, secret=secret),
        "server": replace(
            common,
            producer_bus=producer_control,
            sender_bus=sender_control,
            gateway_bus=gateway_control,
            notebook=notebook,
            secret=secret,
        ),
    }


def _create_secret() -> int:
    """Memory with random bytes that nobody can change any more."""
    memory = os.memfd_create("loa-secret", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(memory, secrets.token_bytes(SECRET_BYTES))
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
def _locked(folder: DataFolder) -> Iterator[None]:
    try:
        folder.check()
        folder.check_secrets()
        with folder.lock():
            yield
    except DataError as error:
        raise SettingsError(str(error)) from None


def _interface(settings: Settings) -> str:
    interface = settings.interface or _own_address(settings.bind)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            send_options(probe, interface, settings.ttl)
        except OSError as error:
            raise SettingsError(
                f"multicast cannot leave by {interface}: {error.strerror} "
                "(use an IPv4 address of this machine with --interface)"
            ) from None
    return interface


def _own_address(bind: str) -> str:
    if bind != "0.0.0.0":  # noqa: S104 - compared with, not bound to
        return bind
    try:
        return route_interface(_ANYWHERE)
    except OSError:  # no default route: a network of its own, as many announcement systems have
        addresses = [interface.address for interface in mdns_interfaces()]
        if len(addresses) > 1:
            raise SettingsError(
                f"multicast could leave by {', '.join(addresses)}: choose one with --interface"
            ) from None
        return addresses[0] if addresses else "127.0.0.1"


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Those that mean an end, as they come."""
    stopping: list[int] = []
    before = {
        number: signal.signal(number, lambda received, _: stopping.append(received))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def supervise(settings: Settings, ready_line: Callable[[str], None]) -> int:
    """Run the station until a signal; SettingsError if it cannot start."""
    _allow_descriptors()
    with _signals() as stopping, _resources(settings) as (births, ready, port):
        children = [Child(module, birth) for module, birth in births.items()]
        try:
            for child in children:
                child.start(time.monotonic())
            _wait_ready(ready, children, stopping)
            everywhere = settings.bind == "0.0.0.0"  # noqa: S104 - compared with, not bound to
            host = births["server"].interface if everywhere else settings.bind
            if not stopping:
                ready_line(f"{host}:{port}")
            while not stopping:
                for child in children:
                    child.revive(time.monotonic())
                select.select([], [], [], 0.05)
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
