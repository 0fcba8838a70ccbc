"""What an output is to the rest of the loudspeaker."""

from collections.abc import Callable
from typing import Protocol

from codec.format import Samples

# Given how many samples are wanted, and when on this machine's clock the first of them will
# sound, the player returns exactly that many.
Pull = Callable[[int, int], Samples]


class OutputError(Exception):
    """The output cannot go on; one line for a person."""


class Output(Protocol):
    """Somewhere for sound to go, which pulls it at its own pace."""

    underruns: int  # how often the player was too late for it
    fault: str  # what is wrong with it now, in one line; empty if nothing is

    async def run(self, pull: Pull) -> None:
        """Pull until cancelled; OutputError if the device fails."""


class Sink(Protocol):
    """What becomes of a simulated sound card's samples."""

    def start(self, true_ns: int) -> None:
        """The card's sample 0 sounds at `true_ns` of the world's time."""

    def write(self, samples: Samples) -> None:
        """Samples that the card plays next, without a gap."""

    def close(self) -> None:
        """Nothing more will come."""
