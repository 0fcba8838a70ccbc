"""How often loudspeakers tell and ask, by how many there are."""

import pytest

from server import pace
from transport.control.messages import Welcome


@pytest.mark.parametrize(
    ("enrolled", "telemetry_s", "time_s"),
    [
        (0, 0.5, 0.25),
        (100, 0.5, 0.25),
        (500, 2.5, 1.0),
        (1_000, 5.0, 2.0),
        (4_000, 20.0, 8.0),
        (20_000, 20.0, 15.0),
    ],
)
def test_the_more_there_are_the_less_often_each_tells_and_asks(
    enrolled: int, telemetry_s: float, time_s: float
) -> None:
    assert (pace.telemetry_s(enrolled), pace.time_s(enrolled)) == (telemetry_s, time_s)


@pytest.mark.parametrize("enrolled", [0, 1, 999, 20_000, 1 << 20])
def test_every_pace_can_be_told_to_a_loudspeaker(enrolled: int) -> None:
    paces = {"telemetry_s": pace.telemetry_s(enrolled), "time_s": pace.time_s(enrolled)}
    Welcome(1, 1, 1, bytes(32), time_port=1, media_port=1, gateway_port=1, **paces)


@pytest.mark.parametrize("telemetry_s", [0.5, 2.0, 20.0])
def test_two_words_may_be_missed_before_a_loudspeaker_is_and_it_is_before_its_session_ends(
    telemetry_s: float,
) -> None:
    assert 2 * telemetry_s * 1e9 < pace.offline_ns(telemetry_s)
    assert pace.offline_ns(telemetry_s) < pace.silence_s(telemetry_s) * 1e9


def test_a_few_loudspeakers_are_missed_after_five_seconds_and_their_sessions_end_after_ten() -> (
    None
):
    assert (pace.offline_ns(0.5), pace.silence_s(0.5)) == (5_000_000_000, 10.0)
    assert (pace.offline_ns(20.0), pace.silence_s(20.0)) == (50_000_000_000, 55.0)
