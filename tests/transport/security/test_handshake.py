"""The proofs of a control session: whoever recorded one has gained nothing."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.control.messages import VERSION, Identity
from transport.control.wire import MAX_MESSAGE_BYTES
from transport.errors import MalformedPacket
from transport.security.certificates import StationCertificate, bind_tls, tls_hash
from transport.security.handshake import (
    MAX_FRAME_BYTES,
    Ear,
    Speech,
    TrustedStation,
    check_proof,
    prove,
    recognise,
    split,
)
from transport.security.keys import BadKey, SigningKey, VerifyKey, fingerprint

ROOT, STATION, ENDPOINT, STRANGER = (SigningKey(bytes((n,)) * 32) for n in (1, 2, 3, 4))
STATION_NONCE, ENDPOINT_NONCE = b"s" * 32, b"e" * 32
HASH = tls_hash(b"the certificate of this TLS session")
BODY = b"a word of the vocabulary"


def flips(data: bytes) -> Iterator[bytes]:
    number = int.from_bytes(data)
    return ((number ^ 1 << bit).to_bytes(len(data)) for bit in range(8 * len(data)))


def refused(reason: str, check: Callable[..., object], *arguments: object) -> None:
    with pytest.raises(MalformedPacket) as refusal:
        check(*arguments)
    assert refusal.value.reason == reason


# ------------------------------------------------------------------ the loudspeaker's first word
def admitted(
    frame: bytes,
    public: bytes = ENDPOINT.public,
    nonce: bytes = STATION_NONCE,
    tls: bytes = HASH,
) -> bytes:
    signature, body = split(frame)
    check_proof(public, signature, nonce, tls, body)
    return body


@given(st.binary(min_size=1, max_size=200))
def test_a_first_word_arrives_with_its_proof(body: bytes) -> None:
    assert admitted(prove(ENDPOINT, STATION_NONCE, HASH, body)) == body


def test_each_flipped_bit_of_a_first_word_is_refused() -> None:
    for wrong in flips(prove(ENDPOINT, STATION_NONCE, HASH, BODY)):
        refused("signature", admitted, wrong)


def test_a_first_word_is_good_for_no_other_key_session_or_certificate() -> None:
    frame = prove(ENDPOINT, STATION_NONCE, HASH, BODY)
    refused("signature", lambda: admitted(frame, public=STRANGER.public))
    refused("signature", lambda: admitted(frame, nonce=b"t" * 32))
    refused("signature", lambda: admitted(frame, tls=tls_hash(b"a man in the middle")))
    refused("signature", lambda: admitted(frame, nonce=HASH, tls=STATION_NONCE))


@given(st.binary(max_size=40), st.binary(max_size=100))
def test_any_bytes_for_a_first_word_or_its_key_are_refused(public: bytes, frame: bytes) -> None:
    with pytest.raises(MalformedPacket) as refusal:
        admitted(frame, public=public)
    assert refusal.value.reason == ("message_size" if len(frame) <= 64 else "signature")


def test_a_key_for_which_anybody_could_sign_proves_nothing() -> None:
    one = b"\1" + bytes(31)
    refused("signature", lambda: admitted(one + bytes(32) + BODY, public=one))


def test_a_first_word_is_of_bounded_size() -> None:
    longest = prove(ENDPOINT, STATION_NONCE, HASH, bytes(MAX_MESSAGE_BYTES))
    assert len(admitted(longest)) == MAX_MESSAGE_BYTES
    refused("message_size", lambda: split(longest + b"\0"))
    for size in (0, MAX_MESSAGE_BYTES + 1):
        with pytest.raises(ValueError, match="a message has"):
            prove(ENDPOINT, STATION_NONCE, HASH, bytes(size))


# ------------------------------------------------------------------ what the station says then
def speech(endpoint: bytes = ENDPOINT.public, station: SigningKey = STATION) -> Speech:
    return Speech(station, endpoint, ENDPOINT_NONCE, STATION_NONCE)


def ear(
    endpoint: bytes = ENDPOINT.public,
    endpoint_nonce: bytes = ENDPOINT_NONCE,
    station_nonce: bytes = STATION_NONCE,
) -> Ear:
    return Ear(VerifyKey(STATION.public), endpoint, endpoint_nonce, station_nonce)


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5))
def test_what_the_station_says_is_heard_in_order(bodies: list[bytes]) -> None:
    station, loudspeaker = speech(), ear()
    frames = [station.say(body) for body in bodies]
    assert [int.from_bytes(frame[:8]) for frame in frames] == list(range(1, len(bodies) + 1))
    assert [loudspeaker.hear(frame) for frame in frames] == bodies


def test_each_flipped_bit_of_a_frame_is_refused_and_the_true_one_heard_after_it() -> None:
    loudspeaker, frame = ear(), speech().say(BODY)
    for at, wrong in enumerate(flips(frame)):
        reason = "message_number" if at >= 8 * (len(frame) - 8) else "signature"
        refused(reason, loudspeaker.hear, wrong)
    assert loudspeaker.hear(frame) == BODY


def test_a_frame_that_was_heard_is_refused_again_for_ever() -> None:
    station, loudspeaker = speech(), ear()
    first = station.say(BODY)
    loudspeaker.hear(first)
    refused("message_number", lambda: loudspeaker.hear(first))
    loudspeaker.hear(station.say(BODY))
    refused("message_number", lambda: loudspeaker.hear(first))


def test_a_frame_that_was_held_back_is_missed() -> None:
    station, loudspeaker = speech(), ear()
    station.say(BODY)
    refused("message_number", lambda: loudspeaker.hear(station.say(BODY)))


def test_a_number_cannot_be_put_on_another_frame() -> None:
    station, loudspeaker = speech(), ear()
    first, second = station.say(BODY), station.say(BODY)
    refused("signature", lambda: loudspeaker.hear(first[:8] + second[8:]))


def test_a_frame_is_good_for_no_other_loudspeaker_and_no_other_session() -> None:
    frame = speech().say(BODY)
    refused("signature", lambda: ear(endpoint=STRANGER.public).hear(frame))
    refused("signature", lambda: ear(endpoint_nonce=b"f" * 32).hear(frame))
    refused("signature", lambda: ear(station_nonce=b"t" * 32).hear(frame))
    refused("signature", lambda: ear(STATION_NONCE, ENDPOINT_NONCE).hear(frame))


def test_a_frame_of_somebody_elses_is_refused() -> None:
    refused("signature", lambda: ear().hear(speech(station=STRANGER).say(BODY)))
    refused("signature", lambda: ear().hear(speech(station=ENDPOINT).say(BODY)))


@given(st.binary(max_size=120))
def test_any_bytes_for_a_frame_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedPacket):
        ear().hear(data)
    with pytest.raises(MalformedPacket):
        ear().hear((1).to_bytes(8) + data)


def test_a_frame_is_of_bounded_size() -> None:
    longest = speech().say(bytes(MAX_MESSAGE_BYTES))
    assert len(longest) == MAX_FRAME_BYTES
    assert len(ear().hear(longest)) == MAX_MESSAGE_BYTES
    refused("message_size", lambda: ear().hear(longest + b"\0"))
    refused("message_size", lambda: ear().hear(longest[:72]))


def test_a_message_that_is_too_long_takes_no_number() -> None:
    station = speech()
    with pytest.raises(ValueError, match="a message has"):
        station.say(bytes(MAX_MESSAGE_BYTES + 1))
    assert ear().hear(station.say(BODY)) == BODY


# ------------------------------------------------------------------ who the station is
def identity(root: SigningKey = ROOT, generation: int = 7, tls: bytes = HASH) -> Identity:
    certificate = StationCertificate.issue(root, generation, STATION.public).serialise()
    return Identity(VERSION, certificate, bind_tls(STATION, tls, STATION_NONCE), STATION_NONCE)


@pytest.mark.parametrize("trusted", [ROOT.public, fingerprint(ROOT.public)])
@pytest.mark.parametrize("least", [0, 6, 7])
def test_a_station_is_recognised_by_its_root(trusted: bytes, least: int) -> None:
    certificate = recognise(identity(), HASH, trusted, least)
    assert (certificate.root, certificate.generation) == (ROOT.public, 7)
    assert certificate.public == STATION.public


@pytest.mark.parametrize("trusted", [STRANGER.public, fingerprint(STRANGER.public)])
def test_a_station_of_another_root_is_refused(trusted: bytes) -> None:
    refused("root", lambda: recognise(identity(), HASH, trusted, 0))


def test_a_station_key_that_was_replaced_is_refused() -> None:
    refused("generation", lambda: recognise(identity(), HASH, ROOT.public, 8))


def test_a_station_that_shows_somebody_elses_tls_is_refused() -> None:
    shown = tls_hash(b"a man in the middle")
    refused("tls_binding", lambda: recognise(identity(), shown, ROOT.public, 0))


def test_an_identity_that_was_recorded_is_refused_under_another_nonce() -> None:
    replayed = replace(identity(), nonce=b"t" * 32)
    refused("tls_binding", lambda: recognise(replayed, HASH, ROOT.public, 0))


def test_each_flipped_bit_of_an_identity_is_refused() -> None:
    shown = identity()
    for field, reason in (
        ("certificate", "certificate"),
        ("binding", "tls_binding"),
        ("nonce", "tls_binding"),
    ):
        for wrong in flips(getattr(shown, field)):
            changed = replace(shown, **{field: wrong})  # type: ignore[arg-type]
            refused(reason, recognise, changed, HASH, ROOT.public, 0)


@given(st.binary(max_size=140), st.binary(max_size=70))
def test_any_bytes_for_certificate_and_binding_are_refused(
    certificate: bytes, binding: bytes
) -> None:
    shown = Identity(VERSION, certificate, binding, STATION_NONCE)
    refused("certificate", lambda: recognise(shown, HASH, ROOT.public, 0))
    shown = replace(identity(), binding=binding)
    refused("tls_binding", lambda: recognise(shown, HASH, ROOT.public, 0))


@pytest.mark.parametrize("length", [0, 15, 17, 31, 33])
def test_a_root_is_trusted_whole_or_not_at_all(length: int) -> None:
    """A short prefix would be found by trying."""
    with pytest.raises(BadKey, match="fingerprint of 16"):
        recognise(identity(), HASH, ROOT.public.ljust(64)[:length], 0)


def test_what_a_loudspeaker_keeps_of_its_station_is_a_key_and_a_generation() -> None:
    assert TrustedStation(ROOT.public, 0).root == ROOT.public
    for root, generation in ((bytes(31), 0), (ROOT.public, -1), (ROOT.public, 1 << 64)):
        with pytest.raises(BadKey):
            TrustedStation(root, generation)
