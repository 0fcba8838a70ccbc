"""`loa serve`: its options become settings, and wrong ones one line."""

from collections.abc import Callable

import pytest

from server.cli import serve
from server.settings import Settings


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What would have been supervised."""
    supervised: list[Settings] = []

    def supervise(settings: Settings, ready: Callable[[str], None]) -> int:
        supervised.append(settings)
        ready("127.0.0.1:7460")
        return 0

    monkeypatch.setattr(serve, "supervise", supervise)
    return supervised


def test_without_options_the_settings_are_the_defaults(supervised: list[Settings]) -> None:
    assert serve.main([]) == 0
    assert supervised == [Settings()]


def test_every_option_becomes_a_setting(supervised: list[Settings]) -> None:
    words = "--bind 0.0.0.0 --port 8000 --interface 192.0.2.1 --groups 239.1.0.0/16 "
    words += "--group-port 6000 --ttl 5 --no-announce --insecure"
    serve.main(words.split())
    assert supervised == [
        Settings(
            bind="0.0.0.0",
            port=8000,
            interface="192.0.2.1",
            groups="239.1.0.0/16",
            group_port=6000,
            ttl=5,
            announce=False,
            insecure=True,
        )
    ]


def test_a_wrong_setting_is_one_line_and_nothing_starts(
    supervised: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve.main(["--bind", "0.0.0.0"]) == 2
    assert supervised == []
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_ready_is_said_with_the_address(
    supervised: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    serve.main([])
    assert capsys.readouterr().out == "station ready at http://127.0.0.1:7460\n"
