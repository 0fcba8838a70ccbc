"""The station shows how far neighbours are apart, by the packets that they have in common.

Real processes: four loudspeakers that hear a group, each with a wrong clock; one of them is without
the time exchange, and 20 ms off. A fifth hears by unicast.
"""

import random
from typing import Any

import pytest

from bench.demo import VOICE, wrong_world
from bench.processes import Bench, end, wait_until

pytestmark = pytest.mark.realtime

IN_STEP, WRONG, UNICAST = ("a", "b", "c"), "off", "far"
WRONG_S = 0.02


@pytest.fixture
def rows(station: Bench) -> dict[str, dict[str, Any]]:
    """What the station shows once it has compared them; `step` is its summary."""
    draw = random.Random(20261121)
    for number, name in enumerate((*IN_STEP, UNICAST)):
        multicast = () if name == UNICAST else ("--multicast",)
        station.start_speaker(name, *multicast, simulate=wrong_world(draw, number))
    wrong = {"time_exchange": False, "clock_offset_s": WRONG_S}
    station.start_speaker(WRONG, "--multicast", simulate=wrong)
    everybody = (*IN_STEP, UNICAST, WRONG)
    station.wait_until_idle(everybody)
    words = [str(VOICE), "--repeat", "9", "--server", station.address, "--to", *everybody]
    voice = station.start("live", *words, log="live")
    compared = {*IN_STEP, WRONG}

    def ready() -> bool:
        return all(station.speakers()[name]["step_neighbours"] == 3 for name in compared)

    wait_until(ready, "figures of all neighbours", 50)
    found = station.speakers() | {"step": station.get("/api/v1/station")["step"]}
    found["metrics"] = {"text": station.text("/metrics")}
    end(voice)
    return found


def test_neighbours_are_shown_as_far_apart_as_they_are(rows: dict[str, dict[str, Any]]) -> None:
    shown = {name: rows[name]["step_error_us"] for name in (*IN_STEP, WRONG, UNICAST)}
    print(shown, rows["step"])
    assert all(abs(shown[name]) < 1_000 for name in IN_STEP)
    assert abs(shown[WRONG] - WRONG_S * 1e6) < 2_000
    assert shown[UNICAST] is None
    assert [name for name, row in rows.items() if "its neighbours" in row.get("fault", "")] == [
        WRONG
    ]
    assert [rows[name]["in_step"] for name in (*IN_STEP, WRONG)] == [True] * 3 + [False]
    assert rows["step"]["out_of_step"] == 1
    assert WRONG in rows["step"]["worst"]
    assert "loa_speakers_out_of_step 1.0" in rows["metrics"]["text"]
