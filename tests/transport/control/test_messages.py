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
    Hello,
    Listen,
    StreamSpec,
    Telemetry,
    Welcome,
    check_name,
    shown,
    spelt_alike,
)

UNICAST = StreamSpec("p", 1, 2, 96, 3, 20.0, inband_fec=False, playout_delay_ms=500.0)
MULTICAST = replace(UNICAST, group="239.1.2.3", port=5004)
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
    with pytest.raises(ValueError, match="no loudspeaker's name"):
        Hello(1, name, multicast=False, media_port=5000)


@pytest.mark.parametrize("port", [-1, 0, 65_536, 1 << 40])
def test_what_is_no_port_is_refused_wherever_one_stands(port: int) -> None:
    with pytest.raises(ValueError, match="port"):
        Hello(1, "a", multicast=False, media_port=port)
    with pytest.raises(ValueError, match="port"):
        Welcome(1, time_port=port, rtcp_port=5000)
    with pytest.raises(ValueError, match="port"):
        Welcome(1, time_port=5000, rtcp_port=port)
    with pytest.raises(ValueError, match="port"):
        replace(MULTICAST, port=port)


@pytest.mark.parametrize("port", [1, 65_535])
def test_the_first_and_the_last_port_are_ports(port: int) -> None:
    assert Hello(1, "a", multicast=False, media_port=port).media_port == port
    assert Welcome(1, port, port).time_port == port


def test_a_groups_port_leaves_room_for_rtcp_on_the_next() -> None:
    assert replace(MULTICAST, port=65_534).port == 65_534
    with pytest.raises(ValueError, match="port"):
        replace(MULTICAST, port=65_535)


@pytest.mark.parametrize("state", ["", "Idle", "dead"])
def test_a_state_nobody_knows_is_refused(state: str) -> None:
    with pytest.raises(ValueError, match="state"):
        replace(TELEMETRY, state=state)


@pytest.mark.parametrize(
    "name", ["level_dbfs", "sync_error_us", "clock_uncertainty_us", "uptime_s"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_figures_that_json_cannot_hold_are_refused(name: str, value: float) -> None:
    fields: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match="finite"):
        replace(TELEMETRY, **fields)


@pytest.mark.parametrize(
    "name",
    ["packets_received", "packets_lost", "packets_late", "packets_dropped", "underruns"],
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


@pytest.mark.parametrize("wrong", [{"action": "explode"}, {"seconds": -1.0}, {"seconds": 61.0}])
def test_a_command_is_one_that_there_is(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown action|no length for a tone"):
        Command(**{"id": 1, "action": "tone", **wrong})


@pytest.mark.parametrize("name", ["wan", "saver"])
def test_what_comes_from_afar_is_not_multicast(name: str) -> None:
    with pytest.raises(ValueError, match="goes by unicast alone"):
        Hello(1, "a", multicast=True, media_port=5000, delivery=name)


def test_a_delivery_that_is_none_is_refused_with_all_that_are() -> None:
    with pytest.raises(ValueError, match=r"'lora' is no delivery: use lan, wifi, wan, saver"):
        Hello(1, "a", multicast=False, media_port=5000, delivery="lora")


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
