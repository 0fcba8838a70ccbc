"""`loa live` in this process, against a station that grants whatever is asked for."""

import signal
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec.errors import SourceError
from codec.format import Samples
from server.cli import live
from server.cli.sources import Speech

Station = Any  # the fixture's; see conftest
TONE = (0.25 * np.sin(np.arange(480) * 2 * np.pi * 1000 / 48_000)).astype(np.float32)


@pytest.fixture
def heard(station: Station) -> list[Any]:
    """Everything after the ticket, as it comes; None is the farewell."""
    heard: list[Any] = []

    def act(stream: Any, items: Iterator[Any]) -> None:
        next(items)
        stream.send({"accepted": True, "reason": ""})
        for item in items:
            heard.append(item)
            if item is None:
                stream.send({"ended": True})

    station.ingest.append(act)
    return heard


Speak = Callable[[Iterator[Samples]], int]


@pytest.fixture
def speak(station: Station, heard: list[Any], monkeypatch: pytest.MonkeyPatch) -> Speak:
    """The command, with a source of our own; its exit status."""

    def speak(blocks: Iterator[Samples]) -> int:
        monkeypatch.setattr(live, "speech", lambda *_: Speech(blocks))
        return live.main(["-", "--to", "a", "--server", station.address])

    return speak


def test_a_file_is_spoken_whole_and_said_to_have_ended(
    station: Station, heard: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tone.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes((np.tile(TONE, 3) * 32_767).astype("<i2").tobytes())
    words = [str(path), "--to", "a", "b", "--repeat", "2", "--server", station.address]
    assert live.main([*words, "--bitrate", "32000", "--frame-ms", "20", "--fec", "--dtx"]) == 0
    assert [len(item[1]) // 2 for item in heard[:-1]] == [480] * 6
    assert heard[-1] is None
    asked = station.asked[0]
    assert (asked["to"], asked["bitrate"], asked["frame_ms"]) == (["a", "b"], 32_000, 20.0)
    assert (asked["inband_fec"], asked["dtx"], asked["test"]) == (True, True, False)
    said = capsys.readouterr()
    assert said.out.splitlines() == ["live-1 on air to a", "live-1 ended after 0.1 s"]
    assert said.err == "not listening yet: b; they join when they return\n"


@pytest.mark.parametrize("said", [0, 3])
def test_ctrl_c_is_how_a_live_voice_ends(
    speak: Speak, heard: list[Any], capsys: pytest.CaptureFixture[str], said: int
) -> None:
    released = threading.Event()
    speaker = threading.get_ident()

    def blocks() -> Iterator[Samples]:
        yield from [TONE] * said
        while len(heard) < said:
            released.wait(0.001)
        signal.pthread_kill(speaker, signal.SIGINT)
        released.wait(5)

    # Whoever runs the tests in the background may have had it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert speak(blocks()) == 0
    finally:
        released.set()
        signal.signal(signal.SIGINT, before)
    assert heard[-1] is None, "the programme was not ended in good order"
    assert "live-1 ended after 0.0 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("blocks", "why"),
    [
        ([np.zeros(480, np.float32)] * 2, "loa live: the source was silent throughout"),
        ([], "loa live: the source was empty"),
    ],
)
def test_a_source_without_sound_is_an_error_in_one_line(
    speak: Speak, capsys: pytest.CaptureFixture[str], blocks: list[Samples], why: str
) -> None:
    assert speak(iter(blocks)) == 1
    assert capsys.readouterr().err.splitlines()[-1] == why


def test_a_source_that_fails_is_an_error_in_one_line_and_the_programme_ends(
    speak: Speak, heard: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def blocks() -> Iterator[Samples]:
        yield TONE
        raise SourceError("the disk is gone")

    assert speak(blocks()) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "loa live: the disk is gone"
    assert heard[-1] is None


def test_a_refusal_is_an_error_in_one_line(
    station: Station, speak: Speak, capsys: pytest.CaptureFixture[str]
) -> None:
    station.reply = (404, b'{"detail": "no loudspeaker \'x\'; nearest: y"}')
    assert speak(iter([TONE])) == 1
    assert capsys.readouterr().err == "loa live: no loudspeaker 'x'; nearest: y\n"


def test_a_file_that_is_silent_throughout_is_not_even_asked_for(
    station: Station, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "silent.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes(bytes(9600))
    assert live.main([str(path), "--to", "a", "--server", station.address]) == 1
    assert station.asked == []
    assert "silent throughout" in capsys.readouterr().err
