"""What N loudspeakers cost, as a line: so much for the station, so much for each. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class CostLine:
    """CPU time of `fixed_us` a second, and `slope_us` a second for each loudspeaker."""

    fixed_us: float
    slope_us: float

    def cost_us(self, endpoints: float) -> float:
        """CPU microseconds a second for so many."""
        return self.fixed_us + self.slope_us * endpoints

    def off(self, endpoints: float, cost_us: float) -> float:
        """How far a measured point lies above the line, as a share of it; below: negative."""
        return cost_us / self.cost_us(endpoints) - 1.0


def fit(points: Sequence[tuple[float, float]]) -> CostLine:
    """The line nearest to these (endpoints, CPU us a second), all of them above 0.

    Each point weighs by how far it is off in proportion, not in microseconds: the largest would
    else be all that counts. ValueError for fewer than two different sizes.
    """
    if len({endpoints for endpoints, _ in points}) < 2:
        raise ValueError("a line needs two different numbers of loudspeakers")
    measured = np.array(points, dtype=np.float64)
    endpoints, cost_us = measured.T
    # Each equation is divided by what was measured: what is left over are shares.
    rows = np.column_stack((1.0 / cost_us, endpoints / cost_us))
    (fixed_us, slope_us), *_ = np.linalg.lstsq(rows, np.ones(len(points)))
    return CostLine(float(fixed_us), float(slope_us))


def sizes(most: int) -> list[int]:
    """100, 300, 1,000, 3,000 and so on up to `most`, which is the last; ValueError below 100."""
    if most < 100:
        raise ValueError("a line from 100 loudspeakers needs more than 100")
    steps = (lead * 10**power for power in range(2, 10) for lead in (1, 3))
    return [*(step for step in steps if step < most), most]
