"""Certificates: only the key above makes them, and no bit of them may change."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import MalformedPacket
from transport.security.certificates import (
    STATION_CERTIFICATE_BYTES,
    STREAM_CERTIFICATE_BYTES,
    StationCertificate,
    StreamCertificate,
    bind_tls,
    check_tls,
    tls_hash,
)
from transport.security.handshake import Ear, Speech, check_proof, prove, split
from transport.security.keys import BadKey, SigningKey, VerifyKey

ROOT, STATION, STREAM = (SigningKey(bytes((n,)) * 32) for n in (1, 2, 3))
STATION_SAYS = VerifyKey(STATION.public)
NUMBERS = st.integers(0, 2**64 - 1)
HASH, NONCE = tls_hash(b"der"), bytes(range(32))


def flips(data: bytes) -> Iterator[bytes]:
    number = int.from_bytes(data)
    return ((number ^ 1 << bit).to_bytes(len(data)) for bit in range(8 * len(data)))


def stream_certificate(station: SigningKey = STATION, generation: int = 7) -> bytes:
    return StreamCertificate.issue(station, generation, 1, STREAM.public, 4, False).serialise()


def refused(reason: str, check: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(MalformedPacket) as refusal:
        check(*arguments)
    assert refusal.value.reason == reason


# ------------------------------------------------------------------ the station's
@given(NUMBERS)
def test_a_stations_certificate_survives_the_wire(generation: int) -> None:
    certificate = StationCertificate.issue(ROOT, generation, STATION.public)
    data = certificate.serialise()
    assert len(data) == STATION_CERTIFICATE_BYTES == 136
    assert data[:72] == ROOT.public + generation.to_bytes(8) + STATION.public
    assert StationCertificate.parse(data) == certificate
    assert (certificate.root, certificate.public) == (ROOT.public, STATION.public)


def test_each_flipped_bit_of_a_stations_certificate_is_refused() -> None:
    for wrong in flips(StationCertificate.issue(ROOT, 7, STATION.public).serialise()):
        refused("certificate", StationCertificate.parse, wrong)


@given(st.binary(max_size=140) | st.binary(min_size=136, max_size=136))
def test_any_bytes_for_a_stations_certificate_are_refused(data: bytes) -> None:
    refused("certificate", lambda: StationCertificate.parse(data))


def test_a_root_for_which_anybody_could_sign_certifies_nothing() -> None:
    """With this root of order 1, R = 1 and S = 0 would verify for every message."""
    one = b"\1" + bytes(31)
    data = one + bytes(8) + STATION.public + one + bytes(32)
    refused("certificate", lambda: StationCertificate.parse(data))


# ------------------------------------------------------------------ a stream's
@given(NUMBERS, NUMBERS, st.integers(1, 5), st.booleans())
def test_a_streams_certificate_survives_the_wire(
    generation: int, serial: int, highest_priority: int, test: bool
) -> None:
    certificate = StreamCertificate.issue(
        STATION, generation, serial, STREAM.public, highest_priority, test
    )
    data = certificate.serialise()
    assert len(data) == STREAM_CERTIFICATE_BYTES == 114
    said = StreamCertificate.parse(data, STATION_SAYS, generation)
    assert said == certificate
    assert (said.serial, said.highest_priority, said.test) == (serial, highest_priority, test)


def test_each_flipped_bit_of_a_streams_certificate_is_refused() -> None:
    for wrong in flips(stream_certificate()):
        refused("certificate", StreamCertificate.parse, wrong, STATION_SAYS, 7)


@given(st.binary(max_size=120) | st.binary(min_size=114, max_size=114))
def test_any_bytes_for_a_streams_certificate_are_refused(data: bytes) -> None:
    refused("certificate", lambda: StreamCertificate.parse(data, STATION_SAYS, 7))


@pytest.mark.parametrize("issuer", [ROOT, STREAM])
def test_neither_root_nor_stream_can_certify_a_stream(issuer: SigningKey) -> None:
    data = stream_certificate(issuer)
    refused("certificate", lambda: StreamCertificate.parse(data, STATION_SAYS, 7))


@pytest.mark.parametrize("generation", [6, 8])
def test_a_streams_certificate_of_another_generation_is_refused(generation: int) -> None:
    data = stream_certificate(generation=generation)
    refused("certificate", lambda: StreamCertificate.parse(data, STATION_SAYS, 7))


@pytest.mark.parametrize("change", [{"highest_priority": 5}, {"test": False}, {"serial": 2}])
def test_a_stream_cannot_raise_what_its_certificate_allows(change: dict[str, int]) -> None:
    certificate = StreamCertificate.issue(STATION, 7, 1, STREAM.public, 3, True)
    data = replace(certificate, **change).serialise()  # type: ignore[arg-type]
    refused("certificate", lambda: StreamCertificate.parse(data, STATION_SAYS, 7))


# ------------------------------------------------------------------ our own misuse
@pytest.mark.parametrize(
    "issue",
    [
        lambda: StationCertificate.issue(ROOT, -1, STATION.public),
        lambda: StationCertificate.issue(ROOT, 1 << 64, STATION.public),
        lambda: StationCertificate.issue(ROOT, 1, bytes(32)),
        lambda: StationCertificate.issue(ROOT, 1, b"short"),
        lambda: StreamCertificate.issue(STATION, 1, 1 << 64, STREAM.public, 3, False),
        lambda: StreamCertificate.issue(STATION, 1, 1, bytes(31), 3, False),
        lambda: StationCertificate(bytes(31), 1, STATION.public, bytes(64)),
        lambda: StationCertificate(ROOT.public, 1, STATION.public, bytes(63)),
    ],
)
def test_no_certificate_is_made_of_what_is_no_key_or_no_number(
    issue: Callable[[], object],
) -> None:
    with pytest.raises(BadKey):
        issue()


@pytest.mark.parametrize("priority", [0, 6, 256])
def test_no_certificate_is_made_of_a_priority_there_is_not(priority: int) -> None:
    with pytest.raises(ValueError, match="Priority"):
        StreamCertificate.issue(STATION, 1, 1, STREAM.public, priority, False)


# ------------------------------------------------------------------ TLS
def test_the_stations_word_for_its_tls_holds_for_that_certificate_and_nonce() -> None:
    signature = bind_tls(STATION, HASH, NONCE)
    check_tls(STATION_SAYS, signature, HASH, NONCE)
    for key, hash_, nonce in (
        (STATION_SAYS, tls_hash(b"other"), NONCE),
        (STATION_SAYS, HASH, bytes(32)),
        (STATION_SAYS, NONCE, HASH),
        (VerifyKey(STREAM.public), HASH, NONCE),
    ):
        refused(
            "tls_binding",
            check_tls,
            key,
            signature,
            hash_,
            nonce,
        )


def test_each_flipped_bit_of_the_stations_word_for_its_tls_is_refused() -> None:
    for wrong in flips(bind_tls(STATION, HASH, NONCE)):
        refused("tls_binding", check_tls, STATION_SAYS, wrong, HASH, NONCE)


@given(st.binary(max_size=70))
def test_any_bytes_for_the_stations_word_are_refused(data: bytes) -> None:
    refused("tls_binding", lambda: check_tls(STATION_SAYS, data, HASH, NONCE))


# ------------------------------------------------------------------ one key, many purposes
def test_a_signature_made_for_one_purpose_is_good_for_no_other() -> None:
    """All made by one key over parts that could be taken for each other's."""
    key, says = STATION, STATION_SAYS
    body = stream_certificate()[:50]
    station = StationCertificate.issue(key, 7, STREAM.public)
    signatures = {
        "station": station.signature,
        "stream": stream_certificate()[50:],
        "tls": bind_tls(key, HASH, NONCE),
        "proof": split(prove(key, HASH, NONCE, body))[0],
        "speech": Speech(key, STREAM.public, HASH, NONCE).say(body)[8:72],
    }
    checks: dict[str, Callable[[bytes], object]] = {
        "station": lambda s: StationCertificate.parse(replace(station, signature=s).serialise()),
        "stream": lambda s: StreamCertificate.parse(body + s, says, 7),
        "tls": lambda s: check_tls(says, s, HASH, NONCE),
        "proof": lambda s: check_proof(key.public, s, HASH, NONCE, body),
        "speech": lambda s: Ear(says, STREAM.public, HASH, NONCE).hear((1).to_bytes(8) + s + body),
    }
    for purpose, check in checks.items():
        check(signatures[purpose])
        for other in signatures.keys() - {purpose}:
            with pytest.raises(MalformedPacket):
                check(signatures[other])
