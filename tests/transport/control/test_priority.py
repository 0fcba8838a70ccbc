from itertools import permutations

from transport.control.messages import StreamSpec
from transport.control.priority import heard


def spec(order: int, ssrc: int = 0) -> StreamSpec:
    return StreamSpec("p", order, ssrc, 96, 0, 20.0, inband_fec=False, playout_delay_ms=100.0)


def test_nobody_is_heard_when_nobody_speaks() -> None:
    assert heard([]) is None


def test_the_highest_order_is_heard_however_they_are_listed() -> None:
    for streams in permutations([spec(-3), spec(0), spec(7)]):
        assert heard(streams) == spec(7)


def test_the_earlier_voice_is_heard_again_when_the_later_has_ended() -> None:
    assert heard([spec(1), spec(2)]) == spec(2)
    assert heard([spec(1)]) == spec(1)
