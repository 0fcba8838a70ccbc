"""Our fan-out as its bench runs it, in a process of its own: seal, sign, ring, and out to all.

    python -m bench.fanout_sender sendmmsg|sendto DESTINATIONS BYTES FRAMES FIRST_ADDRESS PORT SEED

Each line of standard input is answered by the nanoseconds of processor time that so
many frames have taken.
"""

import gc
import random
import socket
import sys
import time
from ipaddress import IPv4Address

from server.processes.ring import RTP, Entry, RingReader, RingWriter, create_ring
from server.processes.routing import Route, Routes, pack_destination
from server.sender.fanout import FanOut
from server.sender.pacing import UNPACED
from transport.net.batch import PlainTransmitter, Transmitter
from transport.net.clocks import HostClock
from transport.net.stamped import send_options, udp_socket
from transport.security.keys import SigningKey
from transport.security.sealing import SealedSender

FRAME_MS = 20.0
_STREAM = 1
_START = 1_790_000_000 * 48_000
_FRAME_SAMPLES = 960
# RTP header, signature's extension, tag of the seal.
SEALED_BYTES = 12 + 72 + 16


class Engine:
    """A stream of sealed packets of one size, from the producer's hands to all destinations.

    `udp` sends to `destinations` consecutive addresses from `first` on. ValueError for packets that
    have no room for what seals them.
    """

    def __init__(
        self,
        udp: socket.socket,
        how: str,
        destinations: int,
        packet_bytes: int,
        first: str,
        port: int,
        seed: int,
    ) -> None:
        if packet_bytes < SEALED_BYTES:
            raise ValueError(f"a sealed packet has {SEALED_BYTES} bytes at least")
        draw = random.Random(seed).randbytes
        key = SigningKey(draw(32))
        self._seal = SealedSender(key, 1, 0, FRAME_MS, "bench", lambda: 0.5, draw)
        self._payload = bytes(packet_bytes - SEALED_BYTES)
        self._sample = _START
        clock = HostClock()
        memory, wakes = create_ring(1)
        self._now_ns = clock.now_ns
        self._writer = RingWriter(memory, *wakes, now_ns=clock.now_ns)
        self._reader = RingReader(memory, 0)
        send_options(udp, "127.0.0.1", 1)
        transmitter = {"sendmmsg": Transmitter, "sendto": PlainTransmitter}[how](udp)
        self.fanout = FanOut(transmitter, pacing=UNPACED)
        start = IPv4Address(first)
        rows = (pack_destination(str(start + i), port, port) for i in range(destinations))
        self.fanout.declare(Routes((Route(_STREAM, FRAME_MS, b"".join(rows)),)))

    def frame(self) -> int:
        """Seal one packet and send it to everybody; how many bytes it has."""
        packet = self._seal.packet(self._payload, self._sample)
        self._sample += _FRAME_SAMPLES
        self._writer.write(Entry(_STREAM, RTP, packet))
        for entry in self._reader.read():
            self.fanout.take(entry, self._now_ns())
        while self.fanout.work(self._now_ns()) is not None:
            pass
        self._reader.done()
        return len(packet)


def main(words: list[str]) -> None:
    """Answer until standard input ends."""
    how, destinations, packet_bytes, frames, first, port, seed = words
    udp = udp_socket("0.0.0.0", 0)  # noqa: S104 - as the station does unless told otherwise
    engine = Engine(udp, how, int(destinations), int(packet_bytes), first, int(port), int(seed))
    engine.frame()
    gc.collect()
    gc.freeze()
    gc.disable()
    for _ in sys.stdin:
        began_ns = time.process_time_ns()
        for _ in range(int(frames)):
            engine.frame()
        print(time.process_time_ns() - began_ns, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
