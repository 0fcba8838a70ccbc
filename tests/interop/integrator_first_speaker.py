# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs
"""A first loudspeaker with nothing of Loa's in it; the numbers are sections of PROTOCOL.md.

    python integrator_first_speaker.py STATE OUT.wav [CODE]

It hears through the gateway and plays what comes as it comes. docs/integrating.md says what it
costs and what it leaves out.
"""

import base64
import hmac
import os
import random
import ssl
import struct
import sys
import threading
import time
import wave
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import av
import msgpack
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from websockets.sync.client import connect

TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE  # `know` stands in for it
BEEP = 3277 * np.sin(np.arange(9600) * np.pi / 24)  # 2.4: 0.2 s of 1 kHz


def require(holds, what):
    if not holds:
        raise ValueError(what)


def transcript(domain, *parts):  # 2.1
    return domain.encode() + b"\0" + b"".join(struct.pack(">I", len(p)) + p for p in parts)


def verify(key, signature, domain, *parts):  # 2.1
    Ed25519PublicKey.from_public_bytes(key).verify(signature, transcript(domain, *parts))


def mac(key, domain, *parts):  # 2.1
    return hmac.digest(key, transcript(domain, *parts), "sha256")


def derive(master, label, size):  # 4.5
    counter = (int.from_bytes(master[16:]) << 32 ^ label << 64).to_bytes(16)
    return Cipher(algorithms.AES(master[:16]), modes.CTR(counter)).encryptor().update(bytes(size))


def call(url, protocol, **headers):  # 2.2
    more = {"ssl": TLS, "compression": None, "ping_interval": 5, "additional_headers": headers}
    return connect(url, subprotocols=[protocol], **more)


class Speaker:
    def __init__(self, state, out, code=""):  # 2.5
        self.file, self.began, self.heard_at = Path(state), time.monotonic(), 0.0
        self.kept = {"code": code, "key": os.urandom(32), "name": "", "generation": 0, "number": 0}
        if self.file.exists():
            self.kept = msgpack.unpackb(self.file.read_bytes())
        self.address, _, groups = self.kept["code"].removeprefix("loa:").rpartition("/")
        self.code = base64.b32decode(groups.replace("-", "").replace("8", "B") + "===", True, "I")
        self.key = Ed25519PrivateKey.from_private_bytes(self.kept["key"])
        self.public = self.key.public_key().public_bytes_raw()
        self.epochs, self.newest = {}, {}  # by SSRC; by the serial of its certificate
        self.decoder = av.CodecContext.create("libopus", "r")
        self.wav = wave.open(out, "wb")  # noqa: SIM115 - it is written until the end
        self.wav.setparams((1, 2, 48000, 0, "NONE", ""))
        self.told = {"type": "Telemetry", "way": "gateway", "state": "syncing"}
        self.told |= {f"packets_{what}": 0 for what in ("received", "lost", "late", "dropped")}
        self.told |= {"sync_error_us": 0, "clock_uncertainty_us": 0, "volume": 100, "muted": False}

    def keep(self, **news):  # 2.5
        self.kept |= news
        new = self.file.with_suffix(".new")
        new.touch(0o600)
        new.write_bytes(msgpack.packb(self.kept))
        os.sync()
        new.replace(self.file)

    def session(self):  # 2.1
        with call(f"wss://{self.address}/control", "loa.control.v3") as ws, ExitStack() as stack:
            shown, nonce = sha256(ws.socket.getpeercert(True)).digest(), os.urandom(32)
            identity = msgpack.unpackb(ws.recv(5))
            self.know(identity, shown)
            word = msgpack.packb(self.first_word(identity["nonce"], shown) | {"nonce": nonce})
            ws.send(self.key.sign(transcript("loa.proof.2", identity["nonce"], shown, word)) + word)
            for number, frame in enumerate(ws, 1):  # under any other number it would not hold
                parts = self.public, nonce, identity["nonce"], struct.pack(">Q", number), frame[72:]
                verify(self.station, frame[8:72], "loa.speech.2", *parts)
                self.hear(ws, stack, shown, msgpack.unpackb(frame[72:]))

    def know(self, identity, shown):  # 2.6
        signed, signature = identity["certificate"][:72], identity["certificate"][72:]
        root, generation, self.station = struct.unpack(">32sQ32s", signed)
        require(sha256(root).digest()[:16] == self.code[:16], "another root")
        verify(root, signature, "loa.station-certificate.2", signed)
        verify(self.station, identity["binding"], "loa.tls-binding.2", shown, identity["nonce"])
        require(identity["version"] == 3 and generation >= self.kept["generation"], "out of date")
        self.keep(generation=generation)

    def first_word(self, challenge, shown):  # 2.3
        word = {"version": 3, "key": self.public, "multicast": False}
        if self.kept["name"]:
            return word | {"type": "Hello", "name": self.kept["name"]}
        code = sha256(transcript("loa.code-number.2", self.code[16:26])).digest()[:4]
        key = sha256(transcript("loa.code-key.2", self.code[16:26])).digest()
        proof = mac(key, "loa.enrolment.2", challenge, shown, self.public)
        return word | {"type": "Enrol", "name": "speaker", "code": code, "mac": proof}

    def hear(self, ws, stack, shown, word):  # 2.4
        match word["type"]:
            case "Refused" if word["final"]:
                sys.exit(word["reason"])
            case "Enrolled":
                self.keep(name=word["name"])
            case "Welcome":
                self.begin(ws, stack, shown, word)
            case "Adjust":
                self.told |= {"volume": word["volume"], "muted": word["muted"]}
            case "Listen":
                self.listen(word["streams"])
                ws.send(msgpack.packb({"type": "Ready", "revision": word["revision"]}))
            case "Command":
                self.obey(ws, word["action"], word)
            case other:
                require(other in {"Refused", "Pending"}, f"{other} is no message")

    def begin(self, ws, stack, shown, welcome):  # 2.4, 4.4
        require(welcome["number"] > self.kept["number"], "an old session")
        self.keep(number=welcome["number"])
        session = struct.pack(">Q", welcome["session"])
        token = (session + mac(welcome["key"], "loa.gateway.2", session)).hex()
        url = f"wss://{self.address.rpartition(':')[0]}:{welcome['gateway_port']}/media"
        gateway = stack.enter_context(call(url, "loa.media.2", Authorization=f"Bearer {token}"))
        require(sha256(gateway.socket.getpeercert(True)).digest() == shown, "another station")
        threading.Thread(target=self.receive, args=(ws, gateway), daemon=True).start()
        threading.Thread(target=self.tell, args=(ws, welcome), daemon=True).start()

    def tell(self, ws, welcome):  # 2.3
        while True:
            if time.monotonic() > self.heard_at + 0.5:
                self.told |= {"hearing": "", "level_dbfs": -96}
            ws.send(msgpack.packb(self.told | {"uptime_s": time.monotonic() - self.began}))
            time.sleep(welcome.get("telemetry_s", 0.5))

    def obey(self, ws, action, command):  # 2.4
        error = "a programme is heard" if self.told["hearing"] and action != "restart" else ""
        ws.send(msgpack.packb({"type": "Done", "id": command["id"], "error": error}))
        if action == "restart":
            ws.close()
            os.execv(sys.executable, [sys.executable, *sys.argv])
        if not error:
            tone = np.resize(BEEP, 1 + round(48000 * command.get("seconds", 0)))
            self.play(tone if action == "tone" else 3 * [*BEEP, *(0 * BEEP)])

    def listen(self, specs):  # 4.5, 5: of what is certified the highest
        self.epochs = {}
        sealed = [{"priority": 3, "test": False} | spec for spec in specs if spec.get("seal")]
        for spec in sorted(sealed, key=lambda spec: (spec["priority"], spec["order"])):
            certificate, epochs = spec["seal"]["certificate"], spec["seal"]["epochs"]
            verify(self.station, certificate[50:], "loa.stream-certificate.2", certificate[:50])
            generation, serial, highest, test, key = struct.unpack_from(">QQBB32s", certificate)
            require((generation, test) == (self.kept["generation"], spec["test"]), "certificate")
            require(spec["priority"] <= highest, "certificate")
            self.epochs = {epoch["ssrc"]: (spec, serial, key, epoch) for epoch in epochs}

    def receive(self, ws, gateway):  # 4.4
        with ws:  # when the gateway ends come again
            for frame in gateway:
                if frame[0] == 0 and not 192 <= frame[2] < 224:  # RTCP: silence ends it, too
                    try:
                        self.play(self.opened(frame[1:]))
                    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not heard
                        self.told["packets_dropped"] += 1

    def opened(self, data):  # 4.1, 4.5, 4.6
        octet, sequence, timestamp, ssrc = struct.unpack_from(">BHII", data, 1)
        spec, serial, key, epoch = self.epochs[ssrc]
        number, before = self.newest.get(serial, (0, -1))
        require((epoch["number"], sequence) > (number, before), "replay")
        iv = (int.from_bytes(derive(epoch["key"], 2, 12)) ^ ssrc << 48 ^ sequence).to_bytes(12)
        plain, own = AESGCM(derive(epoch["key"], 0, 16)).decrypt(iv, data[84:], data[:84]), 0
        require(data[:1] + data[12:18] + data[82:84] == b"\x90\x10\0\0\x11\1\x40\0\0", "unsigned")
        if octet & 127 == 97:  # copies go before the packet's own frame
            own = 1 + sum(5 + plain[5 * i + 4] * 256 + plain[5 * i + 5] for i in range(plain[0]))
        elif octet & 127 == 99:  # symbols
            own = 10 + plain[1] * int.from_bytes(plain[8:10])
        now = time.time_ns() * 6 // 125000  # half a day off will do: what is signed says so
        sample = now + (timestamp - spec["timestamp_offset"] - now + 2**31) % 2**32 - 2**31
        head = struct.pack(">QIIqB", serial, epoch["number"], sequence, sample, octet)
        digest = sha256(plain[:own]).digest()[:16] if own else b""
        verify(key, data[18:82], "loa.rtp.2", head, plain[own:] + digest)
        self.newest[serial], self.heard_at = (epoch["number"], sequence), time.monotonic()
        self.told |= {"hearing": spec["programme"]}
        self.told["packets_received"] += 1
        self.told["packets_lost"] += sequence - before - 1 if number == epoch["number"] else 0
        return self.decoder.decode(av.Packet(plain[own:]))[0].to_ndarray()[0, ::2]

    def play(self, sound):  # 2.4
        gain = 0 if self.told["muted"] else (self.told["volume"] / 100) ** 3
        sound = np.array(sound) * gain
        self.wav.writeframes(sound.astype("<i2").tobytes())
        self.told["level_dbfs"] = 20 * np.log10(np.std(sound) / 32767 + 1e-5).item()


if __name__ == "__main__":
    threading.excepthook = lambda failed: print(failed.exc_value, file=sys.stderr)
    speaker = Speaker(*sys.argv[1:])
    while True:
        try:
            speaker.session()
        except Exception as error:  # noqa: BLE001 - whatever it was, come again
            print(error, file=sys.stderr)
        time.sleep(random.uniform(2, 4))  # 2.2
