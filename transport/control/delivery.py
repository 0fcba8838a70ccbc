"""How sound travels to a loudspeaker: what its network asks for, station and loudspeaker alike."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivery:
    """A kind of network: Opus frames of `frame_ms`, heard no sooner than `playout_delay_ms`."""

    frame_ms: float
    playout_delay_ms: float
    may_multicast: bool


DELIVERIES = {
    "lan": Delivery(10.0, 40.0, may_multicast=True),
    "wifi": Delivery(10.0, 100.0, may_multicast=True),
    "wan": Delivery(20.0, 500.0, may_multicast=False),
    "saver": Delivery(60.0, 1000.0, may_multicast=False),
}


def check_delivery(name: str, *, multicast: bool) -> str:
    """The name of a delivery; ValueError in one line for any other, or where it has no groups."""
    delivery = DELIVERIES.get(name)
    if delivery is None:
        raise ValueError(f"{name!r} is no delivery: use {', '.join(DELIVERIES)}")
    if multicast and not delivery.may_multicast:
        raise ValueError(f"delivery {name} goes by unicast alone: leave multicast out")
    return name
