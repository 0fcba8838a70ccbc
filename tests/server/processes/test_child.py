"""What a process of the station knows of itself, and does to itself."""

import ctypes
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from server.processes.child import Birth, name_process, wake_punctually

_PR_GET_TIMERSLACK = 30


def in_a_thread(act: Callable[[], None]) -> None:
    """What it does to itself ends with it."""
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


def test_its_name_is_what_the_system_calls_it() -> None:
    names: list[str] = []

    def act() -> None:
        name_process("loa-sender-0")
        task = threading.get_native_id()
        names.append(Path(f"/proc/self/task/{task}/comm").read_text().strip())

    in_a_thread(act)
    assert names == ["loa-sender-0"]


def test_it_wakes_up_when_it_asked_to() -> None:
    slacks_ns: list[int] = []

    def act() -> None:
        libc = ctypes.CDLL(None)
        slacks_ns.append(libc.prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0))
        wake_punctually()
        slacks_ns.append(libc.prctl(_PR_GET_TIMERSLACK, 0, 0, 0, 0))

    in_a_thread(act)
    assert slacks_ns[0] > slacks_ns[1] == 1


def test_what_it_was_not_given_is_no_descriptor(births: dict[str, Birth]) -> None:
    birth = births["server.producer"]
    assert -1 in (birth.notebook, birth.secret)
    assert min(birth.descriptors) >= 0
    assert set(birth.wakes) < set(birth.descriptors)


def test_how_many_share_the_destinations_follows_from_the_wake_ups(
    births: dict[str, Birth],
) -> None:
    birth = replace(births["server.sender"], wakes=(10, 11, 12, 13, 14))
    assert (birth.shards, birth.usher_wake, birth.gateway_wake) == (3, 13, 14)
