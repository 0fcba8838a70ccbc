"""Which process goes first."""

import os

import pytest

from server.processes import priority


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the kernel was asked for, on a machine of two processors."""
    asked: list[str] = []
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "setpriority", lambda *words: asked.append(f"nice {words[-1]}"))
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: asked.append("real time"))
    return asked


def test_a_sender_keeps_the_beat_as_long_as_it_leaves_a_processor_to_others(
    asked: list[str],
) -> None:
    priority.keep_the_beat(1)
    assert asked[-1] == "real time"
    asked.clear()
    priority.keep_the_beat(2)
    assert "real time" not in asked
    assert asked == ["nice -5"]


def test_who_may_not_goes_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    priority.keep_the_beat(1)
    priority.go_before(priority.PRODUCER)
