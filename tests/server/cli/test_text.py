"""How figures are written."""

import pytest

from server.cli import text


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d"), (None, "-")],
)
def test_durations(seconds: float | None, written: str) -> None:
    assert text.duration(seconds) == written


@pytest.mark.parametrize(
    ("fraction", "written"), [(0.0, "0 %"), (0.0004, "<0.1 %"), (0.0123, "1.2 %"), (1.0, "100.0 %")]
)
def test_shares(fraction: float, written: str) -> None:
    assert text.share(fraction) == written


@pytest.mark.parametrize(("value", "written"), [(12.4, "12 µs"), (-4, "-4 µs"), (1500, "1.5 ms")])
def test_microseconds(value: float, written: str) -> None:
    assert text.microseconds(value) == written


@pytest.mark.parametrize(
    ("dbfs", "bar"), [(None, "····"), (-96, "····"), (-60, "····"), (-30, "██··"), (3, "████")]
)
def test_a_meter_goes_from_minus_60_to_0(dbfs: float | None, bar: str) -> None:
    assert text.meter(dbfs, 4) == bar


def test_long_lists_are_cut_and_the_rest_counted() -> None:
    assert text.listed(["a", "b"], 2) == "a, b"
    assert text.listed(["a", "b", "c"], 2) == "a, b and 1 more"


def test_what_would_command_a_terminal_is_taken_out() -> None:
    assert text.printable("Chợ \x1b[2J\r\n\u202e\x9b") == "Chợ ?[2J????"
