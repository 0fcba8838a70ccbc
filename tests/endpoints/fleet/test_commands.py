"""What is said to a fleet, and what it does."""

import pytest

from endpoints.fleet.commands import CommandError, obey


class Fleet:
    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []

    def begin(self) -> None:
        self.done.append(("begin", 0))

    def wake(self) -> None:
        self.done.append(("wake", 0))

    def unstall(self) -> None:
        self.done.append(("unstall", 0))

    def hush(self, count: int) -> None:
        self.done.append(("hush", count))

    def stall(self, count: int) -> None:
        self.done.append(("stall", count))


@pytest.mark.parametrize(
    ("line", "done"),
    [
        ("begin", [("begin", 0)]),
        ("wake", [("wake", 0)]),
        ("unstall\n", [("unstall", 0)]),
        ("hush 10", [("hush", 10)]),
        ("hush 0", [("hush", 0)]),
        ("stall 3", [("stall", 3)]),
        ("stall", [("stall", 2)]),
        ("figures", []),
        ("quit", []),
    ],
)
def test_each_command_does_one_thing(line: str, done: list[tuple[str, int]]) -> None:
    fleet = Fleet()
    assert obey(line, fleet, 10, 2) == line.split(maxsplit=1)[0].strip()
    assert fleet.done == done


@pytest.mark.parametrize(
    "line", ["", "hush", "hush 11", "hush -1", "hush x", "wake 3", "shout", "begin now", "hush ²"]
)
def test_anything_else_is_refused_and_does_nothing(line: str) -> None:
    fleet = Fleet()
    with pytest.raises(CommandError):
        obey(line, fleet, 10, 2)
    assert fleet.done == []
