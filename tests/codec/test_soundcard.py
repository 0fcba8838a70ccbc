"""Which device is meant, and what a person reads when there is none: PortAudio is a test's own."""

import importlib
from types import SimpleNamespace
from typing import Any

import pytest

from codec import soundcard
from codec.soundcard import PLAYING, RECORDING, SoundCardError


class PortAudioError(Exception):
    """As the real one: text, number, and what the system said."""


class FakePortAudio:
    """Devices by name, with how many channels they play and record."""

    PortAudioError = PortAudioError

    def __init__(self, refuses: dict[int, tuple[Any, ...]] | None = None) -> None:
        self.devices = [
            ("HDA (hw:0,0)", 2, 2),
            ("pulse", 32, 32),
            ("Desk mic", 0, 1),
            ("USB", 2, 0),
        ]
        self.default = SimpleNamespace(device=(2, 1))
        self.asked: list[dict[str, Any]] = []
        self._refuses = refuses or {}

    def query_devices(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "max_output_channels": plays, "max_input_channels": records}
            for name, plays, records in self.devices
        ]

    def OutputStream(self, **options: Any) -> object:  # noqa: N802
        self.asked.append(options)
        if options["channels"] in self._refuses:
            raise PortAudioError(*self._refuses[options["channels"]])
        return object()


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> FakePortAudio:
    return use(monkeypatch, FakePortAudio())


def use(monkeypatch: pytest.MonkeyPatch, fake: FakePortAudio) -> FakePortAudio:
    monkeypatch.setattr(soundcard, "library", lambda: fake)
    return fake


def open_usb() -> None:
    soundcard.open_stream(PLAYING, "USB", 0.01, lambda *_: None, lambda: None)


@pytest.mark.parametrize(
    ("name", "index"), [("", 1), ("0", 0), ("USB", 3), ("usb", 3), ("hda", 0), ("PULSE", 1)]
)
def test_a_card_is_found_by_number_name_or_part(
    portaudio: FakePortAudio, name: str, index: int
) -> None:
    assert soundcard.find(PLAYING, name) == index


def test_only_what_records_is_a_microphone(portaudio: FakePortAudio) -> None:
    assert soundcard.find(RECORDING, "") == 2
    assert soundcard.listing(RECORDING) == ["0 HDA (hw:0,0)", "1 pulse", "2 Desk mic (default)"]
    with pytest.raises(SoundCardError, match=r"^no microphone is called USB; choose by mic:NAME"):
        soundcard.find(RECORDING, "USB")


def test_a_name_of_two_cards_is_none_of_them(portaudio: FakePortAudio) -> None:
    with pytest.raises(SoundCardError, match=r"^2 sound cards are called u; choose by --output"):
        soundcard.find(PLAYING, "u")


def test_a_machine_without_any_says_so(portaudio: FakePortAudio) -> None:
    portaudio.devices = []
    with pytest.raises(SoundCardError, match=r"^this machine has no sound card$"):
        soundcard.find(PLAYING, "")


def test_a_card_that_refuses_one_channel_is_opened_with_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = use(monkeypatch, FakePortAudio({1: ("Invalid number of channels", -9998)}))
    open_usb()
    assert [options["channels"] for options in fake.asked] == [1, 2]


@pytest.mark.parametrize(
    ("refusal", "line"),
    [
        (("Error opening OutputStream: Invalid sample rate", -9997), "refuses 48 kHz; "),
        (("Error opening: Device unavailable", -9985), "cannot be opened: Device unavailable; "),
        (("Error: Host", -9999, (0, -5, "Device busy")), "cannot be opened: Device busy; "),
    ],
)
def test_a_refusal_is_one_line_with_the_choice_there_is(
    monkeypatch: pytest.MonkeyPatch, refusal: tuple[Any, ...], line: str
) -> None:
    use(monkeypatch, FakePortAudio({1: refusal, 2: refusal}))
    with pytest.raises(SoundCardError) as caught:
        open_usb()
    choice = "choose by --output device:NAME from: HDA (hw:0,0), pulse, USB"
    assert str(caught.value) == f"the sound card USB {line}{choice}"


def test_without_portaudio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(SoundCardError, match=r"^sound cards need PortAudio: .*libportaudio2.*make"):
        soundcard.library()
