"""What sealing and signing cost: time at the station and at a loudspeaker, and bytes on the wire.

One stream of real speech is sealed and opened as fast as it goes. A reference loop runs between
the packets, so that a figure can be compared with another machine's, or another day's.
"""

import argparse
import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from itertools import cycle, islice

import numpy as np
from cryptography.hazmat.backends.openssl import backend

from bench.demo import VOICE
from bench.report import plot_cdf, table, write_json
from codec.opus import Encoder, EncoderSettings
from codec.sources.blocks import reblock
from codec.sources.file import FileSource
from transport.control.delivery import DELIVERIES
from transport.control.messages import EpochSpec, SealSpec, StreamSpec
from transport.control.priority import Priority
from transport.security.certificates import StreamCertificate
from transport.security.keys import SigningKey, VerifyKey
from transport.security.sealing import SealedSender, StreamOpener
from transport.session.sender import OPUS_PAYLOAD_TYPE, StreamSender

FRAMES_MS = (10.0, 20.0, 60.0)
PACKETS_A_SECOND = 50
_BATCH = 50
_REFERENCE = bytes(1_000_000)
_START = 1_790_000_000 * 48_000
_IP_AND_UDP_BYTES = 20 + 8
_RTP_BYTES, _EXTENSION_BYTES, _TAG_BYTES = 12, 72, 16
# OpenSSL 3.3.2's median cycles for an Ed25519 verification (lib25519 20241004, doc/speed.md), and
# the clock of a board that has this core.
_BOARDS = {
    "Cortex-A72 at 1.5 GHz (Raspberry Pi 4)": 425_152 / 1_500,
    "Cortex-A53 at 1.2 GHz (Raspberry Pi 3)": 537_285 / 1_200,
}
_BASIS = (
    "an estimate, not measured: the time to open here, times how much longer OpenSSL's Ed25519 "
    "verification takes there (cycles published with lib25519 20241004, over the clock); the "
    "Python around it is taken to be slower by the same factor"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this bench alone."""
    parser.add_argument(
        "--packets", type=int, default=4_000, metavar="N", help="of each length (%(default)s)"
    )


@dataclass(frozen=True, slots=True)
class Times:
    """Microseconds a packet, one value for each; `reference_us` of a loop beside them."""

    seal_us: np.ndarray
    open_us: np.ndarray
    verify_us: np.ndarray
    reference_us: np.ndarray


class Stream:
    """One sealed stream, from its sender to its opener."""

    def __init__(self, frame_ms: float, seed: int) -> None:
        draw = random.Random(seed).randbytes
        station, key = SigningKey(draw(32)), SigningKey(draw(32))
        self.key, self.verifier = key, VerifyKey(key.public)
        self.sender = SealedSender(key, 1, 0, frame_ms, "bench", lambda: 0.5, draw)
        certificate = StreamCertificate.issue(station, 1, 1, key.public, Priority.LIVE, test=False)
        epochs = tuple(EpochSpec(*epoch) for epoch in self.sender.epochs)
        self.opener = StreamOpener(
            StreamSpec(
                "bench",
                1,
                self.sender.ssrc,
                OPUS_PAYLOAD_TYPE,
                0,
                frame_ms,
                inband_fec=False,
                playout_delay_ms=1_000.0,
                seal=SealSpec(certificate.serialise(), epochs),
            ),
            VerifyKey(station.public),
            1,
        )


def speech(frame_ms: float) -> list[bytes]:
    """The voice in frames, coded at 24 kb/s as a programme is."""
    encoder = Encoder(EncoderSettings(frame_ms=frame_ms))
    frames = reblock(FileSource(VOICE).blocks(480), encoder.frame_samples)
    return [encoder.encode(frame) for frame in frames if len(frame) == encoder.frame_samples]


def _timed_us(work: Callable[[], object]) -> float:
    began_ns = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - began_ns) / 1e3


def measure(frame_ms: float, packets: int, seed: int) -> Times:
    """Seal and open so many packets of speech."""
    stream = Stream(frame_ms, seed)
    found: dict[str, list[float]] = {"seal": [], "open": [], "verify": [], "reference": []}
    signature = stream.key.sign("bench", bytes(100))
    payloads = islice(cycle(speech(frame_ms)), packets)
    for index, (payload, sample) in enumerate(zip(payloads, _samples(frame_ms), strict=False)):
        sealed: list[bytes] = []
        # The work is done at once, within this turn of the loop.
        found["seal"].append(
            _timed_us(lambda: sealed.append(stream.sender.packet(payload, sample)))  # noqa: B023
        )
        found["open"].append(_timed_us(lambda: stream.opener.open(sealed[0], sample)))  # noqa: B023
        if index % _BATCH == 0:
            found["verify"].append(
                _timed_us(lambda: stream.verifier.verify(signature, "bench", bytes(100)))
            )
            found["reference"].append(_timed_us(lambda: hashlib.sha256(_REFERENCE).digest()))
    return Times(*(np.array(found[name]) for name in ("seal", "open", "verify", "reference")))


def _samples(frame_ms: float) -> Iterator[int]:
    step = round(frame_ms * 48)
    sample = _START
    while True:
        yield sample
        sample += step


def costs(frame_ms: float, times: Times) -> dict[str, object]:
    """One length of frame as a row: medians, shares of this core, and ratios to the reference."""
    seal_us, open_us, reference_us = (
        float(np.median(v)) for v in (times.seal_us, times.open_us, times.reference_us)
    )
    return {
        "frame_ms": frame_ms,
        "seal_us": seal_us,
        "seal_pct": seal_us * PACKETS_A_SECOND / 1e4,
        "open_us": open_us,
        "open_pct": open_us * PACKETS_A_SECOND / 1e4,
        "ref_us": reference_us,
        "seal/ref": seal_us / reference_us,
        "open/ref": open_us / reference_us,
    }


def boards(times: Times) -> list[dict[str, object]]:
    """What opening one stream may cost on a small board: an estimate, see `_BASIS`."""
    open_us, verify_us = float(np.median(times.open_us)), float(np.median(times.verify_us))
    rows: list[dict[str, object]] = []
    for board, there_us in _BOARDS.items():
        estimate_us = open_us * there_us / verify_us
        rows.append(
            {
                "board": board,
                "verify_us": there_us,
                "open_us": estimate_us,
                "open_pct": estimate_us * PACKETS_A_SECOND / 1e4,
            }
        )
    return rows


def sizes(delivery: str, seed: int) -> dict[str, object]:
    """One delivery's mean bytes of a packet of speech, and kb/s on the wire, clear and sealed.

    `clear` and `sealed` are what UDP carries; the kb/s have IPv4 and UDP headers besides.
    """
    frame_ms = DELIVERIES[delivery].frame_ms
    payloads = speech(frame_ms)
    clear = StreamSender(1, 0, 0, frame_ms, "bench", lambda: 0.5)
    sealed = Stream(frame_ms, seed).sender
    made = zip(payloads, _samples(frame_ms), strict=False)
    both = [(clear.packet(*frame), sealed.packet(*frame)) for frame in made]
    clear_bytes, sealed_bytes = (
        float(np.mean([len(data) for data in column])) for column in zip(*both, strict=True)
    )

    def kbps(datagram: float) -> float:
        return (datagram + _IP_AND_UDP_BYTES) * 8 / frame_ms

    return {
        "delivery": delivery,
        "frame_ms": frame_ms,
        "opus": float(np.mean([len(payload) for payload in payloads])),
        "rtp": _RTP_BYTES,
        "ext": _EXTENSION_BYTES,
        "tag": _TAG_BYTES,
        "clear": clear_bytes,
        "sealed": sealed_bytes,
        "clear_kbps": kbps(clear_bytes),
        "sealed_kbps": kbps(sealed_bytes),
    }


def run(options: argparse.Namespace) -> None:
    """Measure and report."""
    if options.packets < _BATCH:
        raise ValueError(f"--packets: at least {_BATCH} are needed for a median")
    times = {frame_ms: measure(frame_ms, options.packets, options.seed) for frame_ms in FRAMES_MS}
    figures: dict[str, object] = {
        "packets_a_second": PACKETS_A_SECOND,
        "packets": options.packets,
        "costs": [costs(frame_ms, of) for frame_ms, of in times.items()],
        "boards_estimate": boards(times[20.0]),
        "boards_estimate_basis": _BASIS,
        "sizes": [sizes(delivery, options.seed) for delivery in DELIVERIES],
        "libraries": _libraries(),
    }
    rate = f"at {PACKETS_A_SECOND} packets/s; reference: SHA-256 of 1 MB"
    for title, name in (
        (f"one stream on one core of this machine, {rate}", "costs"),
        (_BASIS, "boards_estimate"),
        ("bytes of a packet of speech at 24 kb/s (mean), and kb/s with IP and UDP", "sizes"),
    ):
        rows = figures[name]
        if isinstance(rows, list):
            table(title, rows)
    if options.json is not None:
        write_json(options.json, figures, options.seed)
    if options.plot is not None:
        series = {f"seal {ms:g} ms": of.seal_us for ms, of in times.items()}
        series |= {f"open {ms:g} ms": of.open_us for ms, of in times.items()}
        plot_cdf(options.plot, series, "us a packet", "seal and open")


def _libraries() -> dict[str, str]:
    found = {name: metadata.version(name) for name in ("cryptography", "pylibsrtp")}
    return {**found, "openssl": backend.openssl_version_text()}
