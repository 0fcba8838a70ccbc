"""Hundreds of loudspeakers, each with a real session, come at once to one process."""

import random
import secrets
import time
from collections import Counter

import pytest
import trio

from endpoints.station.session import ControlSession
from endpoints.station.store import SEED_BYTES, KnownStation, SpeakerState
from tests.support.reception import Figures, Reception, reception
from tests.support.sessions import ROOT
from tests.support.stations import seed_of_name
from tests.support.visitor import FakeSpeaker
from transport.control.address import StationAddress

COUNT = 300
# More than from one address are let shake hands at once; see server.door.
PATIENCE_S = 40.0
MOST_KB = 80


class InMemory:
    """All that a session needs of a store."""

    def __init__(self, state: SpeakerState) -> None:
        self.state = state

    async def keep(self, state: SpeakerState) -> None:
        self.state = state


class Fleet:
    """Of one process and one address."""

    def __init__(self, port: int) -> None:
        self.said: Counter[str] = Counter()
        station = KnownStation(StationAddress("127.0.0.1", port), ROOT.public)
        names = map(str, range(COUNT))
        self._states = [SpeakerState(seed_of_name(name), name, station) for name in names]
        assert len(self._states[0].seed) == SEED_BYTES

    async def come(self, nursery: trio.Nursery) -> None:
        """All at once; returns when all have been welcomed."""
        speakers = []
        for state in self._states:
            speakers.append(FakeSpeaker())
            session = ControlSession(
                InMemory(state), speakers[-1], random.random, secrets.token_bytes, self._hear
            )
            nursery.start_soon(session.run)
        with trio.fail_after(PATIENCE_S):
            while not all(speaker.welcomes for speaker in speakers):  # noqa: ASYNC110
                await trio.sleep(0.02)

    def _hear(self, line: str) -> None:
        self.said[line.partition(" at ")[0]] += 1


async def all_are_gone(station: Reception) -> Figures:
    with trio.fail_after(PATIENCE_S):
        while (figures := station.figures()).sessions:  # noqa: ASYNC110
            await trio.sleep(0.05)
    return figures


@pytest.mark.realtime
def test_a_fleet_comes_at_once_and_again_and_costs_what_it_may() -> None:
    async def scenario(station: Reception) -> None:
        fleet = Fleet(station.port)
        before = station.figures()
        for time_number in (1, 2):  # what the first time leaves behind shall not add to the second
            began_s, cpu_s = time.monotonic(), station.figures().cpu_s
            async with trio.open_nursery() as nursery:
                await fleet.come(nursery)
                took_s, now = time.monotonic() - began_s, station.figures()
                each_kb = (now.memory_kb - before.memory_kb) / COUNT
                print(
                    f"{COUNT} joined in {took_s:.2f} s: {each_kb:.0f} KB a session, "
                    f"{(now.cpu_s - cpu_s) / COUNT * 1e3:.2f} ms of CPU a join"
                )
                assert now.sessions == COUNT
                assert each_kb <= MOST_KB
                nursery.cancel_scope.cancel()
            # Nobody was sent away to come again.
            assert fleet.said == {"joined the station": time_number * COUNT}
            await all_are_gone(station)

    with reception(COUNT) as station:
        trio.run(scenario, station)
