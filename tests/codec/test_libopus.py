import ctypes
import ctypes.util
import importlib
from pathlib import Path

import pytest

from codec import libopus
from codec.errors import CodecError


def test_the_library_is_the_one_in_the_pyav_wheel() -> None:
    assert "av.libs" in libopus.LOCATION or ".dylibs" in libopus.LOCATION
    # Mapped, not merely found: a system libopus on the same machine must not have won.
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert libopus.LOCATION in maps.read_text()


def test_it_says_its_version() -> None:
    assert libopus.version().startswith("libopus 1.")


def test_find_library_is_itself_again_after_the_import() -> None:
    assert ctypes.util.find_library.__module__ == "ctypes.util"


def test_find_library_is_itself_again_after_a_failed_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str | None] = []
    original = ctypes.util.find_library

    def failing(name: str) -> object:
        seen.append(ctypes.util.find_library("opus"))
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", failing)
    with pytest.raises(ImportError):
        libopus._import_opuslib("/some/libopus.so")
    assert seen == ["/some/libopus.so"]
    assert ctypes.util.find_library is original


def test_without_a_bundled_library_the_systems_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libopus, "_bundled", lambda: None)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so.0")
    assert libopus._locate() == "libopus.so.0"


def test_no_library_at_all_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libopus, "_bundled", lambda: None)
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)
    with pytest.raises(CodecError, match="reinstall"):
        libopus._locate()


def test_it_is_asked_for_dred_and_has_none() -> None:
    assert not libopus.has_dred()


@pytest.mark.parametrize(("answer", "has"), [(0, True), (-5, False), (-1, False)])
def test_a_library_has_dred_if_it_takes_the_request(
    answer: int, has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def ctl(_state: object, request: int, _value: object) -> int:
        asked.append(request)
        return answer

    monkeypatch.setattr(libopus.encoder_api, "libopus_ctl", ctl)
    assert libopus.has_dred() is has
    assert asked == [4050]


def test_it_does_not_say_no_to_everything() -> None:
    """A request that it knows is taken the same way."""
    state = libopus.encoder_api.create_state(48_000, 1, libopus.constants.APPLICATION_VOIP)
    try:
        set_complexity = 4010
        assert libopus.encoder_api.libopus_ctl(state, set_complexity, ctypes.c_int(5)) == 0
    finally:
        libopus.encoder_api.destroy(state)
