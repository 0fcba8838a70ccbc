"""Who is heard. One pure function, the same on the station and on the loudspeaker."""

from collections.abc import Iterable
from enum import IntEnum
from typing import Protocol, TypeVar


class Priority(IntEnum):
    """How much a programme matters; the higher number wins."""

    BACKGROUND = 1
    SCHEDULED = 2
    LIVE = 3
    PRIORITY = 4
    EMERGENCY = 5

    @classmethod
    def parse(cls, text: str) -> "Priority":
        """From its name in any case; ValueError names them all."""
        try:
            return cls[text.strip().upper()]
        except KeyError:
            raise ValueError(
                f"{text!r} is no priority: use {', '.join(p.name.lower() for p in cls)}"
            ) from None


class Ranked(Protocol):
    """What can be due to be heard."""

    @property
    def priority(self) -> int: ...  # noqa: D102 - see Priority
    @property
    def order(self) -> int: ...  # noqa: D102 - a later programme has a greater one


AnyRanked = TypeVar("AnyRanked", bound=Ranked)


def heard(due: Iterable[AnyRanked]) -> AnyRanked | None:
    """Of all that is due now the highest priority; of equals the later.

    It has no memory: what was interrupted is heard again when it is still due and nothing above
    it is.
    """
    return max(due, key=lambda item: (item.priority, item.order), default=None)
