"""What is said of a conversation that ended."""

import pytest
from websockets.exceptions import ConnectionClosedOK
from websockets.frames import Close

from endpoints import cli
from endpoints.station.meeting import why

EVIL = "\x1b]0;OWNED\x07\x1b[2J\x1b[31mjoined\r\nloa speaker: x\u202e"


def test_a_stranger_s_reason_is_short_and_commands_no_terminal() -> None:
    closed = Close(1000, EVIL)
    told = why(ConnectionClosedOK(closed, closed, rcvd_then_sent=True))
    assert told.isprintable()
    assert "OWNED" in told
    assert len(why(OSError("x" * 5000))) <= 200


def test_what_a_loudspeaker_says_is_one_printable_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli._say(EVIL + "x" * 300)
    (line,) = capsys.readouterr().err.split("\n")[:-1]
    assert line.isprintable()
    assert line.startswith("loa speaker: ")
    assert line.endswith("x" * 300)
