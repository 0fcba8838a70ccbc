from dataclasses import MISSING, dataclass, fields
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.format import FRAME_MS
from transport.control.messages import (
    MAX_EPOCHS,
    MAX_PLAYOUT_DELAY_MS,
    TO_SPEAKER,
    TO_STATION,
    Adjust,
    Command,
    Done,
    Enrol,
    Enrolled,
    EpochSpec,
    Hello,
    Identity,
    Listen,
    Pending,
    Ready,
    Refused,
    SealSpec,
    StreamSpec,
    Telemetry,
    Welcome,
    spelt_alike,
)
from transport.control.wire import MAX_MESSAGE_BYTES, Vocabulary, vocabulary
from transport.errors import MalformedPacket

REASONS = {
    "message_size",
    "message_encoding",
    "message_shape",
    "message_depth",
    "message_type",
    "message_field",
    "message_value",
}

# ------------------------------------------------------------------ every message there is
U32, PORTS = st.integers(0, 2**32 - 1), st.integers(1, 65_534)
COUNTS = st.integers(0, 2**63)
NAMES = st.from_regex(r"[\w][\w .:-]{0,63}", fullmatch=True).filter(
    lambda name: name != "all" and name == spelt_alike(name).strip()
)
GROUPS = st.builds(
    lambda a, b: {"group": f"239.{a >> 8}.{a & 255}.1", "port": b}, st.integers(0, 65_535), PORTS
)
EPOCHS = st.builds(EpochSpec, U32, U32, st.binary(min_size=28, max_size=28))
SEALS = st.builds(
    SealSpec,
    st.binary(max_size=200),
    st.lists(
        EPOCHS,
        min_size=1,
        max_size=MAX_EPOCHS,
        unique_by=(lambda epoch: epoch.number, lambda epoch: epoch.ssrc >> 1),
    ).map(tuple),
)
SPECS = st.builds(
    lambda where, **rest: StreamSpec(**rest, **where),
    where=st.just({}) | GROUPS,
    programme=st.text(max_size=20),
    order=st.integers(-(2**63), 2**63),
    ssrc=U32,
    payload_type=st.integers(0, 63) | st.integers(96, 127),
    timestamp_offset=U32,
    frame_ms=st.sampled_from(FRAME_MS),
    inband_fec=st.booleans(),
    playout_delay_ms=st.floats(0, MAX_PLAYOUT_DELAY_MS, exclude_min=True),
    priority=st.integers(1, 5),
    test=st.booleans(),
    seal=st.none() | SEALS,
)
KEYS = st.binary(min_size=32, max_size=32)
SHOWN = st.text(max_size=200).filter(str.isprintable)
NETWORKS = st.sampled_from([(False, "wan"), (False, "saver"), (True, "lan"), (False, "lan")])
HELLOS = st.builds(
    lambda kind, **rest: Hello(multicast=kind[0], delivery=kind[1], **rest),
    NETWORKS,
    version=st.integers(-1, 9),
    name=NAMES,
    key=KEYS,
    nonce=KEYS,
)
ENROLS = st.builds(
    lambda kind, **rest: Enrol(multicast=kind[0], delivery=kind[1], **rest),
    NETWORKS,
    version=st.integers(-1, 9),
    name=NAMES,
    key=KEYS,
    nonce=KEYS,
    code=st.binary(min_size=4, max_size=4),
    mac=KEYS,
)
TELEMETRIES = st.builds(
    Telemetry,
    st.sampled_from(["syncing", "idle", "playing"]),
    st.floats(-200, 200),
    *[st.floats(0, 1e9)] * 2,
    *[COUNTS] * 4,
    st.floats(0, 1e9),
    COUNTS,
    hearing=SHOWN,
    volume=st.integers(0, 100),
    muted=st.booleans(),
    fault=SHOWN,
    way=st.sampled_from(["none", "udp", "gateway", "multicast"]),
    authenticated=st.booleans(),
)
READIES = st.builds(Ready, st.integers(-(2**63), 2**64 - 1))
WELCOMES = st.builds(
    Welcome,
    st.integers(0, 9),
    st.integers(1, 2**63 - 1),
    st.integers(0, 2**64 - 1),
    KEYS,
    *[PORTS] * 3,
)
IDENTITIES = st.builds(
    Identity, st.integers(0, 9), st.binary(max_size=200), st.binary(max_size=80), KEYS
)
PENDINGS = st.builds(Pending, st.text(max_size=80))
ENROLLEDS = st.builds(Enrolled, NAMES)
REFUSALS = st.builds(Refused, st.text(max_size=80), st.booleans())
LISTENS = st.builds(
    Listen,
    st.integers(0, 2**32),
    st.lists(SPECS, max_size=5, unique_by=(lambda spec: spec.ssrc, lambda spec: spec.ssrcs))
    .filter(
        lambda specs: len({n for s in specs for n in s.ssrcs}) == sum(len(s.ssrcs) for s in specs)
    )
    .map(tuple),
)

DONES = st.builds(Done, st.integers(0, 2**32), SHOWN)
ADJUSTS = st.builds(Adjust, st.integers(0, 100), st.booleans())
ACTIONS = st.sampled_from(["tone", "identify", "restart"])
COMMANDS = st.builds(Command, st.integers(0, 2**32), ACTIONS, st.floats(0, 60))

SPEC = StreamSpec("p", 1, 2, 96, 3, 20.0, inband_fec=True, playout_delay_ms=100.0)
HELLO = Hello(1, "a", multicast=False, key=b"k" * 32, nonce=b"n" * 32)


@given(HELLOS | ENROLS | TELEMETRIES | READIES | DONES)
def test_what_a_speaker_says_arrives_as_it_was(
    message: Hello | Enrol | Telemetry | Ready | Done,
) -> None:
    assert TO_STATION.decode(TO_STATION.encode(message)) == message


@given(IDENTITIES | PENDINGS | ENROLLEDS | WELCOMES | REFUSALS | LISTENS | ADJUSTS | COMMANDS)
def test_what_a_station_says_arrives_as_it_was(
    message: Identity | Pending | Enrolled | Welcome | Refused | Listen | Adjust | Command,
) -> None:
    assert TO_SPEAKER.decode(TO_SPEAKER.encode(message)) == message


def test_the_bytes_are_a_msgpack_map_with_the_type() -> None:
    assert msgpack.unpackb(TO_STATION.encode(HELLO)) == {
        "type": "Hello",
        "version": 1,
        "name": "a",
        "multicast": False,
        "key": b"k" * 32,
        "nonce": b"n" * 32,
        "delivery": "lan",
    }


def test_a_message_of_the_other_direction_is_refused_by_both_ends() -> None:
    with pytest.raises(TypeError, match="Ready"):
        TO_SPEAKER.encode(Ready(1))
    with pytest.raises(MalformedPacket, match="message_type"):
        TO_SPEAKER.decode(TO_STATION.encode(Ready(1)))


def test_a_class_of_the_same_name_is_not_the_same_word() -> None:
    impostor: Any = dataclass(type("Ready", (), {"__annotations__": {"revision": int}}))
    with pytest.raises(TypeError, match="Ready"):
        TO_STATION.encode(impostor(1))


# ------------------------------------------------------------------ rubbish
def reason_of(words: Vocabulary[Any], data: bytes) -> str | None:
    """Why `data` was refused; None if it was a message after all."""
    try:
        words.decode(data)
    except MalformedPacket as error:
        return error.reason
    return None


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.just(msgpack.Timestamp(2**40, 5))
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4))
)
KINDS = (*TO_STATION.types.values(), *TO_SPEAKER.types.values())
FIELD_NAMES = sorted(
    {f.name for kind in (*KINDS, StreamSpec, SealSpec, EpochSpec) for f in fields(kind)} | {"type"}
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(FIELD_NAMES) | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=12,
)
PLAIN = (
    (HELLOS | ENROLS | TELEMETRIES | READIES | DONES).map(TO_STATION.encode)
    | (IDENTITIES | WELCOMES | REFUSALS | LISTENS | ADJUSTS | COMMANDS).map(TO_SPEAKER.encode)
).map(msgpack.unpackb)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_malformed_and_nothing_worse(data: bytes) -> None:
    for words in (TO_STATION, TO_SPEAKER):
        assert reason_of(words, data) in REASONS


@given(VALUES)
def test_arbitrary_values_are_malformed_and_nothing_worse(value: object) -> None:
    data = msgpack.packb(value)
    for words in (TO_STATION, TO_SPEAKER):
        assert reason_of(words, data) in REASONS | {None}


@given(PLAIN, st.sampled_from(FIELD_NAMES), VALUES)
def test_a_message_with_one_strange_field_is_malformed_and_nothing_worse(
    plain: dict[str, Any], name: str, value: object
) -> None:
    data = msgpack.packb(plain | {name: value})
    for words in (TO_STATION, TO_SPEAKER):
        assert reason_of(words, data) in REASONS | {None}


@given(SPECS, st.sampled_from(FIELD_NAMES), VALUES)
def test_a_stream_with_one_strange_field_is_malformed_and_nothing_worse(
    spec: StreamSpec, name: str, value: object
) -> None:
    plain = msgpack.unpackb(TO_SPEAKER.encode(Listen(1, (spec,))))
    plain["streams"][0][name] = value
    assert reason_of(TO_SPEAKER, msgpack.packb(plain)) in REASONS | {None}


@given(PLAIN, st.integers(1, 400))
def test_a_truncated_message_is_malformed(plain: dict[str, Any], missing: int) -> None:
    data = msgpack.packb(plain)
    words = TO_STATION if plain["type"] in TO_STATION.types else TO_SPEAKER
    assert reason_of(words, data[: max(len(data) - missing, 0)]) == "message_encoding"


def test_what_follows_a_message_makes_it_malformed() -> None:
    assert reason_of(TO_STATION, TO_STATION.encode(Ready(1)) + b"\0") == "message_encoding"


@pytest.mark.parametrize("value", [None, 7, "Ready", [], [1], {}, {"revision": 1}, {"type": 5}])
def test_what_is_no_map_with_a_type_has_the_wrong_shape(value: object) -> None:
    assert reason_of(TO_STATION, msgpack.packb(value)) == "message_shape"


def test_a_key_that_is_no_text_is_malformed() -> None:
    data = msgpack.packb({"type": "Ready", "revision": 1, 5: 6})
    assert reason_of(TO_STATION, data) == "message_encoding"


# ------------------------------------------------------------------ limits
def test_a_message_over_the_limit_is_refused_before_it_is_read() -> None:
    data = TO_SPEAKER.encode(Refused("x" * MAX_MESSAGE_BYTES, final=False))
    assert reason_of(TO_SPEAKER, data) == "message_size"


def test_a_message_of_just_the_limit_is_read() -> None:
    empty = len(TO_SPEAKER.encode(Refused("x" * 60_000, final=False))) - 60_000
    message = Refused("x" * (MAX_MESSAGE_BYTES - empty), final=False)
    data = TO_SPEAKER.encode(message)
    assert len(data) == MAX_MESSAGE_BYTES
    assert TO_SPEAKER.decode(data) == message


@pytest.mark.parametrize("nest", [b"\x91", b"\x81\xa1a"])
def test_deep_nesting_is_malformed_and_not_a_crash(nest: bytes) -> None:
    deepest = MAX_MESSAGE_BYTES // len(nest) - 40
    for depth in (8, 100, 511, 512, 513, 1_023, 1_024, 1_025, 5_000, deepest):
        data = b"\x83\xa4type\xa5Ready\xa8revision\x01\xa1x" + nest * depth + b"\xc0"
        assert reason_of(TO_STATION, data) in {"message_depth", "message_encoding"}


def test_a_deep_unknown_field_is_refused_and_a_shallow_one_skipped() -> None:
    for depth, expected in ((6, None), (7, "message_depth")):
        value: object = 1
        for _ in range(depth):
            value = [value]
        data = msgpack.packb({"type": "Ready", "revision": 1, "x": value})
        assert reason_of(TO_STATION, data) == expected


@pytest.mark.parametrize(
    "head", [b"\xdd\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
)
def test_a_length_that_lies_takes_no_memory(head: bytes) -> None:
    assert reason_of(TO_STATION, head) == "message_encoding"


# ------------------------------------------------------------------ fields
def test_a_newer_peer_may_say_more() -> None:
    data = msgpack.packb({"type": "Ready", "revision": 3, "mood": {"good": [True]}})
    assert TO_STATION.decode(data) == Ready(3)


def test_a_newer_peers_stream_may_say_more() -> None:
    plain = msgpack.unpackb(TO_SPEAKER.encode(Listen(1, (SPEC,))))
    plain["streams"][0]["mood"] = b"good"
    assert TO_SPEAKER.decode(msgpack.packb(plain)) == Listen(1, (SPEC,))


def test_a_field_with_a_default_may_be_missing() -> None:
    plain = msgpack.unpackb(TO_SPEAKER.encode(Listen(1, (SPEC,))))
    del plain["streams"][0]["group"], plain["streams"][0]["port"]
    assert TO_SPEAKER.decode(msgpack.packb(plain)) == Listen(1, (SPEC,))


@given(PLAIN, st.data())
def test_a_field_without_a_default_may_not(plain: dict[str, Any], data: st.DataObject) -> None:
    words = TO_STATION if plain["type"] in TO_STATION.types else TO_SPEAKER
    kind = words.types[plain["type"]]
    needed = [field.name for field in fields(kind) if field.default is MISSING]
    del plain[data.draw(st.sampled_from(needed))]
    assert reason_of(words, msgpack.packb(plain)) == "message_field"


@dataclass(frozen=True)
class Sample:
    """A field of each kind."""

    whole: int
    real: float
    yes: bool
    text: str
    raw: bytes
    maybe: int | None
    many: tuple[int, ...]


GOOD = {"whole": 1, "real": 1.5, "yes": True, "text": "t", "raw": b"r", "maybe": None, "many": [1]}
SAMPLES = vocabulary(Sample)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("whole", True),
        ("whole", 1.0),
        ("whole", "1"),
        ("whole", None),
        ("real", True),
        ("real", "1.5"),
        ("yes", 1),
        ("yes", None),
        ("text", b"t"),
        ("text", 5),
        ("raw", "r"),
        ("maybe", "5"),
        ("maybe", True),
        ("many", 5),
        ("many", None),
        ("many", [True]),
        ("many", [1, "2"]),
        ("many", {"1": 1}),
    ],
)
def test_a_value_of_another_type_is_not_taken_for_it(name: str, wrong: object) -> None:
    data = msgpack.packb({"type": "Sample"} | GOOD | {name: wrong})
    assert reason_of(SAMPLES, data) == "message_field"


def test_a_whole_number_may_stand_for_a_real_one() -> None:
    sample = SAMPLES.decode(msgpack.packb({"type": "Sample"} | GOOD | {"real": 2}))
    assert (sample.real, type(sample.real)) == (2.0, float)


def test_a_value_that_the_message_itself_refuses_is_malformed() -> None:
    data = msgpack.packb(msgpack.unpackb(TO_STATION.encode(HELLO)) | {"key": b"short"})
    assert reason_of(TO_STATION, data) == "message_value"
