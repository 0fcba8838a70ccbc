"""`loa events`: how an event is shown, and what becomes of a stream that breaks."""

import json
from collections.abc import Iterator

import pytest

from server.changes.wire import Event, written
from server.cli import events
from server.cli.events import main, shown
from server.remote import ApiError


def event(seq: int, name: str = "a", kind: str = "speaker", **row: object) -> Event:
    told = {"what": "fault", "name": name, "at": "2026-11-21T19:00:00Z", "row": row or None}
    return Event(f"7-{seq}", kind, json.dumps(told))


def test_an_event_is_one_line() -> None:
    line = "2026-11-21T19:00:00Z  speaker    a  fault: no sound\x1b[2J"
    row = {"fault": "no sound\x1b[2J", "state": "idle"}
    assert shown(event(1, **row)) == line.replace("\x1b", "?")
    assert shown(event(1)) == "2026-11-21T19:00:00Z  speaker    a  fault"
    assert shown(Event("7-1", "reset", "{}")).startswith("reset")


class Station:
    """Gives one answer after the other; an error is raised."""

    def __init__(self, *answers: list[Event] | str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def download(self, _: str, path: str) -> Iterator[bytes]:
        self.asked.append(path)
        answer = self.answers.pop(0) if self.answers else "it is gone"
        if isinstance(answer, str):
            raise ApiError(answer)
        yield from (written(each).encode() for each in answer)


def play(monkeypatch: pytest.MonkeyPatch, station: Station, *words: str) -> int:
    monkeypatch.setattr(events, "download", station.download)
    monkeypatch.setattr("server.cli.events.time.sleep", lambda _: None)
    return main(list(words))


def test_what_comes_is_printed_in_json_and_after_a_break_it_goes_on_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    station = Station([event(1), event(2)], "not yet", [event(3)], "no", "no")
    assert play(monkeypatch, station, "--json", "--kinds", "speaker", "unit") == 1
    out, err = capsys.readouterr()
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["7-1", "7-2", "7-3"]
    assert json.loads(out.splitlines()[0])["event"] == "speaker"
    assert station.asked[0] == "/api/v1/events?kinds=speaker%2Cunit"
    assert station.asked[1].endswith("&last=7-2")
    assert station.asked[3].endswith("&last=7-3")
    # It has had patience, and says the reason once each time, and at the end.
    assert 30 < len(station.asked) < 40
    assert [line.split(": ", 1)[1] for line in err.splitlines()] == [
        "the station has ended the stream; trying again",
        "the station has ended the stream; trying again",
        "it is gone",
    ]


def test_a_station_that_was_never_there_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    station = Station("station not found")
    assert play(monkeypatch, station) == 1
    assert len(station.asked) == 1
    assert capsys.readouterr().err == "loa events: station not found\n"


@pytest.mark.parametrize("data", ["[]", "x", "{}"])
def test_rubbish_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: str
) -> None:
    station = Station([Event("7-1", "speaker", data)])
    assert play(monkeypatch, station) == 1
    assert len(capsys.readouterr().err.splitlines()) <= 2
