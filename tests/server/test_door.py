"""Who may stand in the door, and who makes room."""

from server.door import MAX_EACH, MAX_TOGETHER, Door

HERE, THERE = "192.0.2.1", "192.0.2.2"


class Guest:
    def __init__(self) -> None:
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


def arrivals(door: Door, number: int, address: str = HERE) -> list[Guest]:
    guests = [Guest() for _ in range(number)]
    for guest in guests:
        door.arrive(guest, address)
    return guests


def dropped(guests: list[Guest]) -> int:
    """How many of the first have made room; none of the others has."""
    count = sum(guest.dropped for guest in guests)
    assert all(guest.dropped for guest in guests[:count])
    return count


def test_the_oldest_of_an_address_make_room_for_its_newcomers() -> None:
    door = Door()
    assert dropped(arrivals(door, MAX_EACH + 3)) == 3
    assert len(door) == MAX_EACH


def test_whoever_comes_is_told_whether_another_made_room() -> None:
    door = Door(each=1)
    assert not door.arrive(Guest(), HERE)
    assert door.arrive(Guest(), HERE)


def test_a_full_address_is_in_nobody_else_s_way() -> None:
    door = Door(each=3)
    calm = arrivals(door, 2, THERE)
    arrivals(door, 100)
    assert dropped(calm) == 0


def test_a_full_door_is_paid_for_by_the_address_that_has_most() -> None:
    door = Door(each=10, together=12)
    calm = arrivals(door, 2, THERE)
    crowd = arrivals(door, 10)
    newcomers = [arrivals(door, 1, f"198.51.100.{n}")[0] for n in range(5)]
    assert (dropped(calm), dropped(crowd), dropped(newcomers)) == (0, 5, 0)
    assert len(door) == 12


def test_strangers_of_many_addresses_are_so_many_and_no_more() -> None:
    door = Door()
    for number in range(4 * MAX_TOGETHER):
        arrivals(door, 1, f"192.0.2.{number % 250}")
    assert len(door) == MAX_TOGETHER


def test_among_addresses_with_one_each_the_oldest_makes_room() -> None:
    door = Door(together=3)
    guests = [arrivals(door, 1, f"192.0.2.{n}")[0] for n in range(5)]
    assert dropped(guests) == 2


def test_whoever_leaves_makes_room_and_may_leave_twice() -> None:
    door = Door(each=1)
    for _ in range(10):
        (guest,) = arrivals(door, 1)
        door.leave(guest)
        door.leave(guest)
        assert not guest.dropped
    assert len(door) == 0


def test_addresses_that_have_left_are_forgotten() -> None:
    door = Door()
    for number in range(1000):
        (guest,) = arrivals(door, 1, f"10.0.{number // 250}.{number % 250}")
        door.leave(guest)
    assert not door._by_address
