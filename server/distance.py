"""By how much later a loudspeaker along a street sounds, for the sound of the first to meet it.

Sound takes 3 ms for a metre. Whoever stands far down a street, where all the horns look the same
way, hears the nearest horn first and every one before it as an echo; where each waits until the
sound of the first has come as far as itself, all are heard as one. Pure.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from server.directory import DirectoryError, Endpoint, Position
from transport.control.messages import MAX_TRIM_US

_EARTH_M = 6_371_008.8  # the mean radius (IUGG)
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Delay:
    """How far a loudspeaker is from where the sound begins, and the trim that follows."""

    name: str
    distance_m: float
    trim_us: int


def speed_of_sound(temperature_c: float) -> float:
    """In dry air, m/s: 331.3 at 0 degrees, 343.2 at 20 (ideal gas)."""
    return 331.3 * math.sqrt(1 + temperature_c / 273.15)


def distance_m(one: Position, other: Position) -> float:
    """Over the ground, by the haversine formula: to half a percent."""
    latitudes = math.radians(one.latitude), math.radians(other.latitude)
    across = math.radians(other.longitude - one.longitude)
    up = latitudes[1] - latitudes[0]
    straight = (
        math.sin(up / 2) ** 2
        + math.cos(latitudes[0]) * math.cos(latitudes[1]) * math.sin(across / 2) ** 2
    )
    return 2 * _EARTH_M * math.asin(min(1.0, math.sqrt(straight)))


def delays(endpoints: Iterable[Endpoint], origin: Position, temperature_c: float) -> list[Delay]:
    """The trims of these, the nearest first; it is not delayed at all.

    DirectoryError if one has no position, or stands so far behind the nearest that no trim can
    make up for it.
    """
    endpoints = list(endpoints)
    lost = sorted(endpoint.name for endpoint in endpoints if endpoint.position is None)
    if lost:
        raise DirectoryError(
            f"nobody said where to find {_listed(lost)}: `loa speakers set NAME --position LAT,LON`"
        )
    away = sorted(
        (distance_m(origin, e.position), e.name) for e in endpoints if e.position is not None
    )
    speed = speed_of_sound(temperature_c)
    found = [Delay(n, m, round((m - away[0][0]) / speed * 1e6)) for m, n in away]
    if found and found[-1].trim_us > MAX_TRIM_US:
        most_m = MAX_TRIM_US / 1e6 * speed
        behind_m = found[-1].distance_m - found[0].distance_m
        raise DirectoryError(
            f"{found[-1].name} stands {behind_m:.1f} m further than {found[0].name}: a trim makes "
            f"up for {most_m:.1f} m at most"
        )
    return found


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
