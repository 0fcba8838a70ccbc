from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.net import clocks
from transport.net.clocks import HostClock, MediaClock, media_epoch_ns

MS, SECOND = 1_000_000, 1_000_000_000
WALL_NS = 1_790_000_000 * SECOND


class FakeTime:
    """A machine whose clocks, scheduler and sleep the test commands."""

    CLOCK_BOOTTIME = 7

    def __init__(self) -> None:
        self.now_ns = 500 * SECOND
        self.slept_ns = 0
        self.wall_ns = WALL_NS  # what CLOCK_REALTIME shows when CLOCK_BOOTTIME shows 0
        self.preemptions: Iterator[int] = iter(())

    def monotonic_ns(self) -> int:
        self._read()
        return self.now_ns - self.slept_ns

    def clock_gettime_ns(self, clock: int) -> int:
        assert clock == self.CLOCK_BOOTTIME
        self._read()
        return self.now_ns

    def sleep(self, seconds: int) -> None:
        """The machine is suspended."""
        self.now_ns += seconds * SECOND
        self.slept_ns += seconds * SECOND

    def time_ns(self) -> int:
        self._read()
        return self.now_ns + self.wall_ns

    def _read(self) -> None:
        self.now_ns += 50 + next(self.preemptions, 0)

    def stamp_ns(self) -> int:
        """The kernel's stamp of a packet that arrives now."""
        return self.now_ns + self.wall_ns


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(clocks, "time", fake)
    return fake


def test_now_is_the_clock_that_goes_on_while_the_machine_sleeps(machine: FakeTime) -> None:
    clock = HostClock()
    before_ns = clock.now_ns()
    machine.sleep(7)
    assert clock.now_ns() - before_ns == pytest.approx(7 * SECOND, abs=100)
    assert clocks.now_ns() == machine.now_ns


def test_how_long_it_has_slept_is_known(machine: FakeTime) -> None:
    assert clocks.slept_ns() == pytest.approx(0, abs=100)
    machine.now_ns += 100 * SECOND
    assert clocks.slept_ns() == pytest.approx(0, abs=100)
    machine.sleep(7)
    assert clocks.slept_ns() == pytest.approx(7 * SECOND, abs=100)


def test_stamps_of_before_and_after_a_sleep_are_trusted(machine: FakeTime) -> None:
    """The wall clock goes on, too: it was not set."""
    clock = HostClock()
    arrived_ns, stamp_ns = machine.now_ns, machine.stamp_ns()
    machine.sleep(7)
    assert clock.of_kernel_stamp(stamp_ns) == pytest.approx(arrived_ns, abs=100)
    arrived_ns, stamp_ns = machine.now_ns, machine.stamp_ns()
    assert clock.of_kernel_stamp(stamp_ns) == pytest.approx(arrived_ns, abs=100)


def test_the_media_clock_goes_on_while_the_station_sleeps(machine: FakeTime) -> None:
    clock = MediaClock(media_epoch_ns())
    machine.sleep(7)
    assert clock.now_ns() == pytest.approx(machine.stamp_ns(), abs=1_000)


def test_the_real_machine_has_not_slept_between_two_looks() -> None:
    assert abs(clocks.slept_ns() - clocks.slept_ns()) < MS


def test_a_kernel_stamp_is_brought_to_the_machines_own_clock(machine: FakeTime) -> None:
    clock = HostClock()
    arrived_ns, stamp_ns = machine.now_ns, machine.stamp_ns()
    machine.now_ns += 5 * MS  # until somebody looked
    converted_ns = clock.of_kernel_stamp(stamp_ns)
    assert converted_ns == pytest.approx(arrived_ns, abs=100)


def test_a_preemption_between_two_readings_does_not_spoil_the_conversion(machine: FakeTime) -> None:
    clock = HostClock()
    arrived_ns, stamp_ns = machine.now_ns, machine.stamp_ns()
    machine.preemptions = iter((0, 7 * MS, 0, 0, 0, 5 * MS))
    converted_ns = clock.of_kernel_stamp(stamp_ns)
    assert converted_ns == pytest.approx(arrived_ns, abs=1_000)


def test_on_a_machine_that_never_lets_it_be_the_tightest_reading_counts(machine: FakeTime) -> None:
    clock = HostClock()
    arrived_ns, stamp_ns = machine.now_ns, machine.stamp_ns()
    machine.preemptions = iter([MS] * 22 + [100_000, 100_000] + [MS] * 1_000)
    converted_ns = clock.of_kernel_stamp(stamp_ns)
    assert converted_ns == pytest.approx(arrived_ns, abs=100_000)


@pytest.mark.parametrize("step_ns", [-3600 * SECOND, -2 * MS, 2 * MS, 3600 * SECOND])
def test_the_first_stamp_after_a_step_of_the_wall_clock_is_not_trusted(
    machine: FakeTime, step_ns: int
) -> None:
    clock = HostClock()
    stamp_ns = machine.stamp_ns()
    machine.now_ns += 5 * MS
    machine.wall_ns += step_ns
    assert clock.of_kernel_stamp(stamp_ns) is None


@pytest.mark.parametrize("step_ns", [-3600 * SECOND, -20 * MS, 20 * MS, 3600 * SECOND])
def test_no_stamp_from_before_a_step_is_trusted_however_many_wait(
    machine: FakeTime, step_ns: int
) -> None:
    clock = HostClock()
    stamps_ns = []
    for _ in range(3):
        stamps_ns.append(machine.stamp_ns())
        machine.now_ns += MS
    machine.wall_ns += step_ns
    machine.now_ns += MS
    assert [clock.of_kernel_stamp(stamp_ns) for stamp_ns in stamps_ns] == [None] * 3


@pytest.mark.parametrize("step_ns", [-3600 * SECOND, 3600 * SECOND])
def test_what_arrives_after_a_step_is_trusted_again(machine: FakeTime, step_ns: int) -> None:
    clock = HostClock()
    old_stamp_ns = machine.stamp_ns()
    machine.wall_ns += step_ns
    assert clock.of_kernel_stamp(old_stamp_ns) is None
    machine.now_ns += MS
    arrived_ns, stamp_ns = machine.now_ns, machine.stamp_ns()
    assert clock.of_kernel_stamp(stamp_ns) == pytest.approx(arrived_ns, abs=100)


def test_a_wall_clock_that_is_slewed_is_followed(machine: FakeTime) -> None:
    clock = HostClock()
    for _ in range(100):
        machine.now_ns += SECOND
        machine.wall_ns += 500_000  # 500 ppm, the most that NTP does
        arrived_ns, stamp_ns = machine.now_ns, machine.stamp_ns()
        assert clock.of_kernel_stamp(stamp_ns) == pytest.approx(arrived_ns, abs=100)


def test_the_media_clock_shows_the_wall_time_of_its_start_and_then_never_steps(
    machine: FakeTime,
) -> None:
    clock = MediaClock(media_epoch_ns())
    assert clock.now_ns() == pytest.approx(machine.stamp_ns(), abs=1_000)
    before_ns = clock.now_ns()
    machine.wall_ns += 3600 * SECOND
    assert clock.now_ns() - before_ns < MS
    assert clock.set_ns == pytest.approx(WALL_NS, abs=1_000)


def test_the_media_clock_brings_stamps_over_and_refuses_them_across_a_step(
    machine: FakeTime,
) -> None:
    clock = MediaClock(WALL_NS)
    stamp_ns = machine.stamp_ns()
    assert clock.of_kernel_stamp(stamp_ns) == pytest.approx(stamp_ns, abs=100)
    machine.wall_ns += SECOND
    assert clock.of_kernel_stamp(stamp_ns) is None


def test_processes_given_the_same_epoch_agree(machine: FakeTime) -> None:
    one, two = MediaClock(WALL_NS), MediaClock(WALL_NS)
    assert two.now_ns() - one.now_ns() < MS


@settings(max_examples=20)
@given(st.integers(-(2**62), 2**62))
def test_the_real_clock_takes_any_stamp_without_raising(stamp_ns: int) -> None:
    clock = HostClock()
    converted_ns = clock.of_kernel_stamp(stamp_ns)
    assert converted_ns is None or converted_ns <= clock.now_ns() + MS
