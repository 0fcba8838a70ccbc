"""How much a connection may say."""

from server.gateway.allowance import Allowance


def test_a_loudspeaker_s_questions_are_always_within_reason() -> None:
    allowance = Allowance(0.0)
    # A burst of eight after each welcome, then two a second, and a pong now and then.
    assert all(allowance.take(85, n * 0.03) for n in range(8))
    assert all(allowance.take(85 + 14, 1 + n / 2) for n in range(10_000))


def test_whoever_says_too_much_is_told_by_its_bytes() -> None:
    allowance = Allowance(0.0)
    assert allowance.take(16_384, 0.0)
    assert not allowance.take(1, 0.0)


def test_an_hour_of_silence_allows_no_more_than_a_minute() -> None:
    assert not Allowance(0.0).take(16_385, 3600.0)
