"""PROTOCOL.md, its vectors and our code say the same, and the page suffices to read every vector.

The readers of a newcomer know the page's tables, msgpack and struct, and nothing of ours.
"""

import json
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields, replace
from math import log10
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import msgpack
import numpy as np
import pytest

from codec.dsp.fade import FADE_SAMPLES, Fader
from codec.format import FRAME_MS, SAMPLE_RATE
from codec.opus import packet_samples
from codec.pcm import pcm16
from endpoints.player import gain_of_volume
from server.api.bodies import LiveBody
from server.ingest import MAX_BLOCK_SAMPLES, block_of
from transport.clock.exchange import PACKET_BYTES, Exchange, ExchangeClient, answer
from transport.clock.timeline import media_sample
from transport.control.address import DEFAULT_PORT
from transport.control.delivery import DELIVERIES
from transport.control.messages import (
    MAX_PLAYOUT_DELAY_MS,
    MAX_TONE_S,
    TO_SPEAKER,
    TO_STATION,
    StreamSpec,
)
from transport.control.priority import Priority
from transport.control.session import (
    HELLO_TIMEOUT_S,
    SILENCE_TIMEOUT_S,
    TELEMETRY_INTERVAL_S,
    Backoff,
)
from transport.control.wire import MAX_MESSAGE_BYTES, Vocabulary
from transport.discovery.records import from_txt, speaker_txt, station_txt
from transport.errors import MalformedPacket
from transport.rtp.packet import RtpPacket
from transport.rtp.rtcp import (
    Bye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    parse_compound,
    serialise_compound,
)
from transport.rtp.sap import SapPacket
from transport.rtp.sdp import StreamDescription
from transport.session.sender import OPUS_PAYLOAD_TYPE

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "PROTOCOL.md").read_text()
_VOCABULARIES: dict[str, Vocabulary[Any]] = {"to station": TO_STATION, "to loudspeaker": TO_SPEAKER}


@dataclass(frozen=True)
class Vector:
    """One row of docs/vectors.json."""

    name: str
    kind: str
    direction: str
    use: str
    meaning: Any
    hex: str

    @property
    def data(self) -> bytes:
        return bytes.fromhex(self.hex)


VECTORS = {
    row["name"]: Vector(**row) for row in json.loads((ROOT / "docs" / "vectors.json").read_text())
}


def of(*uses: str, kind: str = "") -> pytest.MarkDecorator:
    """A parameter for each vector of these uses."""
    wanted = [v for v in VECTORS.values() if v.use in uses and kind in {"", v.kind}]
    return pytest.mark.parametrize("vector", wanted, ids=lambda v: v.name)


# ---------------------------------------------------------------- the page
class Field(NamedTuple):
    """One row of a message's table."""

    name: str
    type: str
    limits: str
    default: str


def _between(start: str, end: str) -> str:
    assert PAGE.count(start) == 1, start
    return PAGE.partition(start)[2].partition(end)[0]


def _rows(text: str) -> Iterator[list[str]]:
    """The cells of the first table's rows, its heading left out."""
    begun = 0
    for line in text.splitlines():
        if not line.startswith("|") and begun:
            return
        if line.startswith("|"):
            begun += 1
            if begun > 2:
                yield [cell.strip() for cell in line.strip("|").split("|")]


def _table(*headings: str) -> Iterator[list[str]]:
    """The rows of the one table whose first headings these are."""
    head = "\n" + "".join(f"| {heading} " for heading in headings) + "|"
    return _rows(head + _between(head, "\n\n"))


def _tables(section: str) -> dict[str, list[Field]]:
    parts = re.split(r"^#### (\w+)$", section, flags=re.MULTILINE)[1:]
    return {
        name: [Field(f.strip("`"), kind, limits, default) for f, kind, _, limits, default in rows]
        for name, rows in zip(parts[::2], map(_rows, parts[1::2]), strict=True)
    }


TABLES = {
    "to station": _tables(_between("### 2.3 From the loudspeaker\n", "\n### ")),
    "to loudspeaker": _tables(_between("### 2.4 From the station\n", "\n## ")),
}
_RECORDS = TABLES["to station"] | TABLES["to loudspeaker"]


# ---------------------------------------------------------------- the readers of a newcomer
class Dropped(Exception):  # noqa: N818 - it is what happened
    """The newcomer takes it for hostile."""


def need(*conditions: object) -> None:
    if not all(conditions):
        raise Dropped


_PLAIN = {"int": (int,), "bool": (bool,), "str": (str,), "float": (float, int)}


def read_message(data: bytes, direction: str) -> Any:
    need(len(data) <= 65536)
    try:
        plain = msgpack.unpackb(data, raw=False)
    except ValueError:
        raise Dropped from None
    need(isinstance(plain, dict))
    kind = plain.get("type")
    need(isinstance(kind, str), kind != "StreamSpec", kind in TABLES[direction], depth(plain) <= 6)
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
    for field in _RECORDS[kind]:
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
        return [read_record(field.type.removeprefix("array of "), item) for item in value]
    kind, _, optional = field.type.partition(" or ")
    if value is None:
        need(optional == "nil")
        return None
    need(type(value) in _PLAIN[kind])
    if span := limits_of(field):
        need(span[0] <= value <= span[1])
    return float(value) if kind == "float" else value


def limits_of(field: Field) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d+) to (\d+)", field.limits) if field.type != "str" else None
    return (int(found[1]), int(found[2])) if found else None


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
    payload = data[at : len(data) - padding]
    n = now + ((timestamp - offset - now + 2**31) % 2**32) - 2**31
    need(abs(n - now) <= 576_000)
    return {
        "version": 2,
        "marker": second >= 128,
        "payload_type": second & 127,
        "sequence": sequence,
        "timestamp": timestamp,
        "ssrc": ssrc,
        "csrcs": csrcs,
        "extension": extension,
        "payload": payload.hex(),
        "timestamp_offset": offset,
        "media_sample": n,
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


def read_sender_report(count: int, body: bytes) -> dict[str, Any]:
    ssrc, ntp, rtp, packets, octets = struct.unpack_from("!I8sIII", body)
    return {
        "type": "SenderReport",
        "ssrc": ssrc,
        "ntp_time": ntp.hex(),
        "rtp_timestamp": rtp,
        "packet_count": packets,
        "octet_count": octets,
        "reports": read_blocks(count, body[24:]),
    }


def read_receiver_report(count: int, body: bytes) -> dict[str, Any]:
    (ssrc,) = struct.unpack_from("!I", body)
    return {"type": "ReceiverReport", "ssrc": ssrc, "reports": read_blocks(count, body[4:])}


def read_blocks(count: int, body: bytes) -> list[dict[str, int]]:
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


def read_description(count: int, body: bytes) -> dict[str, Any]:
    need(count == 1)
    at = 4
    cname = ""
    while body[at]:
        text = body[at + 2 : at + 2 + body[at + 1]]
        cname = text.decode() if body[at] == 1 else cname
        at += 2 + body[at + 1]
    (ssrc,) = struct.unpack_from("!I", body)
    return {"type": "SourceDescription", "ssrc": ssrc, "cname": cname}


def read_bye(count: int, body: bytes) -> dict[str, Any]:
    return {"type": "Bye", "ssrcs": list(struct.unpack_from(f"!{count}I", body)), "reason": ""}


_RTCP: dict[int, Callable[[int, bytes], dict[str, Any]]] = {
    200: read_sender_report,
    201: read_receiver_report,
    202: read_description,
    203: read_bye,
}


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


_READERS: dict[str, Callable[[bytes], Any]] = {
    "time": read_time,
    "rtcp": read_rtcp,
    "ingest": read_ingest,
    "sap": read_sap,
    "txt": read_txt,
}


def newcomer(vector: Vector) -> Any:
    """What the newcomer takes a vector for."""
    if vector.kind == "message":
        return read_message(vector.data, vector.direction)
    if vector.kind == "rtp":
        known = vector.meaning if vector.use != "refuse" else VECTORS["rtp"].meaning
        now = known["media_sample"] + 12_345  # its clock is a little further
        return read_rtp(vector.data, known["timestamp_offset"], now)
    return _READERS[vector.kind](vector.data)


@of("both", "read")
def test_the_page_suffices_to_read_a_vector(vector: Vector) -> None:
    assert newcomer(vector) == vector.meaning


@of("refuse")
def test_the_page_suffices_to_drop_what_must_be_dropped(vector: Vector) -> None:
    with pytest.raises(Dropped):
        newcomer(vector)


# ---------------------------------------------------------------- our code
def _plain(value: Any) -> Any:
    """As JSON has it: lists for tuples."""
    return json.loads(json.dumps(value))


def _exactly(found: Any, wanted: Any) -> None:
    """Equal, with 1 told from 1.0 and from true."""
    assert json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)


@of("both", "read", kind="message")
def test_our_code_reads_a_message_as_it_is_meant(vector: Vector) -> None:
    message = _VOCABULARIES[vector.direction].decode(vector.data)
    _exactly({"type": type(message).__name__, **asdict(message)}, vector.meaning)


@of("both", kind="message")
def test_our_code_writes_a_message_as_these_bytes(vector: Vector) -> None:
    given = dict(vector.meaning)
    vocabulary = _VOCABULARIES[vector.direction]
    kind = vocabulary.types[given.pop("type")]
    if "streams" in given:
        given["streams"] = tuple(StreamSpec(**stream) for stream in given["streams"])
    assert vocabulary.encode(kind(**given)).hex() == vector.hex


def test_our_code_asks_for_the_time_and_answers_in_these_bytes() -> None:
    asked, told = VECTORS["time_request"], VECTORS["time_reply"]
    nonce = int(asked.meaning["transmit"], 16)
    client = ExchangeClient(lambda: nonce)
    assert client.request() == (nonce, asked.data)
    set_ns, t2, t3 = (int(told.meaning[name]) for name in ("clock_set_ns", "t2_ns", "t3_ns"))
    assert answer(asked.data, t2, t3, set_ns).hex() == told.hex
    client.sent(nonce, 1_000)
    assert client.receive(told.data, 2_000_000) == Exchange(1_000, t2, t3, 2_000_000, set_ns)


@of("both", "read", kind="rtp")
def test_our_code_reads_rtp_as_it_is_meant(vector: Vector) -> None:
    meaning = vector.meaning
    packet = RtpPacket.parse(vector.data)
    extension = packet.extension
    found = asdict(packet) | {
        "version": 2,
        "payload": packet.payload.hex(),
        "extension": extension and {"profile": extension.profile, "data": extension.data.hex()},
        "timestamp_offset": meaning["timestamp_offset"],
        "media_sample": media_sample(
            packet.timestamp, meaning["timestamp_offset"], meaning["media_sample"] - 500_000
        ),
        "samples": packet_samples(packet.payload),
    }
    _exactly(_plain(found), meaning)


@of("both", kind="rtp")
def test_our_code_writes_rtp_as_these_bytes(vector: Vector) -> None:
    names = ("payload_type", "sequence", "timestamp", "ssrc", "marker")
    known = {name: vector.meaning[name] for name in names}
    packet = RtpPacket(**known, payload=bytes.fromhex(vector.meaning["payload"]))
    assert packet.serialise().hex() == vector.hex


def _rtcp_meaning(packet: RtcpPacket) -> dict[str, Any]:
    meaning = {"type": type(packet).__name__, **_plain(asdict(packet))}
    if isinstance(packet, SenderReport):
        meaning["ntp_time"] = f"{packet.ntp_time:016x}"
    return meaning


def _rtcp_packet(meaning: dict[str, Any]) -> RtcpPacket:
    given = {name: value for name, value in meaning.items() if name != "type"}
    reports = tuple(ReportBlock(**block) for block in given.pop("reports", ()))
    match meaning["type"]:
        case "SenderReport":
            return SenderReport(
                **(given | {"ntp_time": int(given["ntp_time"], 16)}), reports=reports
            )
        case "ReceiverReport":
            return ReceiverReport(**given, reports=reports)
        case "SourceDescription":
            return SourceDescription(**given)
        case _:
            return Bye(tuple(given["ssrcs"]), given["reason"])


@of("both", "read", kind="rtcp")
def test_our_code_reads_rtcp_as_it_is_meant(vector: Vector) -> None:
    _exactly([_rtcp_meaning(packet) for packet in parse_compound(vector.data)], vector.meaning)


@of("both", kind="rtcp")
def test_our_code_writes_rtcp_as_these_bytes(vector: Vector) -> None:
    assert serialise_compound([_rtcp_packet(item) for item in vector.meaning]).hex() == vector.hex


@of("both", kind="ingest")
def test_our_code_reads_and_writes_what_a_source_says(vector: Vector) -> None:
    meaning = vector.meaning
    item = msgpack.unpackb(vector.data, raw=False)
    if isinstance(item, list):
        start, samples = block_of(item)
        assert (start, len(samples)) == (meaning["media_sample"], len(meaning["samples"]))
        assert np.array_equal(samples * 32767, meaning["samples"])
        meaning = [start, pcm16(samples)]
    assert item == meaning
    assert msgpack.packb(meaning).hex() == vector.hex


@of("both", kind="sap")
def test_our_code_reads_and_writes_an_announcement(vector: Vector) -> None:
    packet = SapPacket.parse(vector.data)
    assert asdict(packet) == vector.meaning
    assert packet.serialise().hex() == vector.hex
    described = StreamDescription.parse(packet.payload).serialise()
    assert described == packet.payload
    assert described.split() == _between("```sdp\n", "```").split()


@of("both", kind="txt")
def test_our_code_reads_and_writes_what_is_said_by_mdns(vector: Vector) -> None:
    meaning = vector.meaning
    assert from_txt(vector.data) == meaning
    if "station" in meaning:
        assert speaker_txt(meaning["name"], meaning["station"]).hex() == vector.hex
    else:
        assert station_txt(meaning["name"]).hex() == vector.hex


@of("refuse")
def test_our_code_drops_what_must_be_dropped_for_the_stated_reason(vector: Vector) -> None:
    readers: dict[str, Callable[[bytes], object]] = {
        "time": lambda data: ExchangeClient(lambda: 0).receive(data, 0),
        "rtp": RtpPacket.parse,
        "rtcp": parse_compound,
    }
    if vector.kind == "message":
        readers["message"] = _VOCABULARIES[vector.direction].decode
    with pytest.raises(MalformedPacket) as dropped:
        readers[vector.kind](vector.data)
    assert {"reason": dropped.value.reason} == vector.meaning


def test_every_message_has_a_vector() -> None:
    shown = {v.meaning["type"] for v in VECTORS.values() if (v.kind, v.use) == ("message", "both")}
    assert shown == set(TO_STATION.types) | set(TO_SPEAKER.types)


# ---------------------------------------------------------------- the page against the code
def test_the_page_shows_every_vector_and_no_other_hex() -> None:
    shown = re.findall(
        r"^`(\w+)`, (to \w+):\n\n```hex\n(.*?)\n```\n```json\n(.*?)\n```$",
        PAGE,
        flags=re.MULTILINE | re.DOTALL,
    )
    assert [name for name, *_ in shown] == list(VECTORS)
    assert len(shown) == PAGE.count("```hex")
    for name, direction, hexadecimal, meaning in shown:
        vector = VECTORS[name]
        assert (direction, bytes.fromhex(hexadecimal)) == (vector.direction, vector.data)
        _exactly(json.loads(meaning), vector.meaning)


@pytest.mark.parametrize("name", ["hello", "rtp"])
def test_what_is_walked_byte_by_byte_is_the_whole_vector(name: str) -> None:
    section = _between("### 8.1 ", "\n### ")
    walked = b""
    for at, quoted, meaning in _rows(section[section.index(f"\n`{name}`") :]):
        assert int(at) == len(walked)
        assert meaning
        walked += bytes.fromhex(quoted.strip("`"))
    assert walked == VECTORS[name].data


_TYPES = {
    int: "int",
    bool: "bool",
    str: "str",
    float: "float",
    str | None: "str or nil",
    int | None: "int or nil",
    tuple[StreamSpec, ...]: "array of StreamSpec",
}


def _default(value: Any) -> str:
    if value is MISSING:
        return "required"
    return "`nil`" if value is None else f"`{json.dumps(value)}`"


@pytest.mark.parametrize("direction", TABLES)
def test_every_message_and_field_stands_in_a_table_with_its_type_and_default(
    direction: str,
) -> None:
    kinds = dict(_VOCABULARIES[direction].types)
    if direction == "to loudspeaker":
        kinds["StreamSpec"] = StreamSpec
    ours = {
        name: [
            (f.name, _TYPES[get_type_hints(kind)[f.name]], _default(f.default))
            for f in fields(kind)
        ]
        for name, kind in kinds.items()
    }
    shown = {
        name: [(row.name, row.type, row.default) for row in rows]
        for name, rows in TABLES[direction].items()
    }
    assert shown == ours


def _examples() -> Iterator[Any]:
    for vector in VECTORS.values():
        if vector.kind == "message" and vector.use == "both":
            message = _VOCABULARIES[vector.direction].decode(vector.data)
            yield message
            yield from getattr(message, "streams", ())


def test_the_limits_of_the_tables_are_those_that_are_kept() -> None:
    tried = set()
    for message in _examples():
        for field in _RECORDS[type(message).__name__]:
            span = limits_of(field)
            if span is None or getattr(message, field.name) is None:
                continue
            for value in span:
                assert replace(message, **{field.name: value})
            for value in (span[0] - 1, span[1] + 1):
                with pytest.raises(ValueError, match=r"\d"):
                    replace(message, **{field.name: value})
            tried.add(field.name)
    ports = {"media_port", "time_port", "rtcp_port", "port"}
    assert tried == {*ports, "volume", "priority", "seconds"}


def test_the_figures_are_those_of_the_code() -> None:
    longest = Backoff(lambda: 1.0)
    waits = [longest.next_s() for _ in range(10)]
    deepest = TO_STATION.encode(TO_STATION.decode(VECTORS["ready"].data))[1:]
    nested = b"\x83\xa1x\x91\x91\x91\x91\x00" + deepest  # 0 stands on level 6
    assert TO_STATION.decode(nested)
    ours = {
        "default control port": f"{DEFAULT_PORT}",
        "longest message": f"{MAX_MESSAGE_BYTES} bytes",
        "deepest message": "6 levels",
        "wait for `Hello`, and for its answer": f"{HELLO_TIMEOUT_S:g} s",
        "between two `Telemetry`": f"{TELEMETRY_INTERVAL_S:g} s",
        "silence that ends a session": f"{SILENCE_TIMEOUT_S:g} s",
        "first wait before coming again, at most": f"{waits[0]:g} s",
        "longest wait before coming again": f"{max(waits):g} s",
        "longest D": f"{MAX_PLAYOUT_DELAY_MS} ms",
        "longest tone": f"{MAX_TONE_S:g} s",
        "RTP clock": f"{SAMPLE_RATE} Hz",
        "change-over": f"{FADE_SAMPLES} samples",
        "payload type": f"{OPUS_PAYLOAD_TYPE}",
        "time packet": f"{PACKET_BYTES} bytes",
        "longest block of a source": f"{MAX_BLOCK_SAMPLES} samples",
    }
    assert dict(_rows(_between("### Figures\n", "\n## "))) == ours


def test_deliveries_frames_and_priorities_are_those_of_the_code() -> None:
    rows = _table("delivery", "frames")
    shown = {name.strip("`"): (ms, d, when != "never") for name, ms, d, when in rows}
    assert shown == {
        name: (f"{kind.frame_ms:g} ms", f"{kind.playout_delay_ms:g} ms", kind.may_multicast)
        for name, kind in DELIVERIES.items()
    }
    limits = {field.name: field.limits for field in _RECORDS["StreamSpec"]}
    assert limits["frame_ms"] == ", ".join(f"{ms:g}" for ms in FRAME_MS)
    assert ", ".join(f"{p.value} {p.name.lower()}" for p in Priority) in PAGE


def test_the_volumes_are_those_that_are_heard() -> None:
    for volume, gain, db in _table("volume", "gain"):
        assert gain_of_volume(int(volume)) == float(gain)
        assert db == (f"{20 * log10(float(gain)):.1f}" if float(gain) else "silent")


def test_the_change_over_is_the_one_that_is_heard() -> None:
    at = 85_075_660_813_920
    coming, leaving = Fader(), Fader()
    leaving.turn(1.0, at - 10_000)
    coming.turn(1.0, at)
    leaving.turn(0.0, at)
    for after, up, down in _table("samples after a"):
        where = np.array([float(after)])
        assert f"{coming.gains(at, where)[0]:.4f}" == up
        assert f"{leaving.gains(at, where)[0]:.4f}" == down


def test_what_may_be_asked_of_the_api_stands_on_the_page() -> None:
    shown = {
        name.strip("`"): default for name, _, _, default in _rows(_between("### 6.1 ", "\n### "))
    }
    ours = {
        name: field.get_default(call_default_factory=True)
        for name, field in LiveBody.model_fields.items()
    }
    assert shown == {name: f"`{json.dumps(value)}`" for name, value in ours.items()}


@pytest.mark.parametrize(
    "path",
    [
        "endpoints/session.py",
        "transport/clock/exchange.py",
        "transport/control/wire.py",
        "transport/rtp/packet.py",
        "transport/rtp/rtcp.py",
        "transport/session/receiver.py",
    ],
)
def test_every_reason_for_which_we_drop_is_named(path: str) -> None:
    section = _between("## 9. Hostile input\n", "\n## ")
    reasons = set(re.findall(r'MalformedPacket\("(\w+)"\)', (ROOT / path).read_text()))
    assert reasons
    assert reasons <= set(re.findall(r"`(\w+)`", section))
