"""Ways in arrays: the right rows, in an order in which nobody moves who need not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server.directory import Endpoint
from server.processes.routing import unpack_destinations
from server.speakers import Path, Speaker
from server.ways import Order, Ways


def endpoint(name: str, delivery: str = "lan") -> Endpoint:
    return Endpoint(name, "unit", delivery=delivery)


def speaker(name: str, port: int | None = None, relay_number: int = 0) -> Speaker:
    path = None if port is None else Path("192.0.2.1", port)
    return Speaker(name, b"", "192.0.2.1", 0, path=path, relay_number=relay_number)


def directly(ways: Ways) -> set[int]:
    """The ports that are sent to."""
    return {port for _, port, _ in unpack_destinations(ways.rows[ways.direct].tobytes())}


def test_who_has_a_path_is_sent_to_and_who_has_none_is_not() -> None:
    ways = Ways()
    ways.put(speaker("a", 1), endpoint("a"))
    ways.put(speaker("b"), endpoint("b"))
    assert directly(ways) == {1}
    ways.put(speaker("a", 2), endpoint("a"))
    assert directly(ways) == {2}
    ways.close("a")
    ways.close("nobody")
    assert directly(ways) == set()


def test_who_is_at_the_gateway_is_not_sent_to_by_udp() -> None:
    ways = Ways()
    ways.put(speaker("a", 1, relay_number=7), endpoint("a"))
    assert (directly(ways), set(ways.relays[ways.relays != 0])) == (set(), {7})
    ways.close("a")
    assert not ways.relays.any()


def test_there_is_room_for_more_than_at_first() -> None:
    ways = Ways()
    for port in range(1, 1_001):
        ways.put(speaker(f"s{port}", port), endpoint(f"s{port}"))
    assert directly(ways) == set(range(1, 1_001))


def test_who_is_alike_is_of_one_kind_and_who_changes_is_of_another() -> None:
    ways, endpoints = Ways(), {name: endpoint(name) for name in ("a", "b")}
    one, two = ways.places(["a", "b"], endpoints)
    assert ways.kind_at[one] == ways.kind_at[two]
    endpoints["b"] = endpoint("b", "wan")
    ways.follow({"b", "nobody"}, endpoints)
    kinds = [ways.kinds[ways.kind_at[at]].delivery for at in (one, two)]
    assert kinds == ["lan", "wan"]


def test_the_place_of_who_is_gone_is_another_s() -> None:
    ways = Ways()
    ways.put(speaker("a", 1), endpoint("a"))
    ways.follow({"a"}, {})
    assert directly(ways) == set()
    ways.put(speaker("b", 2), endpoint("b"))
    assert directly(ways) == {2}
    (place,) = ways.places(["b"], {})
    assert place == 0


def test_each_row_is_found_at_its_place() -> None:
    ways = Ways()
    for name, port in (("a", 1), ("b", None), ("c", 3)):
        ways.put(speaker(name, port), endpoint(name))
    rows = ways.places_of_rows()
    assert {unpack_destinations(row)[0][1]: at for row, at in rows.items()} == {1: 0, 3: 2}


# ------------------------------------------------------------------ the order
SIZE = 12
SETS = st.sets(st.integers(0, SIZE - 1))


def follow(order: Order, wanted: set[int]) -> list[int]:
    places: list[int] = order.follow(np.array(sorted(wanted), np.intp), SIZE).tolist()
    return places


@given(st.lists(SETS, min_size=1), st.permutations(range(SIZE)))
def test_whoever_is_wanted_is_in_the_order_once(changes: list[set[int]], former: list[int]) -> None:
    order = Order([*former, *former])
    for wanted in changes:
        assert sorted(follow(order, wanted)) == sorted(wanted)


@given(SETS, SETS)
def test_nobody_moves_but_to_fill_the_place_of_who_has_left(
    before: set[int], after: set[int]
) -> None:
    order = Order()
    old = {place: at for at, place in enumerate(follow(order, before))}
    new = {place: at for at, place in enumerate(follow(order, after))}
    moved = [place for place in before & after if old[place] != new[place]]
    assert len(moved) <= len(before - after)
    assert not moved or all(old[place] >= len(after) for place in moved)


def test_newcomers_stand_at_the_end() -> None:
    order = Order()
    assert follow(order, {5, 7}) == [5, 7]
    assert follow(order, {1, 5, 7}) == [5, 7, 1]
    assert follow(order, {1, 3, 7}) == [3, 7, 1]
    assert follow(order, {1, 3}) == [3, 1]


def test_a_former_order_is_kept_to() -> None:
    assert follow(Order([9, 2, 4]), {2, 4, 9, 1}) == [9, 2, 4, 1]
