"""What a check found. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is: nothing to do; works, but look at it; the station does not work so."""

    OK = "ok"
    LOOK = "look"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """Of one check: what was found and, unless that is well, what to do."""

    check: str
    level: Level
    found: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """For people."""
        what = f"{self.found}: {self.remedy}" if self.remedy else self.found
        return f"{self.level:<5}  {self.check:<11}  {' '.join(what.split())}"

    @property
    def row(self) -> dict[str, str]:
        """For machines."""
        return {
            "check": self.check,
            "level": str(self.level),
            "found": self.found,
            "remedy": self.remedy,
        }


def size_text(count: int) -> str:
    """Bytes, as people say them."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
