"""Who comes in when."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from endpoints.fleet.session import Turns


class Queue:
    """Five that want to come in, and stay there until they are told to go."""

    def __init__(self, abreast: int) -> None:
        self.turns = Turns(abreast)
        # In the order in which they came; trio wakes tasks in any.
        self.inside: list[int] = []
        self.let_in = [trio.Event() for _ in range(5)]
        self.go = trio.Event()

    async def come(self, index: int) -> None:
        async with self.turns.mine() as over:
            self.inside.append(index)
            await self.let_in[index].wait()
            over()
            over()  # a second welcome gives nobody a second place
            await self.go.wait()


@pytest.mark.trio
@pytest.mark.parametrize(("abreast", "coming"), [(0, 5), (2, 2), (5, 5)])
async def test_no_more_come_at_once_than_may(abreast: int, coming: int) -> None:
    queue = Queue(abreast)
    async with trio.open_nursery() as nursery:
        for index in range(5):
            nursery.start_soon(queue.come, index)
        await wait_all_tasks_blocked()
        assert len(queue.inside) == coming
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_who_was_let_in_makes_room_for_one() -> None:
    queue = Queue(2)
    async with trio.open_nursery() as nursery:
        for index in range(5):
            nursery.start_soon(queue.come, index)
        await wait_all_tasks_blocked()
        queue.let_in[queue.inside[0]].set()
        await wait_all_tasks_blocked()
        assert len(queue.inside) == 3
        for event in queue.let_in:
            event.set()
            await wait_all_tasks_blocked()
        assert len(queue.inside) == 5
        queue.go.set()


@pytest.mark.trio
async def test_who_gives_up_makes_room_too() -> None:
    turns = Turns(1)
    for _ in range(3):
        with trio.move_on_after(0):
            async with turns.mine():
                await trio.sleep_forever()
    with trio.fail_after(1):
        async with turns.mine():
            pass
