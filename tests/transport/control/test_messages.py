import unicodedata
from dataclasses import replace
from typing import Any

import pytest

from codec.format import FRAME_MS
from transport.control.messages import (
    MAX_PLAYOUT_DELAY_MS,
    Adjust,
    Command,
    Done,
    Enrol,
    Enrolled,
    EpochSpec,
    Hello,
    Identity,
    Listen,
    SealSpec,
    StreamSpec,
    Telemetry,
    Welcome,
    check_name,
    shown,
    spelt_alike,
)

UNICAST = StreamSpec("p", 1, 2, 96, 3, 20.0, inband_fec=False, playout_delay_ms=500.0)
MULTICAST = replace(UNICAST, group="239.1.2.3", port=5004)
KEY = NONCE = bytes(32)
HELLO = Hello(1, "a", multicast=False, key=KEY, nonce=NONCE)
ENROL = Enrol(1, "a", KEY, NONCE, code=bytes(4), mac=bytes(32))
WELCOME = Welcome(1, 1, 0, KEY, 5, 6, 7)
EPOCHS = tuple(EpochSpec(n, 10 + 2 * n, bytes(28)) for n in range(4))
SEALED = replace(UNICAST, seal=SealSpec(b"certificate", EPOCHS[:2]))
TELEMETRY = Telemetry("idle", -96.0, 0.0, 1.0, 0, 0, 0, 0, 1.0)


@pytest.mark.parametrize(
    "name", ["a", "7", "_", "Loa thôn Đông", "loa-1.2:3_4", "东", "x" * 64, "allow", "All"]
)
def test_a_name_may_be_what_people_write(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", " ", " a", ".", "-a", "all", "x" * 65, "a/b", "a\n", "a\0b", "a\tb", "a<b>", "\ud800"],
)
def test_what_could_be_mistaken_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="no loudspeaker's name"):
        check_name(name)
    for word in (HELLO, ENROL):
        with pytest.raises(ValueError, match="no loudspeaker's name"):
            replace(word, name=name)
    with pytest.raises(ValueError, match="no loudspeaker's name"):
        Enrolled(name)


@pytest.mark.parametrize("port", [-1, 0, 65_536, 1 << 40])
def test_what_is_no_port_is_refused_wherever_one_stands(port: int) -> None:
    for field in ("time_port", "media_port", "gateway_port"):
        wrong: dict[str, Any] = {field: port}
        with pytest.raises(ValueError, match="port"):
            replace(WELCOME, **wrong)
    with pytest.raises(ValueError, match="port"):
        replace(MULTICAST, port=port)


@pytest.mark.parametrize("port", [1, 65_535])
def test_the_first_and_the_last_port_are_ports(port: int) -> None:
    assert replace(WELCOME, media_port=port).media_port == port


def test_a_groups_port_leaves_room_for_rtcp_on_the_next() -> None:
    assert replace(MULTICAST, port=65_534).port == 65_534
    with pytest.raises(ValueError, match="port"):
        replace(MULTICAST, port=65_535)


@pytest.mark.parametrize("state", ["", "Idle", "dead"])
def test_a_state_nobody_knows_is_refused(state: str) -> None:
    with pytest.raises(ValueError, match="state"):
        replace(TELEMETRY, state=state)


@pytest.mark.parametrize(
    "name",
    [
        *("level_dbfs", "sync_error_us", "clock_uncertainty_us", "uptime_s"),
        *("loss", "longest_burst_ms", "jitter_ms"),
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_figures_that_json_cannot_hold_are_refused(name: str, value: float) -> None:
    fields: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match="finite"):
        replace(TELEMETRY, **fields)


def test_no_more_is_lost_than_was_sent() -> None:
    assert replace(TELEMETRY, loss=1.0).loss == 1.0
    with pytest.raises(ValueError, match="no more is lost"):
        replace(TELEMETRY, loss=1.01)


@pytest.mark.parametrize(
    "name",
    [
        *("packets_received", "packets_lost", "packets_late", "packets_dropped"),
        *("packets_missed", "underruns"),
    ],
)
def test_a_negative_count_is_refused(name: str) -> None:
    fields: dict[str, Any] = {name: -1}
    with pytest.raises(ValueError, match="negative"):
        replace(TELEMETRY, **fields)


@pytest.mark.parametrize("frame_ms", FRAME_MS)
def test_a_frame_lasts_as_long_as_opus_allows(frame_ms: float) -> None:
    assert replace(UNICAST, frame_ms=frame_ms).frame_ms == frame_ms


@pytest.mark.parametrize("frame_ms", [0.0, -20.0, 7.0, 120.0, 1e9, float("nan"), float("inf")])
def test_a_frame_that_opus_cannot_code_is_refused(frame_ms: float) -> None:
    """One of no length would make concealment stand still."""
    with pytest.raises(ValueError, match="frame"):
        replace(UNICAST, frame_ms=frame_ms)


@pytest.mark.parametrize(
    ("name", "bits"), [("ssrc", 32), ("timestamp_offset", 32), ("payload_type", 7)]
)
def test_what_does_not_fit_its_rtp_field_is_refused(name: str, bits: int) -> None:
    fits: dict[str, Any] = {name: (1 << bits) - 1}
    assert getattr(replace(UNICAST, **fits), name) == (1 << bits) - 1
    for value in (-1, 1 << bits):
        wrong: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match="bits"):
            replace(UNICAST, **wrong)


@pytest.mark.parametrize("delay_ms", [0.0, -1.0, MAX_PLAYOUT_DELAY_MS + 1, float("nan")])
def test_a_playout_delay_out_of_range_is_refused(delay_ms: float) -> None:
    with pytest.raises(ValueError, match="delay"):
        replace(UNICAST, playout_delay_ms=delay_ms)


@pytest.mark.parametrize(("group", "port"), [("239.1.2.3", None), (None, 5004)])
def test_a_group_and_its_port_come_together(group: str | None, port: int | None) -> None:
    with pytest.raises(ValueError, match="group and a port"):
        replace(UNICAST, group=group, port=port)


@pytest.mark.parametrize("group", ["10.0.0.1", "240.0.0.1", "239.1.2", "239.1.2.3 ", "ff02::1", ""])
def test_what_is_no_ipv4_multicast_group_is_refused(group: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        replace(MULTICAST, group=group)


def test_a_name_typed_letter_by_accent_becomes_a_name_of_a_loudspeaker() -> None:
    typed = unicodedata.normalize("NFD", "chợ làng")
    assert check_name(spelt_alike(typed)) == "chợ làng"


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "x" * 201], ids=["escape", "line", "long"])
def test_what_would_be_shown_on_a_terminal_is_short_and_printable(text: str) -> None:
    for build in (
        lambda: replace(TELEMETRY, fault=text),
        lambda: replace(TELEMETRY, hearing=text),
        lambda: Done(1, text),
    ):
        with pytest.raises(ValueError, match="printable"):
            build()
    assert Done(1, shown(text)).error == shown(text)


@pytest.mark.parametrize("volume", [-1, 101])
def test_a_volume_is_0_to_100(volume: int) -> None:
    with pytest.raises(ValueError, match="use 0 to 100"):
        Adjust(volume, muted=False)


@pytest.mark.parametrize("trim_us", [-50_001, 50_001])
def test_a_trim_is_50_ms_at_most(trim_us: int) -> None:
    assert Adjust(100, muted=False).trim_us == 0
    with pytest.raises(ValueError, match="use -50000 to 50000 us"):
        Adjust(100, muted=False, trim_us=trim_us)


@pytest.mark.parametrize("wrong", [{"action": "explode"}, {"seconds": -1.0}, {"seconds": 61.0}])
def test_a_command_is_one_that_there_is(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown action|no length for a tone"):
        Command(**{"id": 1, "action": "tone", **wrong})


@pytest.mark.parametrize("name", ["wan", "saver"])
def test_what_comes_from_afar_is_not_multicast(name: str) -> None:
    with pytest.raises(ValueError, match="goes by unicast alone"):
        replace(HELLO, multicast=True, delivery=name)


def test_a_delivery_that_is_none_is_refused_with_all_that_are() -> None:
    with pytest.raises(ValueError, match=r"'lora' is no delivery: use lan, wifi, wan, saver"):
        replace(ENROL, delivery="lora")


@pytest.mark.parametrize("name", [unicodedata.normalize("NFD", "Thôn 3"), "\u212bx", "a "])
def test_a_name_has_one_spelling(name: str) -> None:
    with pytest.raises(ValueError, match="is no loudspeaker's name"):
        check_name(name)
    assert check_name(spelt_alike(name).strip())


def test_two_streams_of_one_source_are_refused() -> None:
    with pytest.raises(ValueError, match="one SSRC"):
        Listen(1, (UNICAST, replace(UNICAST, order=2)))


@pytest.mark.parametrize("payload_type", [64, 72, 95])
def test_a_payload_type_that_looks_like_rtcp_is_refused(payload_type: int) -> None:
    with pytest.raises(ValueError, match="looks like RTCP"):
        replace(UNICAST, payload_type=payload_type)


@pytest.mark.parametrize("field", ["sync_error_us", "clock_uncertainty_us", "uptime_s"])
def test_no_distance_or_time_is_negative_or_absurd(field: str) -> None:
    with pytest.raises(ValueError, match="absurd"):
        replace(TELEMETRY, **{field: 1e308})  # type: ignore[arg-type]  # fields of many types
    with pytest.raises(ValueError, match="not negative"):
        replace(TELEMETRY, **{field: -1.0})  # type: ignore[arg-type]  # fields of many types


@pytest.mark.parametrize("count", [0, 31, 33])
@pytest.mark.parametrize(
    ("word", "field"),
    [
        (HELLO, "key"),
        (HELLO, "nonce"),
        (ENROL, "key"),
        (ENROL, "nonce"),
        (ENROL, "mac"),
        (ENROL, "code"),
        (WELCOME, "key"),
        (Identity(2, b"", b"", NONCE), "nonce"),
        (EPOCHS[0], "key"),
    ],
)
def test_keys_nonces_and_proofs_have_their_length(word: Any, field: str, count: int) -> None:
    with pytest.raises(ValueError, match="bytes, not"):
        replace(word, **{field: bytes(count)})


@pytest.mark.parametrize(
    "wrong", [{"number": 0}, {"number": -1}, {"number": 1 << 63}, {"session": -1}]
)
def test_the_number_of_a_session_can_be_kept_and_is_above_none(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="session's number"):
        replace(WELCOME, **wrong)  # type: ignore[arg-type]  # fields of many types


@pytest.mark.parametrize("field", ["number", "ssrc"])
def test_an_epoch_has_numbers_that_fit_the_wire(field: str) -> None:
    for value in (-1, 1 << 32):
        wrong: dict[str, Any] = {field: value}
        with pytest.raises(ValueError, match="32 bits"):
            replace(EPOCHS[0], **wrong)


@pytest.mark.parametrize("epochs", [(), (*EPOCHS, EpochSpec(4, 18, bytes(28)))])
def test_a_sealed_stream_has_some_epochs_and_not_too_many(epochs: tuple[EpochSpec, ...]) -> None:
    with pytest.raises(ValueError, match="1 to 4 epochs"):
        SealSpec(b"", epochs)


def test_each_epoch_has_a_number_of_its_own() -> None:
    with pytest.raises(ValueError, match="one number"):
        SealSpec(b"", (EPOCHS[0], replace(EPOCHS[0], ssrc=99)))


def test_on_the_wire_a_sealed_stream_bears_its_epochs_ssrcs() -> None:
    """And those of its repairs."""
    assert UNICAST.ssrcs == (2, 3)
    assert SEALED.ssrcs == (10, 11, 12, 13)


def test_no_two_epochs_of_any_streams_share_an_ssrc() -> None:
    other = replace(SEALED, ssrc=3, seal=SealSpec(b"", EPOCHS[1:3]))
    with pytest.raises(ValueError, match="one SSRC"):
        Listen(1, (SEALED, other))
    with pytest.raises(ValueError, match="one SSRC"):
        Listen(1, (SEALED, replace(UNICAST, ssrc=12)))
    with pytest.raises(ValueError, match="one SSRC"):
        Listen(1, (SEALED, replace(UNICAST, ssrc=13)))  # that of the repairs
    streams = SEALED, replace(other, seal=SealSpec(b"", EPOCHS[2:]))
    assert Listen(1, streams).streams == streams


@pytest.mark.parametrize("way", ["", "UDP", "tcp"])
def test_a_way_nobody_knows_is_refused(way: str) -> None:
    with pytest.raises(ValueError, match="way"):
        replace(TELEMETRY, way=way)
