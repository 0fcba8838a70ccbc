"""A loudspeaker with nothing of Loa's in it, from PROTOCOL.md alone; the numbers are its sections.

    python integrator_speaker.py STATE OUT.wav [CODE]

It hears by UDP unicast. What it leaves out stands in docs/integrating.md.
"""

import base64
import hmac
import os
import random
import select
import socket
import ssl
import struct
import sys
import time
import wave
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread
from typing import Any

import av
import msgpack
import numpy as np
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

RING, BLOCK, HOLD = 24 * 48000, 480, 24000  # samples: ahead, played at once, due after the last (5)
TONE = 0.1 * np.sin(np.arange(BLOCK) * np.pi / 24)  # 2.4
BAD = (InvalidSignature, InvalidTag, ValueError, LookupError, TypeError, struct.error)
FAILED = (*BAD, OSError, WebSocketException)


def require(holds: object, what: str) -> None:
    if not holds:
        raise ValueError(what)


def transcript(domain: str, *parts: bytes) -> bytes:  # 2.1
    return domain.encode() + b"\0" + b"".join(struct.pack(">I", len(p)) + p for p in parts)


def verify(key: bytes, signature: bytes, domain: str, *parts: bytes) -> None:  # 2.1
    Ed25519PublicKey.from_public_bytes(key).verify(signature, transcript(domain, *parts))


def mac(key: bytes, domain: str, *parts: bytes) -> bytes:  # 2.1
    return hmac.digest(key, transcript(domain, *parts), "sha256")


def attribute(kind: int, value: bytes) -> bytes:  # 4.4
    return struct.pack(">HH", kind, len(value)) + value + bytes(-len(value) % 4)


def derive(master: bytes, label: int, size: int) -> bytes:  # 4.5
    counter = ((int.from_bytes(master[16:], "big") << 16) ^ (label << 48)) << 16
    aes = Cipher(algorithms.AES128(master[:16]), modes.CTR(counter.to_bytes(16, "big")))
    return aes.encryptor().update(bytes(size))


class Speaker:
    def __init__(self, file: str, out: str, code: str = "") -> None:
        self.file, self.kept, self.began, self.open = Path(file), {}, time.monotonic(), Event()
        if self.file.exists():
            self.kept = msgpack.unpackb(self.file.read_bytes())
        else:  # 2.5
            server, _, groups = code.removeprefix("loa:").rpartition("/")
            groups = "".join(groups.replace("-", " ").replace("8", "B").split())
            told = base64.b32decode(groups + "===", casefold=True, map01="I")
            key = Ed25519PrivateKey.generate().private_bytes_raw()
            self.keep(server=server, code=told, key=key, name="", generation=0, number=0)
        self.key = Ed25519PrivateKey.from_private_bytes(self.kept["key"])
        self.public = self.key.public_key().public_bytes_raw()
        self.sockets: list[socket.socket] = []  # for time, and for media
        self.tell_at = self.time_at = self.way_at = float("inf")
        self.exchanges: list[tuple[int, int]] = []  # the last round trips, with their offsets
        self.mark, self.at, self.trim = b"", 0, 0  # of the clock; media sample that is played next
        self.sound, self.rank, self.gain = np.zeros(RING), np.zeros(RING, int), 1.0
        self.streams, self.epochs = dict[int, Any](), dict[int, Any]()  # by SSRC
        self.beeps: list[bool] = []  # in each block to come
        self.told: dict[str, Any] = {"type": "Telemetry", "state": "syncing", "hearing": ""}
        self.told |= {"level_dbfs": -200.0, "sync_error_us": 0.0, "volume": 100, "muted": False}
        self.told |= {f"packets_{what}": 0 for what in ("received", "lost", "late", "dropped")}
        self.wav = wave.open(out, "wb")  # noqa: SIM115 - it is written until the end
        self.wav.setparams((1, 2, 48000, 0, "NONE", ""))

    def keep(self, **news: Any) -> None:  # 2.5
        self.kept |= news
        new = self.file.with_suffix(".new")
        new.touch(0o600)
        new.write_bytes(msgpack.packb(self.kept))
        os.sync()
        new.replace(self.file)

    def session(self) -> None:  # 2.2
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # `know` stands in for it
        options: Any = {"subprotocols": ["loa.control.v3"], "compression": None}
        options |= {"ssl": tls, "ping_interval": 5, "ping_timeout": 10}
        called: Any = connect(f"wss://{self.kept['server']}/control", **options)
        with called as ws:
            shown, nonce = sha256(ws.socket.getpeercert(True)).digest(), os.urandom(32)
            identity = msgpack.unpackb(ws.recv(5))
            self.know(identity, shown)
            hello = msgpack.packb(self.first_word(identity["nonce"], shown, nonce))
            proof = self.key.sign(transcript("loa.proof.2", identity["nonce"], shown, hello))
            ws.send(proof + hello)
            for number, frame in enumerate(ws, 1):
                require(frame[:8] == number.to_bytes(8, "big"), "a word is missing")
                parts = (self.public, nonce, identity["nonce"], frame[:8], frame[72:])
                verify(self.station, frame[8:72], "loa.speech.2", *parts)
                self.hear(ws, msgpack.unpackb(frame[72:]))

    def know(self, identity: Any, shown: bytes) -> None:  # 2.6
        certificate = identity["certificate"]
        root, generation, self.station = struct.unpack(">32sQ32s", certificate[:72])
        require(sha256(root).digest()[:16] == self.kept["code"][:16], "another root")
        verify(root, certificate[72:], "loa.station-certificate.2", certificate[:72])
        verify(self.station, identity["binding"], "loa.tls-binding.2", shown, identity["nonce"])
        require(identity["version"] == 3 and generation >= self.kept["generation"], "out of date")
        self.keep(generation=generation)

    def first_word(self, challenge: bytes, shown: bytes, nonce: bytes) -> dict[str, Any]:  # 2.3
        word = {"version": 3, "key": self.public, "nonce": nonce, "multicast": False}
        if self.kept["name"]:
            return word | {"type": "Hello", "name": self.kept["name"]}
        secret = self.kept["code"][16:26]
        code = sha256(transcript("loa.code-number.2", secret)).digest()[:4]
        key = sha256(transcript("loa.code-key.2", secret)).digest()
        proof = mac(key, "loa.enrolment.2", challenge, shown, self.public)
        return word | {"type": "Enrol", "name": "speaker", "code": code, "mac": proof}

    def hear(self, ws: Any, word: Any) -> None:  # 2.4
        match word["type"]:
            case "Refused" if word["final"]:
                sys.exit(word["reason"])
            case "Refused" | "Pending":
                print(word["reason"], file=sys.stderr)
            case "Enrolled":
                self.keep(name=word["name"])
            case "Welcome":
                self.begin(ws, {"telemetry_s": 0.5, "time_s": 1.0} | word)
            case "Adjust":
                self.told |= {"volume": word["volume"], "muted": word["muted"]}
                self.trim = round(word.get("trim_us", 0) * 0.048)
            case "Listen":
                self.listen(word["streams"])
                self.open.wait(2)
                ws.send(msgpack.packb({"type": "Ready", "revision": word["revision"]}))
            case "Command":
                self.obey(ws, word)
            case other:
                raise ValueError(f"{other} is no message")

    def begin(self, ws: Any, welcome: Any) -> None:  # 2.4
        require(welcome["number"] > self.kept["number"], "an old session")
        self.keep(number=welcome["number"])
        self.ws, self.welcome, self.id = ws, welcome, welcome["session"].to_bytes(8, "big")
        self.question, self.challenge, self.transaction = (b"", 0), b"", b""
        self.time_pauses, self.way_pauses = iter([0.03] * 7), iter([0.1, 0.2, 0.4, 0.8])
        self.tell_pauses = iter([random.random() * welcome["telemetry_s"]])
        self.open.clear()
        sockets = [socket.socket(ws.socket.family, socket.SOCK_DGRAM) for _ in range(2)]
        sockets[0].connect((ws.remote_address[0], welcome["time_port"]))
        sockets[1].connect((ws.remote_address[0], welcome["media_port"]))
        self.sockets, self.tell_at, self.time_at, self.way_at = sockets, 0.0, 0.0, 0.0

    def tell(self) -> None:  # 2.3
        told = self.told | {"uptime_s": time.monotonic() - self.began}
        told["clock_uncertainty_us"] = min(self.exchanges)[0] / 2000 if self.exchanges else 0.0
        told["way"] = "udp" if self.open.is_set() else "none"
        self.ws.send(msgpack.packb(told))

    def obey(self, ws: Any, command: Any) -> None:  # 2.4
        restart, heard = command["action"] == "restart", self.told["hearing"]
        error = f"{heard} is being heard" if heard and not restart else ""
        ws.send(msgpack.packb({"type": "Done", "id": command["id"], "error": error}))
        if restart:
            ws.close()
            os.execv(sys.executable, [sys.executable, *sys.argv])
        tone, beeps = [True] * round(100 * command.get("seconds", 0)), [True] * 20 + [False] * 20
        self.beeps = tone if command["action"] == "tone" else 3 * beeps

    def listen(self, specs: list[dict[str, Any]]) -> None:  # 2.4
        streams, epochs = dict[int, Any](), dict[int, Any]()
        for spec in specs:
            with suppress(*BAD):  # what is in clear, or not certified, is not played
                self.admit({"priority": 3, "test": False} | spec, streams, epochs)
        self.streams, self.epochs = streams, epochs
        gone = ~np.isin(self.rank, [stream["rank"] for stream in streams.values()])
        self.rank[gone] = self.sound[gone] = 0

    def admit(self, spec: Any, streams: dict[int, Any], epochs: dict[int, Any]) -> None:  # 4.5
        certificate, rank = spec["seal"]["certificate"], spec["priority"] << 40 | spec["order"]
        generation, serial, highest, test, key = struct.unpack(">QQBB32s", certificate[:50])
        verify(self.station, certificate[50:], "loa.stream-certificate.2", certificate[:50])
        require(generation == self.kept["generation"], "certificate")
        require(spec["priority"] <= highest and spec["test"] == test, "certificate")
        decoder = av.CodecContext.create("libopus", "r")
        decoder.sample_rate, decoder.layout = 48000, "mono"
        more = {"decoder": decoder, "serial": serial, "key": key, "rank": rank}
        stream = streams[spec["ssrc"]] = self.streams.get(spec["ssrc"], spec | more)
        for told in spec["seal"]["epochs"]:
            aes, salt = AESGCM(derive(told["key"], 0, 16)), derive(told["key"], 2, 12)
            new = {"number": told["number"], "aes": aes, "salt": int.from_bytes(salt, "big")}
            new |= {"stream": stream, "seen": set()}
            epochs[told["ssrc"]] = self.epochs.get(told["ssrc"], new)

    def run(self) -> None:
        while True:
            for step in (self.receive, self.ask, self.play):
                with suppress(*FAILED):
                    step()

    def receive(self) -> None:  # 4.2
        for wait_s in (0.005, *[0.0] * 99):  # all that there is, but no flood keeps us from playing
            ready, _, _ = select.select(self.sockets, [], [], wait_s)
            for sock in ready:
                data = sock.recv(2048)
                if sock is self.sockets[0]:
                    self.on_time(data)
                elif data[0] < 4:
                    self.on_way(data)
                elif data[0] >= 128 and not 192 <= data[1] < 224:  # RTCP: silence ends it, too
                    self.on_sound(data)
            if not ready:
                break

    def ask(self) -> None:  # 2.2, 3.3, 4.4
        now = time.monotonic()
        if now >= self.tell_at:
            self.tell_at = now + next(self.tell_pauses, self.welcome["telemetry_s"])
            self.tell()
        if now >= self.time_at:
            self.time_at = now + next(self.time_pauses, self.welcome["time_s"])
            self.ask_time()
        if now >= self.way_at:
            self.way_at = now + next(self.way_pauses, 15 if self.open.is_set() else 5)
            self.transaction = os.urandom(12)
            self.ask_way()

    def ask_time(self) -> None:  # 3.2
        self.question = os.urandom(8), time.monotonic_ns()
        packet = bytes((0x23, 0, 0, 236)) + bytes(36) + self.question[0] + self.id
        self.sockets[0].send(packet + mac(self.welcome["key"], "loa.time.2", packet)[:16])

    def on_time(self, data: bytes) -> None:  # 3.2
        t4, (nonce, t1), self.question = time.monotonic_ns(), self.question, (b"", 0)
        proof = mac(self.welcome["key"], "loa.time.2", data[:56])[:16]
        require(hmac.compare_digest(data[56:], proof) and data[48:56] == self.id, "time_mac")
        require(data[24:32] == nonce and data[1] > 0, "time_unasked")
        t2, t3 = ((t * 10**9 >> 32) - 2208988800 * 10**9 for t in struct.unpack(">QQ", data[32:48]))
        if data[16:24] != self.mark:
            self.mark, self.exchanges = data[16:24], []
        self.exchanges = [*self.exchanges[-7:], (t4 - t1 - t3 + t2, (t2 - t1 + t3 - t4) // 2)]

    def now(self) -> int:  # 3.1
        require(len(self.exchanges) >= 4, "no_clock")
        return (time.monotonic_ns() + min(self.exchanges)[1]) * 6 // 125000

    def ask_way(self) -> None:  # 4.4
        words = attribute(6, self.id.hex().encode())
        words += attribute(0x15, self.challenge) if self.challenge else b""
        head = struct.pack(">HHI", 1, len(words) + 36, 0x2112A442) + self.transaction + words
        proof = hmac.digest(self.welcome["key"], head, "sha256")
        self.sockets[1].send(head + attribute(0x1C, proof))

    def on_way(self, data: bytes) -> None:  # 4.4
        proof = hmac.digest(self.welcome["key"], data[:-36], "sha256")
        require(hmac.compare_digest(data[-36:], attribute(0x1C, proof)), "stun_integrity")
        require(data[8:20] == self.transaction, "stun_transaction")
        if data[:2] == b"\1\1":
            return self.open.set()
        rest, self.transaction = data[20:], os.urandom(12)
        while rest:
            kind, size = struct.unpack_from(">HH", rest)
            self.challenge = rest[4 : 4 + size] if kind == 0x15 else self.challenge
            rest = rest[4 + size + -size % 4 :]
        return self.ask_way()

    def on_sound(self, data: bytes) -> None:
        try:
            self.place(*self.opened(data))
        except BAD:
            self.told["packets_dropped"] += 1

    def opened(self, data: bytes) -> tuple[Any, int, Any]:  # 4.1, 4.5, 4.6
        octet, sequence, timestamp, ssrc = struct.unpack_from(">BHII", data, 1)
        now, epoch, kind = self.now(), self.epochs[ssrc], octet & 127
        stream, seen = epoch["stream"], epoch["seen"]
        sample = now + (timestamp - stream["timestamp_offset"] - now + 2**31) % 2**32 - 2**31
        require(sequence not in seen and abs(sample - now) <= 576000, "replay")
        iv = (epoch["salt"] ^ ssrc << 48 ^ sequence).to_bytes(12, "big")
        plain, own = epoch["aes"].decrypt(iv, data[84:], data[:84]), 0
        require(data[:1] + data[12:18] + data[82:84] == b"\x90\x10\0\0\x11\1\x40\0\0", "unsigned")
        if kind == 97:  # copies go before the packet's own frame
            sizes = (struct.unpack_from(">3xH", plain, 1 + 5 * i)[0] for i in range(plain[0]))
            own = 1 + 5 * plain[0] + sum(sizes)
        elif kind == 99:  # symbols
            own = 10 + plain[1] * int.from_bytes(plain[8:10], "big")
        require(kind in {stream["payload_type"], 97, 99} and own < len(plain), "payload_type")
        head = struct.pack(">QIIqB", stream["serial"], epoch["number"], sequence, sample, octet)
        digest = sha256(plain[:own]).digest()[:16] if own else b""
        verify(stream["key"], data[18:82], "loa.rtp.2", head, plain[own:] + digest)
        missing = sequence - epoch.setdefault("next", sequence)
        self.told["packets_lost"] += missing if missing >= 0 else -1
        self.told["packets_received"] += 1
        epoch["next"] = max(epoch["next"], sequence + 1)
        seen.add(sequence)
        (frame,) = stream["decoder"].decode(av.Packet(plain[own:]))
        return stream, sample, frame.to_ndarray()[0] / 32767

    def place(self, stream: Any, sample: int, samples: Any) -> None:  # 4.1, 5
        begin = sample + round(48 * stream["playout_delay_ms"])
        end = begin + len(samples)
        self.told["packets_late"] += end <= self.at
        require(end > self.at, "late")
        at = np.arange(max(begin, self.at), end + HOLD)
        at = at[self.rank[at % RING] < stream["rank"] + (at < end)]  # to its own it is held
        self.rank[at % RING] = stream["rank"]
        self.sound[at % RING] = np.append(samples, np.zeros(HOLD))[at - begin]

    def play(self) -> None:  # 2.4
        now, told = self.now() - self.trim, self.told
        if abs(now - self.at) > 48000:  # the first reading, or the clock was set anew
            self.at, self.rank[:], self.sound[:] = now, 0, 0
        while self.at + BLOCK <= now:
            here = np.arange(self.at, self.at + BLOCK) % RING
            names = {stream["rank"]: stream["programme"] for stream in self.streams.values()}
            heard = names.get(int(self.rank[here].max()), "")
            self.beeps = [] if heard else self.beeps
            gain = 0.0 if told["muted"] else (told["volume"] / 100) ** 3
            block = TONE if self.beeps and self.beeps.pop(0) else self.sound[here]
            block = block * np.linspace(self.gain, gain, BLOCK)
            self.rank[here], self.sound[here], self.gain, self.at = 0, 0, gain, self.at + BLOCK
            self.wav.writeframes((block.clip(-1, 1) * 32767).astype("<i2").tobytes())
            level = 10 * np.log10(np.mean(block**2) + 1e-20)
            told["state"], told["hearing"] = "playing" if heard else "idle", heard
            told["level_dbfs"] = float(level)


if __name__ == "__main__":
    speaker = Speaker(*sys.argv[1:])
    Thread(target=speaker.run, daemon=True).start()
    pause = 0.25  # 2.2
    while True:
        began = time.monotonic()
        try:
            speaker.session()
        except FAILED as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        pause = 0.25 if time.monotonic() - began > 30 else min(4, 2 * pause)
        time.sleep(random.uniform(pause / 2, pause))
