"""The readers of a newcomer: they know the page's tables, msgpack and struct; nothing of ours."""

import json
import struct
from collections.abc import Callable
from typing import Any

import msgpack

from tests.protocol.page import PARTS, RECORDS, TABLES, Field


class Dropped(Exception):  # noqa: N818 - it is what happened
    """The newcomer takes it for hostile."""


def need(*conditions: object) -> None:
    if not all(conditions):
        raise Dropped


# ---------------------------------------------------------------- messages
_PLAIN = {"int": (int,), "bool": (bool,), "str": (str,), "float": (float, int), "bin": (bytes,)}
# 64 bits that are drawn at random are no number of JSON's.
_WIDE = {"session"}


def read_message(data: bytes, direction: str) -> Any:
    need(len(data) <= 65536)
    try:
        plain = msgpack.unpackb(data, raw=False)
    except ValueError:
        raise Dropped from None
    need(isinstance(plain, dict))
    kind = plain.get("type")
    need(isinstance(kind, str), kind not in PARTS, kind in TABLES[direction], depth(plain) <= 8)
    return {"type": kind, **read_record(kind, plain)}


def depth(value: object) -> int:
    inside: list[object] = []
    if isinstance(value, dict):
        inside = list(value.values())
    elif isinstance(value, list):
        inside = value
    return 1 + max((depth(item) for item in inside), default=0)


def read_record(kind: str, plain: Any) -> dict[str, Any]:
    need(isinstance(plain, dict))
    record = {}
    for field in RECORDS[kind]:
        if field.name in plain:
            record[field.name] = read_field(field, plain[field.name])
        else:
            need(field.default != "required")
            default = field.default.strip("`")
            record[field.name] = None if default == "nil" else json.loads(default)
    return record


def read_field(field: Field, value: Any) -> Any:
    if field.type.startswith("array of "):
        need(isinstance(value, list))
        need(field.span is None or field.span[0] <= len(value) <= field.span[1])
        return [read_record(field.type.removeprefix("array of "), item) for item in value]
    kind, _, optional = field.type.partition(" or ")
    if value is None:
        need(optional == "nil")
        return None
    if kind in PARTS:
        return read_record(kind, value)
    need(type(value) in _PLAIN[kind])
    if kind == "bin":
        need(field.size is None or len(value) == field.size)
        return value.hex()
    need(field.span is None or field.span[0] <= value <= field.span[1])
    if field.name in _WIDE:
        return f"{value:016x}"
    return float(value) if kind == "float" else value


# ---------------------------------------------------------------- time
def read_time(data: bytes) -> Any:
    need(len(data) >= 48)
    first, stratum, poll, precision, *rest = struct.unpack_from("!BBbbII4s8s8s8s8s", data)
    delay, dispersion, identity, *stamps = rest
    meaning = {
        "leap": first >> 6,
        "version": first >> 3 & 7,
        "mode": first & 7,
        "stratum": stratum,
        "poll": poll,
        "precision": precision,
        "root_delay": delay,
        "root_dispersion": dispersion,
        "reference_id": identity.hex(),
    }
    names = ("reference", "origin", "receive", "transmit")
    meaning |= {name: stamp.hex() for name, stamp in zip(names, stamps, strict=True)}
    if meaning["mode"] == 4:
        for name, stamp in zip(("clock_set_ns", "", "t2_ns", "t3_ns"), stamps, strict=True):
            meaning |= {name: str(unix_ns(stamp))} if name else {}
    return meaning


def unix_ns(stamp: bytes) -> int:
    seconds, fraction = (int.from_bytes(half, "big") for half in (stamp[:4], stamp[4:]))
    unix = seconds - 2_208_988_800 + (0 if seconds >> 31 else 1 << 32)
    return unix * 1_000_000_000 + round(fraction * 1_000_000_000 / 2**32)


# ---------------------------------------------------------------- RTP and RTCP
def media_sample(timestamp: int, offset: int, now: int) -> int:
    n = now + ((timestamp - offset - now + 2**31) % 2**32) - 2**31
    need(abs(n - now) <= 576_000)
    return n


def read_rtp(data: bytes, offset: int, now: int) -> Any:
    need(len(data) >= 12)
    first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", data)
    need(first >> 6 == 2)
    at = 12 + 4 * (first & 15)
    csrcs = [int.from_bytes(data[i : i + 4], "big") for i in range(12, at, 4)]
    extension = None
    if first & 0x10:
        profile, words = struct.unpack_from("!HH", data, at)
        extension = {"profile": profile, "data": data[at + 4 : at + 4 + 4 * words].hex()}
        at += 4 + 4 * words
    padding = data[-1] if first & 0x20 else 0
    need(at + padding <= len(data), padding or not first & 0x20)
    return {
        "version": 2,
        "marker": second >= 128,
        "payload_type": second & 127,
        "sequence": sequence,
        "timestamp": timestamp,
        "ssrc": ssrc,
        "csrcs": csrcs,
        "extension": extension,
        "payload": data[at : len(data) - padding].hex(),
        "timestamp_offset": offset,
        "media_sample": media_sample(timestamp, offset, now),
        "samples": 480,  # by `frame_ms`
    }


def read_rtcp(data: bytes) -> list[dict[str, Any]]:
    need(len(data) >= 4, data[1:2] in {b"\xc8", b"\xc9"})
    found = []
    at = 0
    while at < len(data):
        need(at + 4 <= len(data))
        first, kind, words = struct.unpack_from("!BBH", data, at)
        body = data[at + 4 : at + 4 + 4 * words]
        at += 4 + 4 * words
        need(first >> 6 == 2, at <= len(data))
        reader = _RTCP.get(kind)
        if reader is not None:
            found.append(reader(first & 31, body))
    return found


def _read_sender_report(count: int, body: bytes) -> dict[str, Any]:
    ssrc, ntp, rtp, packets, octets = struct.unpack_from("!I8sIII", body)
    return {
        "type": "SenderReport",
        "ssrc": ssrc,
        "ntp_time": ntp.hex(),
        "rtp_timestamp": rtp,
        "packet_count": packets,
        "octet_count": octets,
        "reports": _read_blocks(count, body[24:]),
    }


def _read_receiver_report(count: int, body: bytes) -> dict[str, Any]:
    (ssrc,) = struct.unpack_from("!I", body)
    return {"type": "ReceiverReport", "ssrc": ssrc, "reports": _read_blocks(count, body[4:])}


def _read_blocks(count: int, body: bytes) -> list[dict[str, int]]:
    blocks = []
    for at in range(0, 24 * count, 24):
        ssrc, fraction, *rest = struct.unpack_from("!IB3sIIII", body, at)
        lost, highest, jitter, last, delay = rest
        blocks.append(
            {
                "ssrc": ssrc,
                "fraction_lost": fraction,
                "cumulative_lost": int.from_bytes(lost, "big", signed=True),
                "highest_sequence": highest,
                "jitter": jitter,
                "last_sr": last,
                "delay_since_last_sr": delay,
            }
        )
    return blocks


def _read_description(count: int, body: bytes) -> dict[str, Any]:
    need(count == 1)
    at = 4
    cname = ""
    while body[at]:
        text = body[at + 2 : at + 2 + body[at + 1]]
        cname = text.decode() if body[at] == 1 else cname
        at += 2 + body[at + 1]
    (ssrc,) = struct.unpack_from("!I", body)
    return {"type": "SourceDescription", "ssrc": ssrc, "cname": cname}


def _read_bye(count: int, body: bytes) -> dict[str, Any]:
    return {"type": "Bye", "ssrcs": list(struct.unpack_from(f"!{count}I", body)), "reason": ""}


_RTCP: dict[int, Callable[[int, bytes], dict[str, Any]]] = {
    200: _read_sender_report,
    201: _read_receiver_report,
    202: _read_description,
    203: _read_bye,
}


# ---------------------------------------------------------------- a source, players, being found
def read_ingest(data: bytes) -> Any:
    item = msgpack.unpackb(data)
    if not isinstance(item, list):
        return item
    start, pcm = item
    return {"media_sample": start, "samples": [s for (s,) in struct.iter_unpack("<h", pcm)]}


def read_sap(data: bytes) -> Any:
    flags, words, identity = struct.unpack_from("!BBH", data)
    kind, _, text = data[8 + 4 * words :].partition(b"\0")
    need(flags & 0b1111_0011 == 0x20)
    return {
        "origin": ".".join(map(str, data[4:8])),
        "message_id_hash": identity,
        "deletion": bool(flags & 4),
        "payload_type": kind.decode(),
        "payload": text.decode(),
    }


def read_txt(data: bytes) -> Any:
    pairs = {}
    while data:
        key, _, value = data[1 : 1 + data[0]].decode().partition("=")
        pairs[key] = value
        data = data[1 + data[0] :]
    return pairs
