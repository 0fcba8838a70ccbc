"""The tables and figures of PROTOCOL.md are those of our code."""

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from math import log10
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from codec.dsp.fade import FADE_SAMPLES, Fader
from codec.format import FRAME_MS, SAMPLE_RATE
from endpoints.player import gain_of_volume
from endpoints.way.path import KEEP_ALIVE_NS, RETRY_NS
from server import pace
from server.api.bodies import LiveBody
from server.gateway.peer import MAX_MESSAGE_BYTES as MAX_TO_GATEWAY
from server.gateway.peer import SUBPROTOCOL as MEDIA_SUBPROTOCOL
from server.ingest import MAX_BLOCK_SAMPLES
from server.usher.paths import FORGET_NS, MAX_REQUEST
from server.usher.repairs import AGAIN_NS, HOLD_NS
from server.usher.share import BYTES_A_SECOND
from tests.protocol.page import (
    PAGE,
    PARTS,
    PUBLIC,
    RECORDS,
    ROOT,
    TABLES,
    VECTORS,
    between,
    rows,
    table,
)
from transport.clock.exchange import PACKET_BYTES
from transport.clock.timeline import NS_PER_MS, NS_PER_SECOND
from transport.control.address import DEFAULT_PORT
from transport.control.delivery import DELIVERIES
from transport.control.lateness import Lateness
from transport.control.messages import (
    MAX_PLAYOUT_DELAY_MS,
    MAX_TONE_S,
    SUBPROTOCOL,
    TO_SPEAKER,
    TO_STATION,
    EpochSpec,
    SealSpec,
    StreamSpec,
)
from transport.control.priority import Priority
from transport.control.session import (
    HELLO_TIMEOUT_S,
    SETTLED_S,
    SILENCE_TIMEOUT_S,
    TLS_TIMEOUT_S,
    Backoff,
)
from transport.control.wire import MAX_MESSAGE_BYTES
from transport.errors import MalformedPacket
from transport.recovery.bundle import BUNDLE, MAX_BUNDLED
from transport.recovery.copies import COPIES_PAYLOAD_TYPE, MAX_COPIES
from transport.recovery.erasure import (
    CODE_PAYLOAD_TYPE,
    LEAST_FRAMES,
    MOST_FRAMES,
    MOST_IN_PACKET,
    MOST_SYMBOLS,
)
from transport.recovery.repair import REPAIR_PAYLOAD_TYPE
from transport.recovery.request import MAX_REQUEST_BYTES, MAX_WANTED, REQUEST
from transport.security.certificates import STATION_CERTIFICATE_BYTES, STREAM_CERTIFICATE_BYTES
from transport.security.handshake import MAX_FRAME_BYTES
from transport.security.session_keys import TIME_BYTES
from transport.security.stun import MAX_STUN_BYTES
from transport.session.sender import OPUS_PAYLOAD_TYPE

_VOCABULARIES = {"to station": TO_STATION, "to loudspeaker": TO_SPEAKER}


# ---------------------------------------------------------------- the vectors
def test_the_page_shows_every_vector_and_no_other_hex() -> None:
    shown = re.findall(
        r"^`(\w+)`, (to \w+):\n\n```hex\n(.*?)\n```\n```json\n(.*?)\n```$",
        PAGE,
        flags=re.MULTILINE | re.DOTALL,
    )
    assert [name for name, *_ in shown] == [v.name for v in VECTORS.values() if v.use != "refuse"]
    assert len(shown) == PAGE.count("```hex")
    for name, direction, hexadecimal, meaning in shown:
        vector = VECTORS[name]
        assert (direction, bytes.fromhex(hexadecimal)) == (vector.direction, vector.data)
        assert json.dumps(json.loads(meaning)) == json.dumps(vector.meaning)


def test_the_page_says_of_every_vector_to_refuse_why() -> None:
    shown = {name.strip("`"): reason.strip("`") for name, what, reason in table("name") if what}
    refused = {v.name: v.meaning["reason"] for v in VECTORS.values() if v.use == "refuse"}
    assert shown == refused
    assert set(refused.values()) <= set(_reasons())


def test_every_kind_of_vector_is_explained() -> None:
    kinds = {kind for row in table("kind") for kind in re.findall(r"`(\w+)`", row[0])}
    assert kinds == {vector.kind for vector in VECTORS.values()}


def _walked(name: str) -> str:
    section = between("### 8.2 ", "\n### ")
    return section[section.index(f"\n`{name}`") :]


@pytest.mark.parametrize("name", ["hello", "rtp_sealed"])
def test_what_is_walked_byte_by_byte_is_the_whole_vector(name: str) -> None:
    walked = b""
    for at, quoted, meaning in rows(_walked(name)):
        assert int(at) == len(walked)
        assert meaning
        walked += bytes.fromhex(quoted.strip("`"))
    assert walked == VECTORS[name].data


def test_what_is_said_to_be_signed_is_signed() -> None:
    said = [bytes.fromhex(quoted.strip("`")) for _, quoted in table("bytes", "hex")]
    signature = bytes.fromhex(VECTORS["rtp_signed"].meaning["signature"])
    Ed25519PublicKey.from_public_bytes(PUBLIC["stream"]).verify(signature, b"".join(said))


# ---------------------------------------------------------------- messages
_TYPES = {int: "int", bool: "bool", str: "str", float: "float", bytes: "bin"}


def _type(kind: Any) -> str:
    if kind in _TYPES:
        return _TYPES[kind]
    if isinstance(kind, UnionType):
        return f"{_type(get_args(kind)[0])} or nil"
    item = get_args(kind)
    return f"array of {item[0].__name__}" if item else str(kind.__name__)


def _default(value: Any) -> str:
    if value is MISSING:
        return "required"
    return "`nil`" if value is None else f"`{json.dumps(value)}`"


@pytest.mark.parametrize("direction", TABLES)
def test_every_message_and_field_stands_in_a_table_with_its_type_and_default(
    direction: str,
) -> None:
    kinds = dict(_VOCABULARIES[direction].types)
    parts = {"to station": (Lateness,), "to loudspeaker": (StreamSpec, SealSpec, EpochSpec)}
    assert {part.__name__ for each in parts.values() for part in each} == PARTS
    kinds |= {part.__name__: part for part in parts[direction]}
    ours = {
        name: [
            (f.name, _type(get_type_hints(kind)[f.name]), _default(f.default)) for f in fields(kind)
        ]
        for name, kind in kinds.items()
    }
    shown = {
        name: [(row.name, row.type, row.default) for row in found]
        for name, found in TABLES[direction].items()
    }
    assert shown == ours


def _examples() -> Iterator[Any]:
    for vector in VECTORS.values():
        if vector.kind in {"message", "identity"} and vector.use == "both":
            message = _VOCABULARIES[vector.direction].decode(vector.data)
            yield message
            for stream in getattr(message, "streams", ()):
                yield stream
                if stream.seal is not None:
                    yield stream.seal
                    yield from stream.seal.epochs


def _beyond(value: Any, span: tuple[float, float]) -> tuple[list[Any], list[Any]]:
    """What is at the limits, and what is beyond them; of an array, so many items."""
    if isinstance(value, float):
        least_s, most_s = span
        return [least_s, most_s], [least_s - 0.01, most_s + 0.01]
    least, most = map(int, span)
    if isinstance(value, tuple):
        many = [replace(value[0], number=number) for number in range(most + 1)]
        return [tuple(many[:least]), tuple(many[:most])], [(), tuple(many)]
    return [least, most], [least - 1, most + 1]


def test_the_limits_of_the_tables_are_those_that_are_kept() -> None:
    tried = set()
    for message in _examples():
        for field in RECORDS[type(message).__name__]:
            value = getattr(message, field.name)
            if field.span is None or value is None:
                continue
            within, beyond = _beyond(value, field.span)
            for good in within:
                assert replace(message, **{field.name: good})
            for bad in beyond:
                with pytest.raises(ValueError, match=r"\d"):
                    replace(message, **{field.name: bad})
            tried.add(field.name)
    ports = {"media_port", "time_port", "gateway_port", "port"}
    paces = {"telemetry_s", "time_s"}
    assert tried == {*ports, *paces, "volume", "priority", "seconds", "epochs"}


def test_the_sizes_of_the_tables_are_those_that_are_kept() -> None:
    tried = set()
    for message in _examples():
        for field in RECORDS[type(message).__name__]:
            # What is in a certificate, its own reader says, and that of a signature.
            if field.size is None or field.name in {"certificate", "binding"}:
                continue
            assert len(getattr(message, field.name)) == field.size
            for wrong in (bytes(field.size - 1), bytes(field.size + 1)):
                with pytest.raises(ValueError, match=r"\d"):
                    replace(message, **{field.name: wrong})
            tried.add((type(message).__name__, field.name))
    assert {name for _, name in tried} == {"key", "nonce", "code", "mac"}
    certificate = next(f for f in RECORDS["Identity"] if f.name == "certificate")
    assert certificate.size == STATION_CERTIFICATE_BYTES
    assert f"**A stream certificate**, {STREAM_CERTIFICATE_BYTES} bytes" in PAGE


# ---------------------------------------------------------------- figures and names
def test_the_figures_are_those_of_the_code() -> None:
    longest = Backoff(lambda: 1.0)
    waits = [longest.next_s() for _ in range(10)]
    ours = {
        "default control port": f"{DEFAULT_PORT}",
        "longest message": f"{MAX_MESSAGE_BYTES} bytes",
        "longest frame from the station": f"{MAX_FRAME_BYTES} bytes",
        "deepest message": f"{_deepest()} levels",
        "wait for `Hello`, and for its answer": f"{HELLO_TIMEOUT_S:g} s",
        "wait for TLS, once the connection is taken": f"{TLS_TIMEOUT_S:g} s",
        "wait for a pong": f"{SILENCE_TIMEOUT_S:g} s, or `telemetry_s` if that is longer",
        "a session has lasted after": f"{SETTLED_S:g} s",
        "first wait before coming again, at most": f"{waits[0]:g} s",
        "longest wait before coming again": f"{max(waits):g} s",
        "longest D": f"{MAX_PLAYOUT_DELAY_MS} ms",
        "longest tone": f"{MAX_TONE_S:g} s",
        "RTP clock": f"{SAMPLE_RATE} Hz",
        "change-over": f"{FADE_SAMPLES} samples",
        "payload type": f"{OPUS_PAYLOAD_TYPE}",
        "payload type with copies": f"{COPIES_PAYLOAD_TYPE}",
        "payload type of a repair": f"{REPAIR_PAYLOAD_TYPE}",
        "payload type with symbols": f"{CODE_PAYLOAD_TYPE}",
        "copies in a packet": f"{MAX_COPIES}",
        "symbols in a packet": f"{MOST_IN_PACKET}",
        "places of a block": f"{LEAST_FRAMES} to {MOST_FRAMES}",
        "source and repair symbols of a block": f"{MOST_SYMBOLS}",
        "first byte of a request": f"0x{REQUEST:02x}",
        "first byte of a bundle": f"0x{BUNDLE:02x}",
        "packets in a bundle": f"{MAX_BUNDLED}",
        "longest request": f"{MAX_REQUEST_BYTES} bytes",
        "packets in a request": f"{MAX_WANTED}",
        "between the two times that a repair is sent": f"{AGAIN_NS / NS_PER_MS:g} ms",
        "a repair is not sent again within": f"{HOLD_NS / NS_PER_MS:g} ms",
        "repairs of one session": f"{8 * BYTES_A_SECOND} bit/s",
        "time packet": f"{PACKET_BYTES} bytes",
        "time packet with authenticator": f"{TIME_BYTES} bytes",
        "between two keep-alives": f"{KEEP_ALIVE_NS / NS_PER_SECOND:g} s",
        "the same, while none is answered": f"{RETRY_NS / NS_PER_SECOND:g} s",
        "a way without keep-alives is forgotten after": f"{FORGET_NS / NS_PER_SECOND:g} s",
        "longest STUN message": f"{MAX_STUN_BYTES} bytes",
        "longest keep-alive": f"{MAX_REQUEST} bytes",
        "longest message to the gateway": f"{MAX_TO_GATEWAY} bytes",
        "longest block of a source": f"{MAX_BLOCK_SAMPLES} samples",
    }
    assert dict(rows(between("### Figures\n", "\n## "))) == ours


def test_the_paces_are_those_of_the_code() -> None:
    grows = between("The more loudspeakers are enrolled,", "\n\n").replace("\n", " ")
    few, often_s, ask_s = map(
        float, re.findall(r"with (\d+) and fewer it is each ([\d.]+) s and ([\d.]+) s", grows)[0]
    )
    assert (pace.telemetry_s(int(few)), pace.time_s(int(few))) == (often_s, ask_s)
    assert pace.telemetry_s(int(few) + 10) > often_s
    assert "with 1,000 each 5 s and 2 s" in grows
    assert (pace.telemetry_s(1_000), pace.time_s(1_000)) == (5.0, 2.0)
    assert "never more than 20 s and 15 s" in grows
    assert (pace.telemetry_s(1 << 20), pace.time_s(1 << 20)) == (20.0, 15.0)
    offline = "shown offline after 2.5 `telemetry_s` without, but 5 s at least"
    said = f"{offline}; session ended after 2.5 `telemetry_s` + 5 s, but 10 s at least"
    assert said in PAGE
    for telemetry_s in (0.5, 2.0, 4.0, 40.0):
        assert pace.offline_ns(telemetry_s) / 1e9 == max(5, 2.5 * telemetry_s)
        assert pace.silence_s(telemetry_s) == max(10, 2.5 * telemetry_s + 5)


def _deepest() -> int:
    """Levels of a message that is still taken: it is the first, its fields are the second."""
    ready = TO_STATION.encode(TO_STATION.decode(VECTORS["ready"].data))[1:]
    for arrays in range(20):
        try:
            TO_STATION.decode(b"\x83\xa1x" + b"\x91" * arrays + b"\x00" + ready)
        except MalformedPacket:
            return arrays + 1
    raise AssertionError("no message is too deep")


def test_the_domains_of_what_is_signed_are_those_of_the_code() -> None:
    names = re.compile(r'[`"](loa\.[a-z-]+\.[23])[`"]')
    folders = (ROOT / "transport" / "security", ROOT / "transport" / "recovery")
    sources = [path.read_text() for folder in folders for path in folder.rglob("*.py")]
    ours = {name for source in sources for name in names.findall(source)}
    # How the station makes the sessions' keys is its own business.
    assert set(names.findall(PAGE)) - {MEDIA_SUBPROTOCOL} == ours - {"loa.session-key.2"}
    assert f"`{SUBPROTOCOL}`" in PAGE
    assert f"`{MEDIA_SUBPROTOCOL}`" in PAGE


def test_deliveries_frames_and_priorities_are_those_of_the_code() -> None:
    found = table("delivery", "frames")
    shown = {name.strip("`"): (ms, d, when != "never") for name, ms, d, when in found}
    assert shown == {
        name: (f"{kind.frame_ms:g} ms", f"{kind.playout_delay_ms:g} ms", kind.may_multicast)
        for name, kind in DELIVERIES.items()
    }
    limits = {field.name: field.limits for field in RECORDS["StreamSpec"]}
    assert limits["frame_ms"] == ", ".join(f"{ms:g}" for ms in FRAME_MS)
    assert ", ".join(f"{p.value} {p.name.lower()}" for p in Priority) in PAGE


def test_the_volumes_are_those_that_are_heard() -> None:
    for volume, gain, db in table("volume", "gain"):
        assert gain_of_volume(int(volume)) == float(gain)
        assert db == (f"{20 * log10(float(gain)):.1f}" if float(gain) else "silent")


def test_the_change_over_is_the_one_that_is_heard() -> None:
    at = 85_075_660_813_920
    coming, leaving = Fader(), Fader()
    leaving.turn(1.0, at - 10_000)
    coming.turn(1.0, at)
    leaving.turn(0.0, at)
    for after, up, down in table("samples after a"):
        where = np.array([float(after)])
        assert f"{coming.gains(at, where)[0]:.4f}" == up
        assert f"{leaving.gains(at, where)[0]:.4f}" == down


def test_what_may_be_asked_of_the_api_stands_on_the_page() -> None:
    shown = {
        name.strip("`"): default for name, _, _, default in rows(between("### 6.1 ", "\n### "))
    }
    ours = {
        name: field.get_default(call_default_factory=True)
        for name, field in LiveBody.model_fields.items()
    }
    assert shown == {name: f"`{json.dumps(value)}`" for name, value in ours.items()}


# ---------------------------------------------------------------- hostile input
_COUNTED = re.compile(r'(?:MalformedPacket\(|dropped\[)"(\w+)"')


def _reasons() -> list[str]:
    return re.findall(r"`(\w+)`", between("## 9. Hostile input\n", "\n[THREAT-MODEL.md]"))


def _sources() -> Iterator[Path]:
    yield from (ROOT / "endpoints").rglob("*.py")
    yield from (ROOT / "transport" / "security").rglob("*.py")
    yield from (ROOT / "transport" / "recovery").rglob("*.py")
    for path in ("clock/exchange.py", "control/wire.py", "rtp/packet.py", "rtp/rtcp.py"):
        yield ROOT / "transport" / path
    yield ROOT / "transport" / "session" / "receiver.py"


def test_every_reason_for_which_we_drop_is_named() -> None:
    ours = {word for path in _sources() for word in _COUNTED.findall(path.read_text())}
    assert {"signature", "message_order", "first_byte", "opus"} <= ours
    assert ours <= set(_reasons())


def test_every_reason_that_is_named_is_one_of_ours() -> None:
    sources = "".join(path.read_text() for path in _sources())
    named = between("## 9. Hostile input\n", "\n[THREAT-MODEL.md]")
    words = {word for row in rows(named) for word in re.findall(r"`(\w+)`", row[2])}
    # By the names of enumerations.
    verdicts = {"dropped", "duplicate", "late", "overflow"}
    assert {word for word in words - verdicts if f'"{word}"' not in sources} == set()
