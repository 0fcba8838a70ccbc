"""`loa speaker`: be a loudspeaker."""

import argparse
import os
import platform
import random
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from codec.soundcard import hush_libraries
from endpoints.app import Loudspeaker, SpeakerSettings
from endpoints.options import NO_NAME, UsageError, check, parser
from endpoints.outputs.base import Output, OutputError, Sink
from endpoints.outputs.device import list_devices, open_device, open_pulse
from endpoints.outputs.pipe import PipeSink
from endpoints.outputs.virtual import NullSink, VirtualDevice
from endpoints.outputs.wav import WavSink
from endpoints.simulate import Crystal, SimulatedClock, Simulation, SimulationError
from endpoints.station.enrol import Enrolment, Wish, is_known
from endpoints.station.given import code_given, is_elsewhere
from endpoints.station.session import Look, RefusedForGood, RestartAsked
from endpoints.station.store import (
    SEED_BYTES,
    NoStateError,
    SpeakerState,
    SpeakerStore,
    StoreError,
    default_path,
)
from transport.clock.estimator import ClockEstimate
from transport.control.address import StationAddress
from transport.control.delivery import check_delivery
from transport.control.messages import check_name, shown, spelt_alike
from transport.net.clocks import HostClock, wall_offset_ns
from transport.security.enrolment import EnrolmentCode

_NOT_ENROLLED = (
    "this loudspeaker belongs to no station yet: get a code with `loa enrol NAME` at the station, "
    "and give it here with --enrol CODE"
)
_CARDS = {"device": open_device, "pulse": open_pulse}


class _Ended(Exception):  # noqa: N818 - it is what happened
    """A signal came before it was enrolled."""


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


@dataclass(frozen=True, slots=True)
class _Plan:
    """What was asked for, and makes sense."""

    options: argparse.Namespace
    simulation: Simulation
    server: StationAddress | None
    code: EnrolmentCode | None
    wish: Wish

    @property
    def settings(self) -> SpeakerSettings:
        return SpeakerSettings(
            self.options.multicast,
            self.options.delivery,
            self.options.interface,
            self.simulation.servo,
            self.server,
            self.options.max_kbps,
        )


def _plan(options: argparse.Namespace) -> _Plan:
    """UsageError; nothing is opened, or overwritten, before all of it makes sense."""
    try:
        simulation = Simulation.parse(options.simulate)
        server = StationAddress.parse(options.server) if options.server else None
        code = code_given(options.enrol, sys.stdin) if options.enrol else None
        name = check_name(spelt_alike(options.name or platform.node() or NO_NAME))
        delivery = check_delivery(options.delivery, multicast=options.multicast)
    except (SimulationError, ValueError) as error:
        raise UsageError(str(error)) from None
    check(options)
    if options.output is None:
        options.output = "null"
        _say("nothing will be heard, for --output is missing: pulse, device, wav:FILE or pipe")
    if options.buffer_ms is None:
        options.buffer_ms = 5.0 if options.output.partition(":")[0] == "device" else 10.0
    return _Plan(options, simulation, server, code, Wish(name, options.multicast, delivery))


def _open(plan: _Plan) -> SpeakerStore:
    """The state file, of a loudspeaker that is enrolled unless it has a code."""
    path = plan.options.state or default_path(os.environ, is_root=os.geteuid() == 0)
    try:
        store = SpeakerStore.open(path, create=plan.code is not None)
    except NoStateError:
        raise UsageError(_NOT_ENROLLED) from None
    if plan.code is None and not store.state.enrolled:
        store.close()
        raise UsageError(_NOT_ENROLLED)
    return store


def _build(plan: _Plan, store: SpeakerStore) -> Loudspeaker:
    options, simulation = plan.options, plan.simulation
    true = HostClock()
    clock = SimulatedClock(true, simulation)
    output = _output(options, simulation, true, clock)
    own_clock = None if simulation.time_exchange else _own_wall_clock(clock)
    return Loudspeaker(
        plan.settings,
        store,
        clock,
        output,
        _say,
        fixed_estimate=own_clock,
        look=_look(plan, store.state),
    )


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


def _look(plan: _Plan, state: SpeakerState) -> Look | None:
    """What looks for the station where it has moved to, unless somebody has said where it is."""
    if plan.server is not None or state.station is None:
        return None
    from endpoints.discovery import looking_for  # noqa: PLC0415 - see `_presence`

    return looking_for(state.station.root, plan.options.interface, _say)


def _enrol(plan: _Plan, code: EnrolmentCode, store: SpeakerStore, seed: bytes | None) -> None:
    """RefusedForGood or StoreError if it cannot be; _Ended if a signal came first."""
    uniform = random.SystemRandom().random
    enrolment = Enrolment(
        store,
        code,
        plan.wish,
        uniform,
        secrets.token_bytes,
        _say,
        server=plan.server,
        seed=seed,
    )
    try:
        trio.run(_until_terminated, enrolment.run, None)
    except BaseExceptionGroup as group:
        raise _first(group) from None
    if not is_known(store.state, code):
        raise _Ended


def _presence(
    options: argparse.Namespace, store: SpeakerStore, speaker: Loudspeaker
) -> Callable[[], Awaitable[None]] | None:
    """What makes others find this loudspeaker."""
    if options.no_discovery:
        return None
    # Costs tens of milliseconds to import, which a demo of many loudspeakers need not pay.
    from endpoints.discovery import Presence  # noqa: PLC0415

    presence = Presence(
        lambda: store.state.name,
        lambda: speaker.joined,
        _say,
        interface=options.interface,
    )
    return presence.run


def _own_wall_clock(clock: SimulatedClock) -> ClockEstimate:
    """What a loudspeaker that trusts its own wall clock takes for the media clock."""
    return ClockEstimate(clock.now_ns(), 0.0, wall_offset_ns(), 0.0, 0.0)


def _say(text: str) -> None:
    # Whole, for it may hold our own advice; a stranger's part of it commands no terminal.
    print(f"loa speaker: {''.join(map(shown, text))}", file=sys.stderr, flush=True)


def main(argv: list[str]) -> int:
    """Play until Ctrl-C."""
    options = parser().parse_args(argv)
    # A code that is elsewhere is used once, and may not be there when this begins anew.
    again = [*argv, "--enrol", ""] if is_elsewhere(options.enrol or "") else argv
    if options.output == "device:?":
        return _list_devices()
    try:
        plan = _plan(options)
        store = _open(plan)
        try:
            _live(plan, store)
        finally:
            store.close()
    except _Ended:
        return 0
    except UsageError as error:
        _say(str(error))
        return 2
    except (StoreError, RefusedForGood) as error:
        _say(str(error))
        return 1
    except OutputError as error:
        _say(f"{options.output}: {error}")
        return 1
    except RestartAsked:
        # The same process number, for whoever watches it; everything else is new.
        os.execv(sys.executable, [sys.executable, "-P", "-m", "loa", "speaker", *again])  # noqa: S606
    return 0


def _live(plan: _Plan, store: SpeakerStore) -> None:
    """Be enrolled, if there is a code and it is needed, and play until a signal comes."""
    code = plan.code
    if code is None or not is_known(store.state, code):
        if code is not None:
            _enrol(plan, code, store, None)
        _play(plan, store)
        return
    _say(f"already enrolled at this station as {store.state.name}: the code is not used")
    try:
        _play(plan, store)
    except RefusedForGood as error:
        # A key that was revoked stays so: another one takes its place.
        _say(f"{error}; enrolling anew with the code")
        _enrol(plan, code, store, secrets.token_bytes(SEED_BYTES))
        _play(plan, store)


def _play(plan: _Plan, store: SpeakerStore) -> None:
    """RefusedForGood, RestartAsked or OutputError, unless a signal ends it."""
    name = store.state.name
    if plan.options.name is not None and spelt_alike(plan.options.name) != name:
        _say(f"it is called {name}: --name is a wish for when it is enrolled")
    speaker = _build(plan, store)
    try:
        trio.run(_until_terminated, speaker.run, _presence(plan.options, store, speaker))
        if speaker.story:
            _say(speaker.story)
    except BaseExceptionGroup as group:
        first = _first(group)
        if not isinstance(first, OutputError | RefusedForGood | RestartAsked):
            raise
        raise first from None


def _list_devices() -> int:
    try:
        devices = list_devices()
    except OutputError as error:
        _say(str(error))
        return 1
    print("\n".join(devices) or "this machine has no sound card")
    return 0


async def _until_terminated(
    run: Callable[[], Awaitable[None]], presence: Callable[[], Awaitable[None]] | None
) -> None:
    """A service manager's SIGTERM ends as cleanly as Ctrl-C."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
        if presence is not None:
            nursery.start_soon(presence)
        await run()
        nursery.cancel_scope.cancel()


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
            return


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
