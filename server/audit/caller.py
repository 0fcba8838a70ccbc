"""Who asks, and from where: known to whatever a request sets in motion, without being handed on."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """`who` is a user's name, `token`, `loudspeaker NAME` or `station`; empty if nobody is known.

    `where` is an address, and empty for this machine's own doing.
    """

    who: str
    where: str = ""


STATION = Caller("station")
_calling: ContextVar[Caller] = ContextVar("calling", default=STATION)


def caller() -> Caller:
    """Who set in motion what runs now; the station itself, if nobody else did."""
    return _calling.get()


@contextmanager
def calling(who: str, where: str = "") -> Iterator[None]:
    """What is done in the block, and by the tasks begun in it, is done for this caller."""
    before = _calling.set(Caller(who, where))
    try:
        yield
    finally:
        _calling.reset(before)
