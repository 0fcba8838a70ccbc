"""`loa fleet`: be thousands of loudspeakers at once, without sound, and say what they heard."""

import argparse
import gc
import json
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trio

from endpoints.fleet.commands import COMMANDS, CommandError, obey
from endpoints.fleet.figures import Figures
from endpoints.fleet.fleet import Fleet, FleetSettings
from endpoints.fleet.roster import FleetError, Roster
from transport.control.address import StationAddress
from transport.control.delivery import DELIVERIES, check_delivery
from transport.net.clocks import HostClock

# What this process has open besides a connection for each.
_OTHER_DESCRIPTORS = 50
_TELL_S = 1.0
_STDIN, _MOST_TEXT = 0, 4096
# The thread that hears shall not wait 5 ms for each turn of the interpreter's.
_SWITCH_S = 0.0005
# A fleet makes millions of objects that stay.
_COLLECT_AFTER = (100_000, 50, 100)
_NS_PER_S = 1e9


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loa fleet",
        description="Be thousands of loudspeakers at once: each with a session, a clock and a way "
        "of its own, and an address of loopback. Says what they heard as JSON, a line each second; "
        f"takes commands on standard input: {COMMANDS}.",
    )
    parser.add_argument("--server", required=True, metavar="HOST:PORT", help="the station")
    parser.add_argument(
        "--keys", required=True, type=Path, metavar="FILE", help="who they are, and whom they trust"
    )
    parser.add_argument(
        "--first", type=int, default=0, metavar="I", help="the first of FILE's that this is (0)"
    )
    parser.add_argument(
        "--count", type=int, metavar="N", help="how many from there on (all the rest)"
    )
    parser.add_argument(
        "--base",
        default="127.1.0.0",
        metavar="ADDRESS",
        help="number n of FILE, from 0, has the address n + 1 behind this one (%(default)s)",
    )
    _add_behaviour(parser)
    return parser


def _add_behaviour(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--media-port", type=int, default=0, metavar="P", help="UDP port of all (any free one)"
    )
    parser.add_argument("--multicast", action="store_true", help="they may join groups")
    parser.add_argument(
        "--delivery", choices=tuple(DELIVERIES), help="their network (wan; with --multicast lan)"
    )
    parser.add_argument(
        "--stall-share", type=float, default=0.2, metavar="X", help="what `stall` stalls (0.2)"
    )
    parser.add_argument(
        "--abreast",
        type=int,
        default=256,
        metavar="K",
        help="so many come in at once, for they share one processor; 0 for all (%(default)s)",
    )
    parser.add_argument("--watch", action="store_true", help="a line to read instead of JSON")


def _settings(options: argparse.Namespace, roster: Roster) -> FleetSettings:
    """FleetError for what cannot be."""
    count = len(roster.names) - options.first if options.count is None else options.count
    delivery = options.delivery or ("lan" if options.multicast else "wan")
    if not 0.0 <= options.stall_share <= 1.0 or options.abreast < 0:
        raise FleetError("--stall-share is from 0 to 1, and --abreast 0 or more")
    if not 0 <= options.media_port < 65536:
        raise FleetError(f"--media-port {options.media_port} is no UDP port")
    try:
        server = StationAddress.parse(options.server)
        check_delivery(delivery, multicast=options.multicast)
    except ValueError as error:
        raise FleetError(str(error)) from None
    _raise_descriptors(count * (3 if options.multicast else 1) + _OTHER_DESCRIPTORS)
    return FleetSettings(
        server,
        options.first,
        count,
        options.base,
        options.media_port,
        options.multicast,
        delivery,
        options.abreast,
    )


def _raise_descriptors(needed: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(needed, hard)))
        except (ValueError, OSError):
            raise FleetError(
                f"{needed} files are needed at once, and {hard} allowed: raise `ulimit -n`, or "
                "share the loudspeakers out over several `loa fleet` by --first and --count"
            ) from None


class _Desk:
    """Tells what the fleet does, and does what is said."""

    def __init__(self, fleet: Fleet, count: int, stalled: int, *, watch: bool) -> None:
        self._fleet, self._count, self._stalled = fleet, count, stalled
        self._watch = watch
        self._clock = HostClock()
        self._since_ns = self._clock.now_ns()
        self._all_in = False

    async def tell(self) -> None:
        """Once a second, for ever."""
        while True:
            await trio.sleep(_TELL_S)
            self._tell_joined()
            figures = self._fleet.figures()
            _write(_readable(figures) if self._watch else _event(figures))

    def _tell_joined(self) -> None:
        joined = self._fleet.joined
        if joined == self._count and self._all_in:
            return
        if joined == self._count:
            # Not collected: that takes a second with 10,000 sessions, in which nothing is read.
            gc.freeze()
        self._all_in = joined == self._count
        seconds = (self._clock.now_ns() - self._since_ns) / _NS_PER_S
        if not self._watch:
            _write(_line({"event": "joined", "count": joined, "seconds": round(seconds, 3)}))

    async def obey_lines(self, end: Callable[[], None]) -> None:
        """Until standard input ends; `end` is called when it says so, or when it was a pipe."""
        text = b""
        while data := await trio.to_thread.run_sync(
            os.read, _STDIN, _MOST_TEXT, abandon_on_cancel=True
        ):
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                self._obey(line.decode(errors="replace"), end)
            text = text[-_MOST_TEXT:]
        # Whoever held the other end has gone; a service has nobody there from the beginning.
        if stat.S_ISFIFO(os.fstat(_STDIN).st_mode):
            end()

    def _obey(self, line: str, end: Callable[[], None]) -> None:
        try:
            verb = obey(line, self._fleet, self._count, self._stalled)
        except CommandError as error:
            _say(str(error))
            return
        if verb == "quit":
            end()
        elif verb == "figures":
            _write(_event(self._fleet.figures(), **asdict(self._fleet.details())))
        elif verb == "wake":
            self._since_ns, self._all_in = self._clock.now_ns(), False


def _event(figures: Figures, **details: Any) -> str:
    return _line({"event": "figures", **figures.as_dict(), **details})


def _line(plain: dict[str, Any]) -> str:
    return json.dumps(plain, separators=(",", ":"))


def _readable(figures: Figures) -> str:
    heard = figures.heard
    return (
        f"{figures.joined} of {figures.endpoints} joined, {figures.settled} know the time; "
        f"{heard.received} of {heard.expected} received, {heard.too_late} too late, "
        f"{heard.corrupt} corrupt; late p99 {heard.late_p99_ms:.1f} ms, "
        f"transit p99 {heard.transit_p99_ms:.1f} ms, longest gap {heard.longest_gap_ms:.0f} ms; "
        f"{figures.simulator_dropped} dropped here, {figures.cpu_s:.1f} s of CPU"
    )


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"loa fleet: {text}\n")
    sys.stderr.flush()


async def _end_on_signal(end: Callable[[], None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            end()


async def _run(fleet: Fleet, desk: _Desk) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_on_signal, nursery.cancel_scope.cancel)
        nursery.start_soon(fleet.run)
        nursery.start_soon(desk.tell)
        nursery.start_soon(desk.obey_lines, nursery.cancel_scope.cancel)


def main(argv: list[str]) -> int:
    """Until it is told to quit."""
    options = _parser().parse_args(argv)
    try:
        roster = Roster.read(options.keys)
        settings = _settings(options, roster)
        fleet = Fleet(roster, settings, _say)
    except FleetError as error:
        _say(str(error))
        return 2
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(*_COLLECT_AFTER)
    stalled = round(settings.count * options.stall_share)
    trio.run(_run, fleet, _Desk(fleet, settings.count, stalled, watch=options.watch))
    return 0
