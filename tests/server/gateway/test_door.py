"""Who may come in, and how much it may say."""

import pytest

from server.gateway import door as module
from server.gateway.door import MAX_STRANGERS_EACH, Allowance, Door

HERE, THERE = "192.0.2.1", "192.0.2.2"


def test_so_many_strangers_of_one_address_come_in_and_no_more() -> None:
    door = Door()
    assert [door.knock(HERE) for _ in range(MAX_STRANGERS_EACH + 2)] == [
        *[True] * MAX_STRANGERS_EACH,
        False,
        False,
    ]


def test_those_of_another_address_come_in_all_the_same() -> None:
    door = Door()
    for _ in range(MAX_STRANGERS_EACH + 1):
        door.knock(HERE)
    assert door.knock(THERE)


def test_whoever_is_known_makes_room_for_the_next_stranger_of_its_address() -> None:
    door = Door()
    for _ in range(10 * MAX_STRANGERS_EACH):
        assert door.knock(HERE)
        door.know(HERE)


def test_whoever_leaves_makes_room() -> None:
    door = Door()
    for _ in range(10 * MAX_STRANGERS_EACH):
        assert door.knock(HERE)
        door.leave(HERE)


def test_a_full_house_takes_nobody_until_somebody_departs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
    door = Door()
    for _ in range(2):
        assert door.knock(HERE)
        door.know(HERE)
    assert not door.knock(THERE)
    door.depart()
    assert door.knock(THERE)


def test_strangers_of_many_addresses_leave_room_for_those_who_are_known() -> None:
    door = Door()
    came = sum(door.knock(f"192.0.2.{n % 250}") for n in range(8_000))
    assert came == module.MAX_STRANGERS < module.MAX_CONNECTIONS


def test_addresses_that_have_left_are_forgotten() -> None:
    door = Door()
    for number in range(1000):
        door.knock(f"10.0.{number // 250}.{number % 250}")
        door.leave(f"10.0.{number // 250}.{number % 250}")
    assert not door._strangers


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
