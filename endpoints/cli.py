"""`loa speaker`: be a loudspeaker."""

import argparse
import ipaddress
import os
import platform
import signal
import sys
from pathlib import Path

import trio

from endpoints.app import Loudspeaker, SpeakerSettings
from endpoints.outputs.base import Output, OutputError, Sink
from endpoints.outputs.pipe import PipeSink
from endpoints.outputs.virtual import NullSink, VirtualDevice
from endpoints.outputs.wav import WavSink
from endpoints.session import RefusedForGood, RestartAsked
from endpoints.simulate import Crystal, SimulatedClock, Simulation, SimulationError
from transport.clock.estimator import ClockEstimate
from transport.control.address import StationAddress
from transport.control.delivery import DELIVERIES, check_delivery
from transport.control.messages import check_name, spelt_alike
from transport.net.clocks import HostClock, wall_offset_ns


class UsageError(Exception):
    """An option that cannot be used; one line."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loa speaker", description="Be a loudspeaker.")
    parser.add_argument("--server", required=True, metavar="HOST[:PORT]", help="the station")
    parser.add_argument("--name", default=platform.node() or "speaker", help="(%(default)s)")
    parser.add_argument(
        "--output",
        default="null",
        metavar="wav:FILE|pipe|null",
        help="a recording, raw s16le 48 kHz mono on standard output, or nothing (%(default)s)",
    )
    parser.add_argument(
        "--delivery",
        choices=tuple(DELIVERIES),
        default="lan",
        help="the network it is on, which decides D (%(default)s)",
    )
    parser.add_argument(
        "--multicast", action="store_true", help="where the network carries it: lan and wifi"
    )
    parser.add_argument("--interface", help="IPv4 address to join multicast groups on")
    parser.add_argument(
        "--buffer-ms",
        type=float,
        default=10.0,
        help="how far ahead the output is filled; must be well below D (%(default)s)",
    )
    parser.add_argument(
        "--simulate",
        default="{}",
        metavar="JSON",
        help="a wrong clock and crystal, for tests",
    )
    return parser


def _sink(text: str, crystal: Crystal) -> Sink:
    kind, _, rest = text.partition(":")
    if kind == "wav" and rest:
        try:
            return WavSink(Path(rest), crystal)
        except OSError as error:
            raise UsageError(f"cannot write {rest}: {error.strerror or error}") from None
    if text == "pipe":
        return PipeSink(sys.stdout.fileno())
    if text == "null":
        return NullSink()
    raise UsageError(f"--output {text}: use wav:FILE, pipe or null")


def _build(options: argparse.Namespace) -> Loudspeaker:
    try:
        simulation = Simulation.parse(options.simulate)
        server = StationAddress.parse(options.server)
        name = check_name(spelt_alike(options.name))
        delivery = check_delivery(options.delivery, multicast=options.multicast)
    except (SimulationError, ValueError) as error:
        raise UsageError(str(error)) from None
    if options.interface is not None and not _is_address(options.interface):
        raise UsageError(f"--interface {options.interface}: use an IPv4 address of this machine")
    if not 2 <= options.buffer_ms <= 1000:
        raise UsageError(f"--buffer-ms {options.buffer_ms}: use 2 to 1000")
    true = HostClock()
    clock = SimulatedClock(true, simulation)
    crystal = Crystal(simulation)
    buffer_samples = round(options.buffer_ms * 48)
    output: Output = VirtualDevice(
        _sink(options.output, crystal),
        crystal,
        true.now_ns,
        clock.of_true,
        period_samples=max(buffer_samples // 2, 60),
        buffer_samples=buffer_samples,
        reading_noise_us=simulation.reading_noise_us,
        seed=simulation.seed,
    )
    settings = SpeakerSettings(
        server, name, options.multicast, delivery, options.interface, simulation.servo
    )
    own_clock = None if simulation.time_exchange else _own_wall_clock(clock)
    return Loudspeaker(settings, clock, output, _say, own_clock)


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _own_wall_clock(clock: SimulatedClock) -> ClockEstimate:
    """What a loudspeaker that trusts its own wall clock takes for the media clock."""
    return ClockEstimate(clock.now_ns(), 0.0, wall_offset_ns(), 0.0, 0.0)


def _say(text: str) -> None:
    print(f"loa speaker: {text}", file=sys.stderr, flush=True)


def main(argv: list[str]) -> int:
    """Play until Ctrl-C."""
    options = _parser().parse_args(argv)
    try:
        trio.run(_until_terminated, _build(options))
    except UsageError as error:
        _say(str(error))
        return 2
    except BaseExceptionGroup as group:
        first = _first(group)
        if isinstance(first, RestartAsked):
            # The same process number, for whoever watches it; everything else is new.
            os.execv(sys.executable, [sys.executable, "-P", "-m", "loa", "speaker", *argv])  # noqa: S606
        if not isinstance(first, OutputError | RefusedForGood):
            raise
        where = f"{options.output}: " if isinstance(first, OutputError) else ""
        _say(f"{where}{first}")
        return 1
    return 0


async def _until_terminated(speaker: Loudspeaker) -> None:
    """A service manager's SIGTERM ends as cleanly as Ctrl-C."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
        await speaker.run()


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
            return


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
