"""Our code writes and reads the vectors as they are meant, and drops what must be dropped."""

import json
from collections.abc import Callable
from dataclasses import asdict, is_dataclass, replace
from typing import Any, get_args, get_type_hints

import msgpack
import numpy as np
import pytest

from codec.opus import packet_samples
from codec.pcm import pcm16
from server.ingest import block_of
from tests.protocol.page import KNOWN, PUBLIC, SEEDS, VECTORS, Vector, between, of
from transport.clock.exchange import Exchange, ExchangeClient, answer
from transport.clock.timeline import media_sample
from transport.control.address import StationAddress
from transport.control.messages import (
    TO_SPEAKER,
    TO_STATION,
    Enrol,
    EpochSpec,
    Listen,
    StreamSpec,
)
from transport.control.wire import Vocabulary
from transport.discovery.records import from_txt, speaker_txt, station_txt
from transport.errors import MalformedPacket
from transport.recovery import erasure
from transport.recovery.along import ALONG_PAYLOAD_TYPES, Along
from transport.recovery.along import unpack as unpack_along
from transport.recovery.bundle import bundle, unbundle
from transport.recovery.copies import Copy, digest, pack, unpack
from transport.recovery.repair import repair_of
from transport.recovery.request import Wanted, open_request, request_session, seal_request
from transport.rtp.packet import Extension, RtpPacket, is_rtcp, repair_ssrc
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
from transport.security import stun
from transport.security.certificates import StationCertificate, StreamCertificate, bind_tls
from transport.security.enrolment import EnrolmentCode, check_enrolment_mac, enrolment_mac
from transport.security.handshake import Ear, Speech, check_proof, prove, recognise, split
from transport.security.keys import SigningKey, VerifyKey
from transport.security.sealing import StreamOpener
from transport.security.session_keys import check_gateway_token, gateway_token, open_time, seal_time
from transport.security.signature import PacketSigner
from transport.security.srtp import EpochSealer
from transport.session.receiver import Opened

VOCABULARIES: dict[str, Vocabulary[Any]] = {"to station": TO_STATION, "to loudspeaker": TO_SPEAKER}
_KEYS = {who: SigningKey(seed) for who, seed in SEEDS.items()}
_STATION = VerifyKey(PUBLIC["station"])
_TLS, _SECRET = KNOWN["SHA-256 of the TLS certificate"], KNOWN["secret of the code"]
_STATION_NONCE, _NONCE = KNOWN["Identity.nonce"], KNOWN["Hello.nonce"]
_SESSION, _SESSION_KEY = int.from_bytes(KNOWN["Welcome.session"]), KNOWN["Welcome.key"]
_GENERATION = int.from_bytes(KNOWN["generation"])
_NUMBER = int.from_bytes(KNOWN["number that comes next"])
_NOW = int.from_bytes(KNOWN["media sample of now"])
# 64 bits that are drawn at random are no number of JSON's.
_WIDE = {"session"}


def _plain(value: Any) -> Any:
    """As JSON has it: lists for tuples, hexadecimal for bytes."""
    if isinstance(value, dict):
        return {k: f"{v:016x}" if k in _WIDE else _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


def _exactly(found: Any, wanted: Any) -> None:
    """Equal, with 1 told from 1.0 and from true."""
    assert json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def _record(kind: Any, value: Any) -> Any:
    """What a meaning stands for, as a field of this type."""
    options = [option for option in get_args(kind) if option is not type(None)]
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{name: _wide(name, hints[name], item) for name, item in value.items()})
    if value is None or not options:
        return bytes.fromhex(value) if kind is bytes else value
    if isinstance(value, list):
        return tuple(_record(options[0], item) for item in value)
    return _record(options[0], value)


def _wide(name: str, kind: Any, value: Any) -> Any:
    return int(value, 16) if name in _WIDE else _record(kind, value)


def _message(vector: Vector, meaning: dict[str, Any]) -> Any:
    given = dict(meaning)
    return _record(VOCABULARIES[vector.direction].types[given.pop("type")], given)


def _meaning(message: Any) -> dict[str, Any]:
    return {"type": type(message).__name__, **_plain(asdict(message))}


def _stream() -> StreamSpec:
    listen: Listen = TO_SPEAKER.decode(VECTORS["listen"].data)
    return listen.streams[0]


# ---------------------------------------------------------------- messages
@of("both", "read", kind="message")
def test_our_code_reads_a_message_as_it_is_meant(vector: Vector) -> None:
    _exactly(_meaning(VOCABULARIES[vector.direction].decode(vector.data)), vector.meaning)


@of("both", kind="message")
def test_our_code_writes_a_message_as_these_bytes(vector: Vector) -> None:
    message = _message(vector, vector.meaning)
    assert VOCABULARIES[vector.direction].encode(message).hex() == vector.hex


def test_every_message_has_a_vector() -> None:
    shown = {
        v.meaning["type"]
        for v in VECTORS.values()
        if v.kind in {"message", "identity"} and v.use == "both"
    }
    assert shown == set(TO_STATION.types) | set(TO_SPEAKER.types)


# ---------------------------------------------------------------- who speaks
def test_our_certificates_are_these_bytes() -> None:
    root, station = _KEYS["root"], _KEYS["station"]
    vector = VECTORS["station_certificate"]
    mine = StationCertificate.issue(root, _GENERATION, PUBLIC["station"])
    assert mine == StationCertificate.parse(vector.data)
    assert (mine.serialise().hex(), _plain(asdict(mine))) == (vector.hex, vector.meaning)

    vector = VECTORS["stream_certificate"]
    serial, highest = vector.meaning["serial"], vector.meaning["highest_priority"]
    issued = StreamCertificate.issue(
        station, _GENERATION, serial, PUBLIC["stream"], highest, vector.meaning["test"]
    )
    assert issued == StreamCertificate.parse(vector.data, _STATION, _GENERATION)
    assert (issued.serialise().hex(), _plain(asdict(issued))) == (vector.hex, vector.meaning)


def test_the_public_keys_are_those_of_the_seeds() -> None:
    assert {who: key.public for who, key in _KEYS.items()} == PUBLIC


def test_our_code_says_who_it_is_in_these_bytes_and_recognises_them() -> None:
    vector = VECTORS["identity"]
    identity = TO_SPEAKER.decode(vector.data)
    _exactly(_meaning(identity), vector.meaning)
    assert identity.binding == bind_tls(_KEYS["station"], _TLS, _STATION_NONCE)
    assert identity.nonce == _STATION_NONCE
    found = recognise(identity, _TLS, PUBLIC["root"], _GENERATION)
    assert found.serialise() == VECTORS["station_certificate"].data
    assert TO_SPEAKER.encode(identity) == vector.data


@of("both", kind="frame")
def test_our_code_frames_what_is_said_in_these_bytes(vector: Vector) -> None:
    message = _message(vector, vector.meaning["message"])
    body = VOCABULARIES[vector.direction].encode(message)
    assert _frame(vector, body).hex() == vector.hex
    assert _hear(vector) == body


def _frame(vector: Vector, body: bytes) -> bytes:
    if vector.direction == "to station":
        return prove(_KEYS["loudspeaker"], _STATION_NONCE, _TLS, body)
    speech = Speech(_KEYS["station"], PUBLIC["loudspeaker"], _NONCE, _STATION_NONCE)
    said = [speech.say(body) for _ in range(vector.meaning["number"])]
    return said[-1]


def _hear(vector: Vector) -> bytes:
    if vector.direction == "to station":
        signature, body = split(vector.data)
        said = TO_STATION.decode(body)
        check_proof(said.key, signature, _STATION_NONCE, _TLS, body)
        if isinstance(said, Enrol):
            check_enrolment_mac(_code().key, said.mac, _STATION_NONCE, _TLS, said.key)
        return body
    ear = Ear(_STATION, PUBLIC["loudspeaker"], _NONCE, _STATION_NONCE)
    speech = Speech(_KEYS["station"], PUBLIC["loudspeaker"], _NONCE, _STATION_NONCE)
    for _ in range(_NUMBER - 1):
        ear.hear(speech.say(b"what came before"))
    return ear.hear(vector.data)


def _code() -> EnrolmentCode:
    meaning = VECTORS["code"].meaning
    server = StationAddress.parse(meaning["server"])
    return EnrolmentCode(server, bytes.fromhex(meaning["root_fingerprint"]), _SECRET)


@of("both", "read", kind="code")
def test_our_code_reads_and_writes_a_code_for_people(vector: Vector) -> None:
    code = EnrolmentCode.parse(vector.data.decode())
    assert code == _code()
    assert (code.number.hex(), code.key.hex()) == (vector.meaning["number"], vector.meaning["key"])
    assert code.text == VECTORS["code"].data.decode()
    assert f"\n    {code.text}\n" in between("### 2.5 Enrolment\n", "\n### ")
    mac = enrolment_mac(code.key, _STATION_NONCE, _TLS, PUBLIC["loudspeaker"])
    assert mac.hex() == VECTORS["enrol"].meaning["mac"]


# ---------------------------------------------------------------- by the session's key
def test_our_code_asks_for_the_time_and_answers_in_these_bytes() -> None:
    asked, told = VECTORS["time_request"], VECTORS["time_reply"]
    nonce = int(asked.meaning["transmit"], 16)
    client = ExchangeClient(lambda: nonce)
    assert client.request() == (nonce, asked.data)
    set_ns, t2, t3 = (int(told.meaning[name]) for name in ("clock_set_ns", "t2_ns", "t3_ns"))
    assert answer(asked.data, t2, t3, set_ns).hex() == told.hex
    client.sent(nonce, 1_000)
    assert client.receive(told.data, 2_000_000) == Exchange(1_000, t2, t3, 2_000_000, set_ns)


@pytest.mark.parametrize("name", ["time_request", "time_reply"])
def test_our_code_authenticates_the_time_in_these_bytes(name: str) -> None:
    plain, sealed = VECTORS[name], VECTORS[f"{name}_sealed"]
    assert seal_time(plain.data, _SESSION, _SESSION_KEY).hex() == sealed.hex
    assert open_time(sealed.data, _SESSION, _SESSION_KEY) == plain.data


@of("both", kind="stun")
def test_our_code_writes_and_reads_stun_as_these_bytes(vector: Vector) -> None:
    meaning = vector.meaning
    transaction, key = bytes.fromhex(meaning["transaction"]), _SESSION_KEY
    said = meaning.get("nonce")
    nonce = said.encode() if said else None
    if meaning["type"] == "request":
        assert stun.request(transaction, _SESSION, key, nonce).hex() == vector.hex
        found = stun.parse_request(vector.data)
        stun.check_request(found, key)
        assert (found.transaction, found.session, found.nonce) == (transaction, _SESSION, nonce)
        return
    if nonce is not None:
        mine, wanted = stun.stale(transaction, nonce, key), stun.Challenge(nonce)
        assert stun.parse_response(vector.data, transaction, key) == wanted
    else:
        address, port = meaning["address"], meaning["port"]
        mine = stun.success(transaction, address, port, key)
        assert stun.parse_response(vector.data, transaction, key) == stun.Mapped(address, port)
    assert mine.hex() == vector.hex


def test_our_token_is_this_text() -> None:
    assert gateway_token(_SESSION, _SESSION_KEY) == VECTORS["token"].data.decode()


# ---------------------------------------------------------------- RTP and RTCP
@of("both", "read", kind="rtp")
def test_our_code_reads_rtp_as_it_is_meant(vector: Vector) -> None:
    meaning = vector.meaning
    packet = RtpPacket.parse(vector.data)
    found = asdict(packet) | {
        "version": 2,
        "timestamp_offset": meaning["timestamp_offset"],
        "media_sample": media_sample(packet.timestamp, meaning["timestamp_offset"], _NOW),
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


@of("both", kind="signed")
def test_our_code_signs_a_packet_in_these_bytes(vector: Vector) -> None:
    meaning = vector.meaning
    clear = bytes.fromhex(meaning["clear"])
    signer = PacketSigner(_KEYS["stream"], VECTORS["stream_certificate"].meaning["serial"])
    if is_rtcp(clear):
        ssrc = int.from_bytes(clear[4:8])
        assert signer.sign_report(clear, ssrc, meaning["epoch"]).hex() == vector.hex
    else:
        packet = RtpPacket.parse(clear)
        start = media_sample(packet.timestamp, _stream().timestamp_offset, _NOW)
        signed = signer.sign(packet, meaning["epoch"], start)
        assert isinstance(signed.extension, Extension)
        assert signed.serialise().hex() == vector.hex


@of("both", kind="sealed")
def test_our_code_seals_a_packet_in_these_bytes_and_opens_them(vector: Vector) -> None:
    signed, number = bytes.fromhex(vector.meaning["signed"]), vector.meaning["epoch"]
    epoch, opener = _epoch(number), StreamOpener(_stream(), _STATION, _GENERATION)
    sealer = EpochSealer(epoch.ssrc, epoch.key)
    if is_rtcp(signed):
        assert sealer.seal_report(signed).hex() == vector.hex
        assert opener.open_report(vector.data, _NOW) == VECTORS["rtcp_bye"].data
    else:
        assert sealer.seal(signed).hex() == vector.hex
        packet, start = RtpPacket.parse(signed), VECTORS["rtp"].meaning["media_sample"]
        along: Along = ()
        if packet.payload_type in ALONG_PAYLOAD_TYPES:
            primary, along = unpack_along(packet.payload_type, packet.payload)
            start += 480 * (packet.sequence - RtpPacket.parse(VECTORS["rtp"].data).sequence)
            packet = replace(packet, payload=primary)
        assert opener.open(vector.data, _NOW) == Opened(packet, number, start, along)


def _epoch(number: int) -> EpochSpec:
    seal = _stream().seal
    assert seal is not None
    return next(epoch for epoch in seal.epochs if epoch.number == number)


# ---------------------------------------------------------------- what is lost comes again
@of("both", kind="copies")
def test_our_code_packs_copies_in_these_bytes_and_unpacks_them(vector: Vector) -> None:
    meaning = vector.meaning
    frame = bytes.fromhex(meaning["frame"])
    copies = tuple(Copy(c["offset"], bytes.fromhex(c["payload"])) for c in meaning["copies"])
    assert pack(frame, copies).hex() == vector.hex
    assert unpack(vector.data) == (frame, copies)
    assert digest(vector.data, frame).hex() == meaning["digest"]


@of("both", kind="symbols")
def test_our_code_packs_symbols_in_these_bytes_and_unpacks_them(vector: Vector) -> None:
    meaning = vector.meaning
    frame = bytes.fromhex(meaning["frame"])
    data = tuple(bytes.fromhex(symbol) for symbol in meaning["symbols"])
    places, offset, sent, first = (meaning[n] for n in ("places", "offset", "sent", "first"))
    symbols = erasure.Symbols(places, offset, sent, first, data)
    assert erasure.pack(frame, symbols).hex() == vector.hex
    assert erasure.unpack(vector.data) == (frame, symbols)
    block = [told and bytes.fromhex(told) for told in meaning["block"]]
    assert erasure.encode(block, symbols.first + len(data))[symbols.first :] == data
    assert digest(vector.data, frame).hex() == meaning["digest"]


@pytest.mark.parametrize(
    ("name", "of_name"),
    [("repair", "rtp"), ("repair_copies", "rtp_copies"), ("repair_symbols", "rtp_symbols")],
)
def test_our_code_repairs_a_packet_in_these_bytes_and_opens_them(name: str, of_name: str) -> None:
    vector, first = VECTORS[name], RtpPacket.parse(VECTORS[f"{of_name}_signed"].data)
    meaning = vector.meaning
    epoch = _epoch(meaning["epoch"])
    sealer = EpochSealer(repair_ssrc(epoch.ssrc), epoch.key)
    assert sealer.seal(repair_of(first).serialise()).hex() == vector.hex
    packet = replace(first, payload=bytes.fromhex(meaning["frame"]))
    start = meaning["media_sample"]
    opener = StreamOpener(_stream(), _STATION, _GENERATION)
    assert opener.open(vector.data, _NOW) == Opened(packet, epoch.number, start, (), repaired=True)
    assert (first.payload_type | first.marker << 7) == meaning["second_octet"]
    assert first.sequence == meaning["sequence"]


@of("both", kind="bundle")
def test_our_code_bundles_in_these_bytes(vector: Vector) -> None:
    repairs = [bytes.fromhex(repair) for repair in vector.meaning]
    assert bundle(repairs) == [vector.data]
    assert unbundle(vector.data) == tuple(repairs)


@of("both", kind="request")
def test_our_code_asks_in_these_bytes_and_understands_them(vector: Vector) -> None:
    said = vector.meaning["wanted"]
    wanted = tuple(Wanted(one["ssrc"], tuple(one["sequences"])) for one in said)
    assert seal_request(wanted, _SESSION, _SESSION_KEY).hex() == vector.hex
    assert request_session(vector.data) == _SESSION
    assert open_request(vector.data, _SESSION, _SESSION_KEY) == wanted


# ---------------------------------------------------------------- a source, players, being found
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
    assert described.split() == between("```sdp\n", "```").split()


@of("both", kind="txt")
def test_our_code_reads_and_writes_what_is_said_by_mdns(vector: Vector) -> None:
    meaning = vector.meaning
    assert from_txt(vector.data) == meaning
    if "station" in meaning:
        assert speaker_txt(meaning["name"], meaning["station"]).hex() == vector.hex
    else:
        assert station_txt(meaning["name"], meaning["root"]).hex() == vector.hex


# ---------------------------------------------------------------- what must be dropped
def _read_certificate(data: bytes) -> None:
    if len(data) == len(VECTORS["station_certificate"].data):
        StationCertificate.parse(data)
    else:
        StreamCertificate.parse(data, _STATION, _GENERATION)


def _read_listen(data: bytes) -> None:
    for stream in TO_SPEAKER.decode(data).streams:
        StreamOpener(stream, _STATION, _GENERATION)


def _read_sealed(data: bytes) -> None:
    opener = StreamOpener(_stream(), _STATION, _GENERATION)
    (opener.open_report if is_rtcp(data) else opener.open)(data, _NOW)


def _read_time(data: bytes) -> None:
    sealed = VECTORS["time_reply_sealed"].data
    plain = open_time(data, _SESSION, _SESSION_KEY) if len(data) == len(sealed) else data
    ExchangeClient(lambda: 0).receive(plain, 0)


_READERS: dict[str, Callable[[bytes], object]] = {
    "bundle": unbundle,
    "certificate": _read_certificate,
    "copies": unpack,
    "identity": lambda data: recognise(TO_SPEAKER.decode(data), _TLS, PUBLIC["root"], _GENERATION),
    "listen": _read_listen,
    "repair": _read_sealed,
    "request": lambda data: open_request(data, _SESSION, _SESSION_KEY),
    "rtcp": parse_compound,
    "rtp": RtpPacket.parse,
    "sealed": _read_sealed,
    "symbols": erasure.unpack,
    "stun": lambda data: stun.parse_response(data, data[8:20], _SESSION_KEY),
    "time": _read_time,
    # Of no session that this secret would make.
    "token": lambda data: check_gateway_token(data.decode(), bytes(32)),
}


def _drop(vector: Vector) -> None:
    match vector.kind:
        case "message":
            VOCABULARIES[vector.direction].decode(vector.data)
        case "frame":
            _hear(vector)
        case kind:
            _READERS[kind](vector.data)


@of("refuse")
def test_our_code_drops_what_must_be_dropped_for_the_stated_reason(vector: Vector) -> None:
    with pytest.raises(MalformedPacket) as dropped:
        _drop(vector)
    assert {"reason": dropped.value.reason} == vector.meaning
