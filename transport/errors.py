"""What may come from the network; our own misuse is a `ValueError` and not here."""

from __future__ import annotations

__all__ = ["MalformedPacket", "TransportError"]


class TransportError(Exception):
    """Everything this package raises on account of the outside world."""


class MalformedPacket(TransportError):  # noqa: N818 - it names the thing received, as an event would
    """Bytes from the network that are not what they claim to be.

    `reason` is one of a small fixed set of words and never quotes the bytes, so a caller may use
    it as the key of a counter without a stranger being able to grow that counter's memory.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
