"""What may be said of when packets came."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest

from codec.format import SAMPLE_RATE
from transport.control.lateness import MAX_FASTEST, MAX_LATE_US, Lateness
from transport.control.messages import TO_STATION, Telemetry
from transport.errors import MalformedPacket

SAID = Lateness(7, 1_790_000_000, 4, (960, 0), (300.5, -12.0))
TELEMETRY = Telemetry("playing", -20.0, 0.0, 1.0, 0, 0, 0, 0, 1.0, lateness=SAID)


def test_it_comes_as_it_was_said() -> None:
    assert TO_STATION.decode(TO_STATION.encode(TELEMETRY)) == TELEMETRY


def test_who_says_nothing_of_it_is_understood() -> None:
    plain = msgpack.unpackb(TO_STATION.encode(TELEMETRY))
    del plain["lateness"]
    assert TO_STATION.decode(msgpack.packb(plain)) == replace(TELEMETRY, lateness=None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"stream": -1},
        {"stream": 1 << 32},
        {"length_s": 0},
        {"length_s": 129},
        {"begin_s": -4},
        {"begin_s": 1 << 40},
        {"begin_s": 1_790_000_001},
        {"places": (), "late_us": ()},
        {"places": (0,)},
        {"places": (5, 5)},
        {"places": (-1, 0)},
        {"places": (0, 4 * SAMPLE_RATE)},
        {"places": tuple(range(MAX_FASTEST + 1)), "late_us": (0.0,) * (MAX_FASTEST + 1)},
        {"late_us": (0.0, float("nan"))},
        {"late_us": (0.0, float("inf"))},
        {"late_us": (0.0, 1.01 * MAX_LATE_US)},
        {"late_us": (0.0, -1.01 * MAX_LATE_US)},
    ],
)
def test_nonsense_makes_the_whole_message_malformed(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"window|packet|stream"):
        replace(SAID, **wrong)
    plain = msgpack.unpackb(TO_STATION.encode(TELEMETRY))
    plain["lateness"] |= {name: list(v) if isinstance(v, tuple) else v for name, v in wrong.items()}
    with pytest.raises(MalformedPacket):
        TO_STATION.decode(msgpack.packb(plain))
