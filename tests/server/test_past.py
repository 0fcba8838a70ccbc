"""What was on air, for whoever sees a part of the station: found among very many."""

from collections.abc import Callable
from typing import Any

from server.directory import Endpoint
from server.named import Named
from tests.support.asking import next_page
from tests.support.people import ask_as, person

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]
COMMUNE = "Tân Phú/A"


def spoken(room: Room, named: Named, count: int) -> None:
    """Programmes 1 to `count`: the odd ones to a, the even ones to b."""
    for number in range(1, count + 1):
        to = "a" if number % 2 else "b"
        request = {"to": [to], "zones": []}
        about = {"priority": 2, "request": request, "playout_delay_ms": 200.0, "at": number}
        room.store.programme_began(number, f"live-{number}", **about)
        named.add(number, [to])
    room.control.books.named = named


async def found(room: Room, before: int | None, limit: int, naming: str | None) -> list[int]:
    names = None if naming is None else {naming}
    rows = await room.control.queries.past_programmes(before, limit, names)
    return [row.number for row in rows]


def test_what_is_known_to_name_somebody_comes_first_and_then_all_there_is(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        spoken(room, Named(most=8), 10)  # of the newest four it is known whom they named
        assert await found(room, None, 2, "a") == [9, 7]
        assert await found(room, None, 3, "a") == [9, 7, 6]
        assert await found(room, 9, 3, "a") == [7, 6, 5]
        assert await found(room, 4, 2, "a") == [3, 2]
        assert await found(room, None, 9, "x") == [6, 5, 4, 3, 2, 1]
        assert await found(room, None, 3, None) == [10, 9, 8]

    play_control(scenario)


def test_what_is_forgotten_is_passed_over(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        spoken(room, Named(), 10)
        for number in range(2, 11):  # the first is on air and stays
            room.store.programme_ended(number, number, "it was stopped")
        room.store.forget_programmes(9, 10)
        assert await found(room, None, 2, "a") == [9, 1]

    play_control(scenario)


def test_after_a_restart_it_is_known_again(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        spoken(room, Named(), 3)
        await room.restart_control()
        assert await found(room, None, 9, "a") == [3, 1]

    play_control(scenario)


def test_a_viewer_s_few_among_many_come_in_whole_pages(play_control: Play) -> None:
    # Looked for among all, the first page would be empty after 2,000 rows, and slow.
    async def scenario(room: Room) -> None:
        await room.control.editing.add_unit(COMMUNE)
        shown = await person(room, "viewer", ("viewer", COMMUNE))
        spoken(room, Named(), 30)
        room.control.station.directory.put_endpoint(Endpoint("a", COMMUNE))
        reply = await ask_as(room, shown, "GET", "/api/v1/programmes/past?limit=10")
        pages = [[row["number"] for row in reply.json()]]
        while (path := next_page(reply)) is not None:
            reply = await ask_as(room, shown, "GET", path)
            pages.append([row["number"] for row in reply.json()])
        assert pages == [[29, 27, 25, 23, 21, 19, 17, 15, 13, 11], [9, 7, 5, 3, 1]]

    play_control(scenario)
