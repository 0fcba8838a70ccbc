"""A real station behind real HTTPS, and the commands asked of it as a person would."""

import asyncio
import importlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from loa.__main__ import VERBS
from server.__main__ import _server
from tests.support.tls import station_tls

Room = Any  # the fixture's; see the conftest above


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def cells(self, line: int = 1) -> list[str]:
        """One line of a table, without the blanks between."""
        return [cell.strip() for cell in self.lines[line].split("  ") if cell.strip()]


class Desk:
    """Where an operator sits; `room` is what is behind the wall."""

    def __init__(self, room: Room, capture: pytest.CaptureFixture[str]) -> None:
        self.room = room
        self._capture = capture

    async def loa(self, *words: str) -> Said:
        """Run one verb in a thread, as the station runs in this one."""
        status = await asyncio.to_thread(_run, words)
        return Said(status, *self._capture.readouterr())

    async def says(self, *words: str) -> Said:
        """The same, of a verb that must do it."""
        said = await self.loa(*words)
        assert (said.status, said.err) == (0, ""), said
        return said


def _run(words: tuple[str, ...]) -> int:
    module, _, function = VERBS[words[0]][0].partition(":")
    try:
        return int(getattr(importlib.import_module(module), function or "main")(list(words[1:])))
    except SystemExit as ended:
        return int(ended.code or 0)


@pytest.fixture
def at_desk(
    play_control: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[[Callable[[Desk], Awaitable[None]]], None]:
    """Play a scenario at the desk of a station that is served: `at_desk(async function)`."""

    async def serve(room: Room, scenario: Callable[[Desk], Awaitable[None]]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            monkeypatch.setenv("LOA_SERVER", f"127.0.0.1:{listening.getsockname()[1]}")
            monkeypatch.setenv("LOA_FINGERPRINT", station_tls().hash.hex())
            monkeypatch.setenv("LOA_TOKEN", room.control.access.token)
            server = _server(room.control, station_tls().accepting())
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                await scenario(Desk(room, capsys))
            finally:
                server.should_exit = True
                await serving

    def play(scenario: Callable[[Desk], Awaitable[None]]) -> None:
        play_control(lambda room: serve(room, scenario), real_time=True)

    return play
