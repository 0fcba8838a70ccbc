"""What a loudspeaker has recorded, once it has come to that: it is written behind its time."""

from pathlib import Path

from bench.measure import MeasureError, Recording
from bench.processes import wait_until

_LONG_S = 30.0


def recorded(path: Path, until_ns: int, since_ns: int = 0) -> Recording:
    """One that reaches `until_ns` and began after `since_ns`; ProcessError if there is none.

    Nanoseconds of the loudspeaker's clock.
    """
    found: list[Recording] = []

    def is_there() -> bool:
        try:
            found[:] = [Recording.load(path)]
        except MeasureError:  # a loudspeaker that is restarted begins it anew
            return False
        begun = found[0].first_sample_time_ns > since_ns
        return begun and found[0].index_at(until_ns)[0] < len(found[0].samples)

    wait_until(is_there, f"{path.name} to be recorded", _LONG_S, 0.1)
    return found[0]
