"""What others take for a packet, where they are installed: GStreamer's multiudpsink, snapserver."""

import json
import resource
import selectors
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol, Self

from bench.measure import MeasureError

# All addresses are one argument of a command line, and Linux takes 128 KB of one.
_GSTREAMER_MOST = 5_000
_GSTREAMER_FRAMES = (5, 45)
_GSTREAMER_S = 60.0
_SNAP_CLIENTS = 200
_SNAP_WARM_S = 2.0
_SNAP_S = 4.0
_SNAP_START_S = 5.0
_CHUNK_MS = 20
# doc/binary_protocol.md of Snapcast: type, id, refers to, sent and received (s, us), size.
_SNAP_HEADER = struct.Struct("<HHHiiiiI")
_SNAP_HELLO, _SNAP_WIRE_CHUNK = 5, 2


class Sends(Protocol):
    """What shall be sent."""

    @property
    def destinations(self) -> int:
        """To so many addresses."""

    @property
    def packet_bytes(self) -> int:
        """So many bytes each."""

    @property
    def port(self) -> int:
        """Of all addresses."""


def gstreamer_us(task: Sends, first: str) -> float | None:
    """Microseconds of CPU a packet of multiudpsink, as fast as it goes, 5,000 addresses at most.

    The difference between a long run and a short one, so that its start does not count; None where
    it is not installed, MeasureError if it fails.
    """
    program = shutil.which("gst-launch-1.0")
    if program is None or not _has_multiudpsink():
        return None
    count = min(task.destinations, _GSTREAMER_MOST)
    clients = ",".join(f"{IPv4Address(first) + i}:{task.port}" for i in range(count))
    took_s = []
    for frames in _GSTREAMER_FRAMES:
        source = ["fakesrc", f"num-buffers={frames}", "sizetype=2", f"sizemax={task.packet_bytes}"]
        sink = ["multiudpsink", "sync=false", "async=false", "qos-dscp=46", f"clients={clients}"]
        began_s = _cpu_of_children_s()
        done = _run([program, "-q", *source, "!", *sink])
        took_s.append(_cpu_of_children_s() - began_s)
        if done:
            raise MeasureError(f"gst-launch-1.0: {done}")
    short, long = _GSTREAMER_FRAMES
    return max(0.0, took_s[1] - took_s[0]) * 1e6 / ((long - short) * count)


def _cpu_of_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _has_multiudpsink() -> bool:
    inspect = shutil.which("gst-inspect-1.0")
    return inspect is not None and not _run([inspect, "--exists", "multiudpsink"])


def _run(words: list[str]) -> str:
    """Nothing, or what a command has complained of."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=_GSTREAMER_S
        )
    except subprocess.TimeoutExpired:
        return "too slow"
    complaint = done.stderr.strip().splitlines() or ["it failed"]
    return complaint[0] if done.returncode else ""


def snapserver_us(folder: Path) -> float | None:
    """Microseconds of CPU that snapserver takes for a chunk to a client, by TCP as it does.

    What it takes with 200 clients less what it takes with none; None where it is not installed,
    MeasureError if it does not serve.
    """
    program = shutil.which("snapserver")
    if program is None:
        return None
    with _snapserver(program, folder) as (process, port):
        time.sleep(_SNAP_WARM_S)
        alone_s = _cpu_over(process.pid)
        with _SnapClients(port, _SNAP_CLIENTS) as clients:
            time.sleep(_SNAP_WARM_S)
            before = clients.chunks
            with_them_s = _cpu_over(process.pid)
            chunks = clients.chunks - before
    if not chunks:
        raise MeasureError("snapserver sent nothing")
    return max(0.0, with_them_s - alone_s) * 1e6 / chunks


def _cpu_over(pid: int) -> float:
    before_s = _cpu_s(pid)
    time.sleep(_SNAP_S)
    return _cpu_s(pid) - before_s


def _cpu_s(pid: int) -> float:
    """Of the scheduler's own count, for 10 ms are too coarse."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except OSError:
        raise MeasureError("snapserver ended before it was told to") from None


@contextmanager
def _snapserver(program: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server of silence: a source that writes zeros as they are due."""
    port = _free_port()
    config = folder / "snapserver.conf"
    config.write_text(
        f"[server]\ndatadir = {folder}\nmdns_enabled = false\n[http]\nenabled = false\n"
        f"[tcp]\nenabled = false\n[stream]\nport = {port}\nbind_to_address = 127.0.0.1\n"
        f"source = process:///bin/cat?name=bench&params=/dev/zero&sampleformat=48000:16:2"
        f"&codec=opus&chunk_ms={_CHUNK_MS}\nchunk_ms = {_CHUNK_MS}\n"
    )
    with (folder / "snapserver.log").open("wb") as log, ExitStack() as held:
        process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
        held.callback(process.wait)
        held.callback(process.terminate)
        _wait_for(port)
        yield process, port


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    until_s = time.monotonic() + _SNAP_START_S
    while time.monotonic() < until_s:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise MeasureError("snapserver did not start")


class _SnapClients:
    """Clients that say hello, read on a thread, and count the chunks that come."""

    def __init__(self, port: int, count: int) -> None:
        self.chunks = 0
        self._held = ExitStack()
        self._waiting = selectors.DefaultSelector()
        self._ends = False
        limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit < count + 100:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, count + 100), most))
        for number in range(count):
            tcp = socket.create_connection(("127.0.0.1", port), 5)
            self._held.enter_context(tcp)
            tcp.sendall(_hello(number))
            tcp.setblocking(False)
            self._waiting.register(tcp, selectors.EVENT_READ, bytearray())
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends = True
        self._thread.join()
        self._held.close()

    def _read(self) -> None:
        while not self._ends:
            for key, _ in self._waiting.select(0.1):
                with suppress(OSError):
                    assert isinstance(key.fileobj, socket.socket)  # noqa: S101 - as registered
                    key.data.extend(key.fileobj.recv(65_536))
                self.chunks += _take_chunks(key.data)


def _hello(number: int) -> bytes:
    said = {
        "Arch": "x86_64",
        "ClientName": "bench",
        "HostName": f"bench-{number}",
        "ID": f"bench-{number}",
        "Instance": 1,
        "MAC": f"02:00:00:00:00:{number % 256:02x}",
        "OS": "Linux",
        "SnapStreamProtocolVersion": 2,
        "Version": "0.26.0",
    }
    text = json.dumps(said).encode()
    body = struct.pack("<I", len(text)) + text
    return _SNAP_HEADER.pack(_SNAP_HELLO, 0, 0, 0, 0, 0, 0, len(body)) + body


def _take_chunks(data: bytearray) -> int:
    """Take the whole messages off; how many were sound."""
    at = chunks = 0
    while at + _SNAP_HEADER.size <= len(data):
        kind, *_, size = _SNAP_HEADER.unpack_from(data, at)
        if at + _SNAP_HEADER.size + size > len(data):
            break
        at += _SNAP_HEADER.size + size
        chunks += kind == _SNAP_WIRE_CHUNK
    del data[:at]
    return chunks
