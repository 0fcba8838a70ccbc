"""What `loa top` draws."""

from typing import Any

import pytest

from server.cli.look import Look, draw, need, rate

SECOND = 1_000_000_000


def _speaker(name: str, **different: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "unit": "Xã",
        "state": "idle",
        "last_seen_s": 0.1,
        "in_step": True,
        "fault": "",
        "volume": 100,
        "muted": False,
        "loss": 0.0,
        "missed": 0.0,
        "sync_error_us": 3.0,
        "level_dbfs": -96.0,
        "hearing": "",
        "authenticated": True,
    }
    return row | different


SENDER = {"late_p99_ms": 0.75, "queue": 3, "stale": 4, "overruns": 1, "errors": 2}
OFFLINE = {"state": "offline", "in_step": None, "fault": "it cannot be reached"}


def _programme(name: str, **different: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "priority": "live",
        "to": ["all"],
        "zones": [],
        "state": "live",
        "seconds": 3.0,
        "level_dbfs": -30.0,
        "playout_delay_ms": 40.0,
        "copies_ms": [[10.0, 20.0], [], [10.0]],
        "codes": [None, None, [11, 21]],
        "speakers": 4,
        "interrupted_at": 0,
        "not_in_step": [],
        "test": False,
        "authenticated": True,
    }
    return row | different


def _look(
    *speakers: dict[str, Any], programmes: int = 0, at_s: float = 0.0, datagrams: int | None = 0
) -> Look:
    sender = {} if datagrams is None else SENDER | {"datagrams": datagrams}
    station = {
        "name": "Xã",
        "speakers": len(speakers),
        "online": 1,
        "sessions": 2,
        "sender": sender,
    }
    rows = [_programme(f"live-{number}") for number in range(programmes)]
    return Look(round(at_s * SECOND), station, rows, list(speakers))


def _texts(*looks: Look, **more: Any) -> list[str]:
    return [text for text, _ in draw(looks, **more)]


def test_what_nobody_can_authenticate_and_what_is_a_test_is_said_to_be_so() -> None:
    rows = [_programme("live-1", authenticated=False, test=True), _programme("live-2")]
    look = Look(0, _look().station, rows, [_speaker("a", authenticated=False), _speaker("b")])
    lines = {text.split()[0]: text for text, _ in draw([look]) if text}
    assert "unauthenticated, test" in lines["live-1"]
    assert "unauthenticated" in lines["a"]
    for name in ("live-2", "b"):
        assert "authenticated" not in lines[name]


def test_who_needs_attention_comes_first_and_the_others_by_name() -> None:
    look = _look(
        _speaker("b"),
        _speaker("a"),
        _speaker("holed", loss=0.02, missed=0.001),
        _speaker("mended", loss=0.3, missed=0.0009),
        _speaker("late", in_step=False),
        _speaker("gone", **OFFLINE),
        _speaker("broken", fault="the amplifier is hot"),
    )
    rows = draw([look])[6:]
    names = [text.split()[0] for text, _ in rows]
    assert names == ["broken", "gone", "late", "holed", "a", "b", "mended"]
    assert [style for _, style in rows] == ["yellow", "red", "yellow", "yellow", "", "", ""]


def test_the_station_is_on_one_line_and_its_senders_are_on_the_next() -> None:
    first = _look(datagrams=100, at_s=1)
    second = _look(datagrams=300, at_s=3)
    assert _texts(first, second)[:3] == [
        "Xã   1/0 online   sessions 2",
        "datagrams/s 100   late p99 0.75 ms   queue 3   stale 4   overruns 1   errors 2",
        "",
    ]
    assert _texts(first)[1].startswith("datagrams 100   ")


def test_a_station_whose_senders_have_not_reported_yet_is_shown() -> None:
    assert _texts(_look(datagrams=None))[1] == (
        "datagrams -   late p99 -   queue -   stale -   overruns -   errors -"
    )


def test_before_the_first_datagram_none_was_late() -> None:
    look = _look()
    look.station["sender"]["late_p99_ms"] = None
    assert "late p99 -   " in _texts(look)[1]


@pytest.mark.parametrize("before", [None, 301])
def test_there_is_no_rate_across_a_sender_s_rebirth(before: int | None) -> None:
    assert rate([_look(datagrams=before, at_s=1), _look(datagrams=300, at_s=3)]) is None


def test_a_programme_has_a_level_meter() -> None:
    (line,) = [text for text in _texts(_look(programmes=1)) if text.startswith("live-0")]
    assert "██████████··········  -30.0 dBFS" in line


def test_of_each_encoding_the_copies_are_shown_by_how_far_back_they_are() -> None:
    (line,) = [text for text in _texts(_look(programmes=1)) if text.startswith("live-0")]
    assert "  40 ms  10+20, -, code 11+21  " in line


@pytest.mark.parametrize("height", [10, 13, 24, 50])
@pytest.mark.parametrize("programmes", [0, 1, 3, 30])
@pytest.mark.parametrize("trouble", ["", "station not found"])
def test_what_is_drawn_fits_the_terminal(height: int, programmes: int, trouble: str) -> None:
    look = _look(*(_speaker(f"s{n}") for n in range(100)), programmes=programmes)
    assert len(_texts(look, trouble=trouble, height=height)) <= height


def test_how_many_are_not_shown_is_said() -> None:
    look = _look(*(_speaker(f"s{n}", **(OFFLINE if n < 30 else {})) for n in range(100)))
    *_, last = _texts(look, height=20)
    # Station, senders, blank, programmes, blank and titles, and this line itself.
    assert last == "87 more loudspeakers not shown, 17 of which need attention"


def test_all_are_shown_where_there_is_room() -> None:
    look = _look(*(_speaker(f"s{n}") for n in range(15)))
    assert len(_texts(look, height=21)) == 21
    assert len(_texts(look)) == 21
    assert "not shown" not in "".join(_texts(look, height=21))


def test_why_there_is_nothing_newer_is_said_above_what_there_was() -> None:
    assert draw([], "station not found") == [("station not found", "bold red")]
    lines = draw([_look(_speaker("a"))], "station not found")
    assert lines[0] == ("station not found", "bold red")
    assert lines[-1][0].startswith("a ")


def test_being_offline_is_worse_than_being_out_of_step_and_a_fault_is_worst() -> None:
    rows = (_speaker("a", fault="x"), _speaker("a", **OFFLINE), _speaker("a", in_step=False))
    assert [need(row) for row in rows] == [0, 1, 2]
