"""What the newcomer believes: by the page, hashlib, hmac and `cryptography` alone.

Keys, nonces and the rest are those of the page's section 8.1.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.protocol.newcomer import media_sample, need, read_message, read_rtp, read_time
from tests.protocol.page import KNOWN, PUBLIC
from tests.protocol.solver import read_symbols

_TLS, _SECRET = KNOWN["SHA-256 of the TLS certificate"], KNOWN["secret of the code"]
_STATION_NONCE, _NONCE = KNOWN["Identity.nonce"], KNOWN["Hello.nonce"]
_SESSION, _SESSION_KEY = KNOWN["Welcome.session"], KNOWN["Welcome.key"]
_GENERATION = int.from_bytes(KNOWN["generation"], "big")
_NEXT_NUMBER = KNOWN["number that comes next"]


def transcript(domain: str, *parts: bytes) -> bytes:
    return domain.encode() + b"\0" + b"".join(struct.pack("!I", len(p)) + p for p in parts)


def check_signature(public: bytes, signature: bytes, domain: str, *parts: bytes) -> None:
    need(len(signature) == 64)
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, transcript(domain, *parts))
    except InvalidSignature:
        need(False)


def mac(key: bytes, domain: str, *parts: bytes) -> bytes:
    return hmac.digest(key, transcript(domain, *parts), "sha256")


# ---------------------------------------------------------------- certificates and the session
def read_certificate(data: bytes) -> Any:
    return _read_station(data) if len(data) == 136 else read_stream_certificate(data)


def _read_station(data: bytes) -> dict[str, Any]:
    root, generation, public, signature = struct.unpack("!32sQ32s64s", data)
    need(root == PUBLIC["root"], generation >= _GENERATION)
    check_signature(root, signature, "loa.station-certificate.2", data[:72])
    return {
        "root": root.hex(),
        "generation": generation,
        "public": public.hex(),
        "signature": signature.hex(),
    }


def read_stream_certificate(data: bytes) -> dict[str, Any]:
    need(len(data) == 114)
    generation, serial, highest, test, public, signature = struct.unpack("!QQBB32s64s", data)
    need(generation == _GENERATION, test <= 1)
    check_signature(PUBLIC["station"], signature, "loa.stream-certificate.2", data[:50])
    return {
        "generation": generation,
        "serial": serial,
        "highest_priority": highest,
        "test": bool(test),
        "public": public.hex(),
        "signature": signature.hex(),
    }


def read_identity(data: bytes) -> Any:
    meaning = read_message(data, "to loudspeaker")
    certificate, binding = (bytes.fromhex(meaning[name]) for name in ("certificate", "binding"))
    station = bytes.fromhex(_read_station(certificate)["public"])
    nonce = bytes.fromhex(meaning["nonce"])
    check_signature(station, binding, "loa.tls-binding.2", _TLS, nonce)
    need(meaning["version"] == 3)
    return meaning


def read_frame(data: bytes, direction: str) -> Any:
    if direction == "to station":
        return _read_first_word(data)
    number, signature, body = data[:8], data[8:72], data[72:]
    need(number == _NEXT_NUMBER)
    parts = (PUBLIC["loudspeaker"], _NONCE, _STATION_NONCE, number, body)
    check_signature(PUBLIC["station"], signature, "loa.speech.2", *parts)
    return {
        "number": int.from_bytes(number, "big"),
        "signature": signature.hex(),
        "message": read_message(body, direction),
    }


def _read_first_word(data: bytes) -> dict[str, Any]:
    signature, body = data[:64], data[64:]
    message = read_message(body, "to station")
    need(message["type"] in {"Hello", "Enrol"})
    key = bytes.fromhex(message["key"])
    check_signature(key, signature, "loa.proof.2", _STATION_NONCE, _TLS, body)
    if message["type"] == "Enrol":
        number, secret = _code_of(_SECRET)
        need(message["code"] == number.hex())
        expected = mac(secret, "loa.enrolment.2", _STATION_NONCE, _TLS, key)
        need(hmac.compare_digest(message["mac"], expected.hex()))
    return {"signature": signature.hex(), "message": message}


def _code_of(secret: bytes) -> tuple[bytes, bytes]:
    """The number and the key of a code."""
    number, key = (
        hashlib.sha256(transcript(domain, secret)).digest()
        for domain in ("loa.code-number.2", "loa.code-key.2")
    )
    return number[:4], key


def read_code(data: bytes) -> Any:
    scheme, _, rest = data.decode().partition(":")
    server, _, letters = rest.partition("/")
    plain = "".join(c for c in letters.upper() if c not in "- ")
    plain = plain.translate(str.maketrans("018", "OIB"))
    need(scheme.lower() == "loa", len(plain) == 45)
    whole = base64.b32decode(plain + "===")
    need(binascii.crc_hqx(whole[:26], 0xFFFF) == int.from_bytes(whole[26:], "big"))
    number, key = _code_of(whole[16:26])
    return {
        "server": server.strip(),
        "root_fingerprint": whole[:16].hex(),
        "secret": whole[16:26].hex(),
        "number": number.hex(),
        "key": key.hex(),
    }


def check_streams(data: bytes) -> None:
    """All that are sealed may be played as this `Listen` says."""
    for stream in read_message(data, "to loudspeaker")["streams"]:
        if stream["seal"] is not None:
            certificate = read_stream_certificate(bytes.fromhex(stream["seal"]["certificate"]))
            need(stream["priority"] <= certificate["highest_priority"])
            need(stream["test"] == certificate["test"])


# ---------------------------------------------------------------- by the session's key
def read_sealed_time(data: bytes) -> Any:
    if len(data) != 72:
        return read_time(data)
    need(data[48:56] == _SESSION)
    expected = mac(_SESSION_KEY, "loa.time.2", data[:56])[:16]
    need(hmac.compare_digest(data[56:], expected))
    ours = {"session": data[48:56].hex(), "authenticator": data[56:].hex()}
    return read_time(data[:48]) | ours


def read_token(data: bytes) -> Any:
    text = data.decode()
    session = bytes.fromhex(text[:16])
    need(session == _SESSION, text.islower())
    need(hmac.compare_digest(text[16:], mac(_SESSION_KEY, "loa.gateway.2", session).hex()))
    return {"session": text[:16]}


_STUN = {0x0001: "request", 0x0101: "success", 0x0111: "challenge"}


def read_stun(data: bytes) -> Any:
    need(len(data) >= 20, data[0] <= 3)
    kind, length, cookie, transaction = struct.unpack_from("!HHI12s", data)
    need(cookie == 0x2112A442, length == len(data) - 20, kind in _STUN)
    attributes = _attributes(data)
    need(list(attributes)[-1] == 0x1C, set(attributes) <= {6, 9, 0x15, 0x1C, 0x20})
    need(attributes[0x1C] == hmac.digest(_SESSION_KEY, data[:-36], "sha256"))
    meaning = {"type": _STUN[kind], "transaction": transaction.hex()}
    match meaning["type"]:
        case "request":
            need(attributes[6] == _SESSION.hex().encode())
            nonce = attributes.get(0x15)
            told = {"session": attributes[6].decode(), "nonce": nonce and nonce.decode()}
            return meaning | told
        case "challenge":
            need(attributes[9][2:4] == bytes((4, 38)))
            return meaning | {"nonce": attributes[0x15].decode()}
        case _:
            family, port, address = struct.unpack("!xBHI", attributes[0x20])
            need(family == 1)
            packed = (address ^ 0x2112A442).to_bytes(4, "big")
            return meaning | {"address": ".".join(map(str, packed)), "port": port ^ 0x2112}


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 20
    while at < len(data):
        kind, length = struct.unpack_from("!HH", data, at)
        need(kind not in found, at + 4 + length <= len(data))
        found[kind] = data[at + 4 : at + 4 + length]
        at += 4 + (length + 3) // 4 * 4
    return found


# ---------------------------------------------------------------- seal and signature
def is_rtcp(data: bytes) -> bool:
    return 192 <= data[1] <= 223


def read_signed(data: bytes, stream: Any) -> Any:
    """A packet as it is before it is sealed: `stream` is of a Listen that is believed."""
    certificate = read_stream_certificate(bytes.fromhex(stream["seal"]["certificate"]))
    serial, public = certificate["serial"], bytes.fromhex(certificate["public"])
    epoch = _epoch_of(data, stream)["number"]
    if is_rtcp(data):
        clear, tail = data[:-76], data[-76:]
        need(tail[:12] == bytes.fromhex("80cc0012") + clear[4:8] + b"LOAS")
        parts = (struct.pack("!QI", serial, epoch), clear)
        check_signature(public, tail[12:], "loa.rtcp.2", *parts)
        return {"epoch": epoch, "signature": tail[12:].hex(), "clear": clear.hex()}
    signed = data[84:]
    if data[1] & 0x7F in {97, 99}:
        along = (read_copies if data[1] & 0x7F == 97 else read_symbols)(signed)
        signed = bytes.fromhex(along["frame"] + along["digest"])
    _check_rtp(data, stream, epoch, data[1], signed)
    clear = b"\x80" + data[1:12] + data[84:]
    return {"epoch": epoch, "signature": data[18:82].hex(), "clear": clear.hex()}


def _check_rtp(data: bytes, stream: Any, epoch: int, second: int, signed: bytes) -> int:
    """The media sample of a packet whose signature holds for this second octet and payload."""
    certificate = read_stream_certificate(bytes.fromhex(stream["seal"]["certificate"]))
    need(data[0] == 0x90, data[12:18] == bytes.fromhex("100000110140"), data[82:84] == b"\0\0")
    sequence, timestamp = struct.unpack_from("!HI", data, 2)
    n = media_sample(timestamp, stream["timestamp_offset"], _now())
    place = struct.pack("!QIIqB", certificate["serial"], epoch, sequence, n, second)
    public = bytes.fromhex(certificate["public"])
    check_signature(public, data[18:82], "loa.rtp.2", place, signed)
    return n


def read_sealed(data: bytes, stream: Any) -> Any:
    """A packet on the wire."""
    epoch = _epoch_of(data, stream)
    key = bytes.fromhex(epoch["key"])
    ssrc = struct.pack("!I", epoch["ssrc"])
    if is_rtcp(data):
        index = struct.unpack("!I", data[-4:])[0]
        need(index >> 31)
        place = bytes(2) + ssrc + bytes(2) + struct.pack("!I", index & 0x7FFF_FFFF)
        signed = data[:8] + _open(key, (3, 5), place, data[8:-4], data[:8] + data[-4:])
        told = {"index": index & 0x7FFF_FFFF}
    else:
        signed = _open_rtp(data, key)
        told = {}
    read_signed(signed, stream)
    return {"epoch": epoch["number"], "signed": signed.hex()} | told


def _open_rtp(data: bytes, key: bytes) -> bytes:
    at = 12 + 4 * (data[0] & 15)
    if data[0] & 0x10:
        at += 4 + 4 * struct.unpack_from("!H", data, at + 2)[0]
    place = bytes(2) + data[8:12] + bytes(4) + data[2:4]
    return data[:at] + _open(key, (0, 2), place, data[at:], data[:at])


# ---------------------------------------------------------------- what is lost comes again
def read_copies(payload: bytes) -> Any:
    """A payload of type 97."""
    need(payload, 1 <= payload[0] <= 8, len(payload) > 1 + 5 * payload[0])
    at = 1 + 5 * payload[0]
    copies = []
    for head in range(1, at, 5):
        offset = int.from_bytes(payload[head : head + 3], "big")
        length = int.from_bytes(payload[head + 3 : head + 5], "big")
        copies.append({"offset": offset, "payload": payload[at : at + length].hex()})
        need(offset, length)
        at += length
    need(at < len(payload), len({copy["offset"] for copy in copies}) == len(copies))
    digest = hashlib.sha256(payload[:at]).digest()[:16]
    return {"copies": copies, "frame": payload[at:].hex(), "digest": digest.hex()}


def read_repair(data: bytes, stream: Any) -> Any:
    """A repair on the wire: what it is of."""
    first = bytes((*data[:11], data[11] ^ 1))
    epoch = _epoch_of(first, stream)
    plain = _open_rtp(data, bytes.fromhex(epoch["key"]))
    need(plain[1] == 98, len(plain) > 85)
    second = plain[84]
    need(second & 0x7F in {96, 97, 99})
    at = 85 if second & 0x7F == 96 else 101
    digest, frame = plain[85:at], plain[at:]
    need(frame)
    return {
        "epoch": epoch["number"],
        "sequence": int.from_bytes(plain[2:4], "big"),
        "media_sample": _check_rtp(plain, stream, epoch["number"], second, frame + digest),
        "signature": plain[18:82].hex(),
        "second_octet": second,
        "digest": digest.hex(),
        "frame": frame.hex(),
    }


def read_bundle(data: bytes) -> Any:
    need(data[:1] == b"\x41")
    repairs = []
    at = 1
    while at < len(data):
        begin = at + 2
        at = begin + int.from_bytes(data[at:begin], "big")
        need(begin < at <= len(data))
        repairs.append(data[begin:at].hex())
    need(1 <= len(repairs) <= 32)
    return repairs


def read_request(data: bytes) -> Any:
    need(len(data) <= 256, data[:1] == b"\x40", data[1:9] == _SESSION)
    need(hmac.compare_digest(data[-16:], mac(_SESSION_KEY, "loa.repair.3", data[:-16])[:16]))
    wanted = []
    at = 9
    while at < len(data) - 16:
        ssrc, first, length = struct.unpack_from("!IHB", data, at)
        bits = data[at + 7 : at + 7 + length]
        at += 7 + length
        need(bits, at <= len(data) - 16, bits[0] & 1, bits[-1])
        asked = [i for i in range(8 * length) if bits[i // 8] >> i % 8 & 1]
        wanted.append({"ssrc": ssrc, "sequences": [(first + i) % 65_536 for i in asked]})
    need(1 <= sum(len(one["sequences"]) for one in wanted) <= 512)
    return {"session": data[1:9].hex(), "wanted": wanted, "authenticator": data[-16:].hex()}


def _now() -> int:
    return int.from_bytes(KNOWN["media sample of now"], "big")


def _epoch_of(data: bytes, stream: Any) -> Any:
    ssrc = int.from_bytes(data[4:8] if is_rtcp(data) else data[8:12], "big")
    found = [epoch for epoch in stream["seal"]["epochs"] if epoch["ssrc"] == ssrc]
    need(found)
    return found[0]


def _open(key: bytes, labels: tuple[int, int], place: bytes, sealed: bytes, seen: bytes) -> bytes:
    salt = _derived(key, labels[1], 12)
    iv = bytes(a ^ b for a, b in zip(place, salt, strict=True))
    try:
        return AESGCM(_derived(key, labels[0], 16)).decrypt(iv, sealed, seen)
    except InvalidTag:
        need(False)
        raise


def _derived(key: bytes, label: int, count: int) -> bytes:
    salt = bytearray(key[16:] + bytes(4))
    salt[7] ^= label
    stream = Cipher(algorithms.AES(key[:16]), modes.CTR(bytes(salt))).encryptor()
    return stream.update(bytes(count))


def read_rtp_of_now(data: bytes, offset: int) -> Any:
    return read_rtp(data, offset, _now())
