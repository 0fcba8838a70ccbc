"""`loa speaker`: be a loudspeaker."""

import argparse
import ipaddress
import os
import platform
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from codec.soundcard import hush_libraries
from endpoints.app import Loudspeaker, SpeakerSettings
from endpoints.outputs.base import Output, OutputError, Sink
from endpoints.outputs.device import list_devices, open_device, open_pulse
from endpoints.outputs.pipe import PipeSink
from endpoints.outputs.virtual import NullSink, VirtualDevice
from endpoints.outputs.wav import WavSink
from endpoints.session import RefusedForGood, RestartAsked
from endpoints.simulate import Crystal, SimulatedClock, Simulation, SimulationError
from transport.clock.estimator import ClockEstimate
from transport.control.address import StationAddress
from transport.control.delivery import DELIVERIES, check_delivery
from transport.control.messages import check_name, spelt_alike
from transport.discovery.records import FoundStation
from transport.net.clocks import HostClock, wall_offset_ns

_CARDS = {"device": open_device, "pulse": open_pulse}


class UsageError(Exception):
    """An option that cannot be used; one line."""


class _Ended(Exception):  # noqa: N818 - it is what happened
    """A signal came before there was anything to play."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="loa speaker", description="Be a loudspeaker.")
    parser.add_argument(
        "--server", metavar="HOST[:PORT]", help="the station (the one that answers on this network)"
    )
    parser.add_argument("--name", default=platform.node() or "speaker", help="(%(default)s)")
    parser.add_argument(
        "--output",
        metavar="pulse[:SINK]|device[:NAME]|wav:FILE|pipe|null",
        help="a card of PulseAudio's or PipeWire's, a sound card through PortAudio (device:? "
        "lists them), a recording, raw s16le 48 kHz mono on standard "
        "output, or nothing",
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
        "--no-discovery", action="store_true", help="do not let others find this loudspeaker"
    )
    parser.add_argument(
        "--buffer-ms",
        type=float,
        help="how far ahead the output is filled; must be well below D (10; 5 for a sound card, "
        "which keeps as much again)",
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
    return NullSink()


def _check_output(text: str) -> None:
    kind, _, rest = text.partition(":")
    if text not in {"pipe", "null"} and kind not in _CARDS and not (kind == "wav" and rest):
        raise UsageError(f"--output {text}: use pulse[:SINK], device[:NAME], wav:FILE, pipe, null")


def _build(options: argparse.Namespace) -> Loudspeaker:
    try:
        simulation = Simulation.parse(options.simulate)
        given = StationAddress.parse(options.server) if options.server else None
        name = check_name(spelt_alike(options.name))
        delivery = check_delivery(options.delivery, multicast=options.multicast)
    except (SimulationError, ValueError) as error:
        raise UsageError(str(error)) from None
    if options.interface is not None and not _is_address(options.interface):
        raise UsageError(f"--interface {options.interface}: use an IPv4 address of this machine")
    if options.output is None:
        options.output = "null"
        _say("nothing will be heard, for --output is missing: pulse, device, wav:FILE or pipe")
    if options.buffer_ms is None:
        options.buffer_ms = 5.0 if options.output.partition(":")[0] == "device" else 10.0
    if not 2 <= options.buffer_ms <= 1000:
        raise UsageError(f"--buffer-ms {options.buffer_ms}: use 2 to 1000")
    _check_output(options.output)
    # First, so that nothing is opened, or overwritten, before there is a station.
    server = given or _found(options)
    true = HostClock()
    clock = SimulatedClock(true, simulation)
    output = _output(options, simulation, true, clock)
    settings = SpeakerSettings(
        server,
        name,
        options.multicast,
        delivery,
        options.interface,
        simulation.servo,
    )
    own_clock = None if simulation.time_exchange else _own_wall_clock(clock)
    return Loudspeaker(settings, clock, output, _say, own_clock)


def _output(
    options: argparse.Namespace, simulation: Simulation, true: HostClock, clock: SimulatedClock
) -> Output:
    buffer_samples = round(options.buffer_ms * 48)
    period_samples = max(buffer_samples // 2, 60)
    kind, _, name = options.output.partition(":")
    if kind in _CARDS:
        hush_libraries()
        return _CARDS[kind](
            name, clock, _say, period_samples=period_samples, buffer_samples=buffer_samples
        )
    crystal = Crystal(simulation)
    return VirtualDevice(
        _sink(options.output, crystal),
        crystal,
        true.now_ns,
        clock.of_true,
        period_samples=period_samples,
        buffer_samples=buffer_samples,
        reading_noise_us=simulation.reading_noise_us,
        seed=simulation.seed,
    )


def _found(options: argparse.Namespace) -> StationAddress:
    """The one station of this network; it is looked for until there is one."""
    stations = trio.run(_search, options.interface)
    if not stations:
        raise _Ended
    if len(stations) > 1:
        rows = "".join(f"\n  {station.name} at {station.server.text}" for station in stations)
        raise UsageError(f"several stations answer: choose one with --server{rows}")
    _say(f"found the station {stations[0].name} at {stations[0].server.text}")
    return stations[0].server


async def _search(interface: str | None) -> tuple[FoundStation, ...]:
    """Nothing if a signal came first."""
    from endpoints.discovery import wait_for_stations  # noqa: PLC0415 - see `_presence`

    found: tuple[FoundStation, ...] = ()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
        found = await wait_for_stations(interface, _say)
        nursery.cancel_scope.cancel()
    return found


def _presence(
    options: argparse.Namespace, speaker: Loudspeaker
) -> Callable[[], Awaitable[None]] | None:
    """What makes others find this loudspeaker."""
    if options.no_discovery:
        return None
    # Costs tens of milliseconds to import, which a demo of many loudspeakers need not pay.
    from endpoints.discovery import Presence  # noqa: PLC0415

    presence = Presence(
        spelt_alike(options.name),
        speaker.hello().media_port,
        lambda: speaker.joined,
        _say,
        interface=options.interface,
    )
    return presence.run


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
    if options.output == "device:?":
        return _list_devices()
    try:
        speaker = _build(options)
    except _Ended:
        return 0
    except UsageError as error:
        _say(str(error))
        return 2
    return _play(speaker, options, argv)


def _play(speaker: Loudspeaker, options: argparse.Namespace, argv: list[str]) -> int:
    try:
        trio.run(_until_terminated, speaker, _presence(options, speaker))
    except BaseExceptionGroup as group:
        first = _first(group)
        if isinstance(first, RestartAsked):
            # The same process number, for whoever watches it; everything else is new. It goes
            # back to its station, though another may be found by now.
            words = [*argv, "--server", speaker.server]
            os.execv(sys.executable, [sys.executable, "-P", "-m", "loa", "speaker", *words])  # noqa: S606
        if not isinstance(first, OutputError | RefusedForGood):
            raise
        where = f"{options.output}: " if isinstance(first, OutputError) else ""
        _say(f"{where}{first}")
        return 1
    return 0


def _list_devices() -> int:
    try:
        devices = list_devices()
    except OutputError as error:
        _say(str(error))
        return 1
    print("\n".join(devices) or "this machine has no sound card")
    return 0


async def _until_terminated(
    speaker: Loudspeaker, presence: Callable[[], Awaitable[None]] | None
) -> None:
    """A service manager's SIGTERM ends as cleanly as Ctrl-C."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
        if presence is not None:
            nursery.start_soon(presence)
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
