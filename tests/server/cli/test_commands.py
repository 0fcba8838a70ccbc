"""`loa tone`, `loa identify` and `loa restart`."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

Desk = Any  # the fixture's; see conftest
AtDesk = Callable[[Callable[[Desk], Awaitable[None]]], None]


@pytest.fixture
def obeying(monkeypatch: pytest.MonkeyPatch) -> Callable[[Desk, dict[str, str]], list[Any]]:
    """Have loudspeakers answer as told; what they were asked to do."""

    def obey(desk: Desk, answers: dict[str, str]) -> list[Any]:
        asked: list[Any] = []

        async def command(names: list[str], action: str, seconds: float) -> dict[str, str]:
            asked.append((names, action, seconds))
            return {name: answers[name] for name in names}

        monkeypatch.setattr(desk.room.control.sessions, "command", command)
        for name in answers:
            desk.room.join(name)
        return asked

    return obey


Obeying = Callable[[Desk, dict[str, str]], list[Any]]


@pytest.mark.parametrize(
    ("words", "seconds"),
    [(["tone"], 2.0), (["tone", "--seconds", "0.5"], 0.5), (["identify"], 0.0), (["restart"], 0.0)],
)
def test_who_did_it_is_named(
    at_desk: AtDesk, obeying: Obeying, words: list[str], seconds: float
) -> None:
    async def scenario(desk: Desk) -> None:
        asked = obeying(desk, {"a": "", "b": "", "c": ""})
        said = await desk.says(*words, "--to", "a", "b")
        assert said.out == f"{words[0]}: a, b\n"
        assert asked == [(["a", "b"], words[0], seconds)]

    at_desk(scenario)


def test_who_did_not_is_named_with_the_reason_and_the_whole_has_failed(
    at_desk: AtDesk, obeying: Obeying
) -> None:
    async def scenario(desk: Desk) -> None:
        obeying(desk, {"a": "", "b": "it is offline", "c": "live-1 is heard", "d": "it is offline"})
        said = await desk.loa("tone", "--to", "all")
        assert (said.status, said.out) == (1, "tone: a\n")
        assert said.err.splitlines() == [
            "loa tone: not b, d: it is offline",
            "loa tone: not c: live-1 is heard",
        ]
        said = await desk.loa("tone", "--to", "a", "b", "--json")
        assert json.loads(said.out) == {"done": ["a"], "failed": {"b": "it is offline"}}
        assert (said.status, said.err) == (1, "")

    at_desk(scenario)


def test_an_empty_zone_is_nobody(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        assert (await desk.says("identify", "--zone", "all")).out == "nobody is in there\n"

    at_desk(scenario)


@pytest.mark.parametrize("seconds", ["0", "-1", "61", "nan", "long"])
def test_a_tone_of_no_length_is_refused(at_desk: AtDesk, seconds: str) -> None:
    async def scenario(desk: Desk) -> None:
        said = await desk.loa("tone", "--to", "all", f"--seconds={seconds}")
        assert (said.status, len(said.err.splitlines())) == (2, 1)

    at_desk(scenario)


@pytest.mark.parametrize("verb", ["tone", "identify", "restart"])
def test_nobody_is_not_everybody(at_desk: AtDesk, verb: str) -> None:
    async def scenario(desk: Desk) -> None:
        said = await desk.loa(verb)
        assert said.status == 2
        assert said.err.startswith(f"loa {verb}: to whom? ")

    at_desk(scenario)
