"""`loa impair`: the bench's bad networks between whole processes, as a UDP proxy.

Where both addresses have one port number, the whole station there is at hand: its TCP passes
unchanged, and its time (UDP, the port itself), its media (the port + 2) and RTCP (+ 3) each through
the model. So a loudspeaker need only call the proxy: it finds the station's other ports at the
address it called. Where the numbers differ, it is a proxy of that UDP port alone.
"""

import argparse
import gc
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.impair_crossings import Crossings
from bench.impair_record import MOST_PACKETS, Recorder
from bench.impair_sockets import PortError, TcpPassage, UdpProxy, resolved
from bench.network import MS, PROFILES, SECOND, Impairments, Profile, profile
from bench.trace import load_trace
from server.processes.priority import keep_the_beat
from transport.control.address import StationAddress

# Of a station's ports, from its own on (server.settings): live audio is a source's, not heard here.
_UDP, _TCP = (0, 2, 3), (0, 1, 4)
_LAST_PORT = 65_535 - 4
_QUEUE_MS = 200.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loa impair",
        description="Put a bad network between a station and whoever calls it here, by UDP. If "
        "both addresses have the same port, everything of a station is passed on, TCP unchanged: "
        "loa impair --listen 127.0.0.2:7460 --to 127.0.0.1:7460 --profile M2, then "
        "loa speaker --server 127.0.0.2:7460. Multicast does not come this way.",
    )
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="where to be called")
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="where the station is")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--profile", metavar="P", help=f"one of {', '.join(PROFILES)}")
    kind.add_argument(
        "--trace", type=Path, metavar="FILE", help="a line a packet: `lost` or a delay in ms"
    )
    parser.add_argument("--up-profile", metavar="Q", help="to the station (as from it)")
    parser.add_argument("--rtt-ms", type=float, metavar="MS", help="in place of the profile's")
    parser.add_argument(
        "--kbps", type=float, metavar="N", help="what a client's line carries each way"
    )
    parser.add_argument(
        "--queue-ms",
        type=float,
        default=_QUEUE_MS,
        metavar="MS",
        help="how much waits where that is not enough, before some is dropped (%(default)g)",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="(%(default)s)")
    parser.add_argument(
        "--udp-only", action="store_true", help="pass on that UDP port alone, whatever it is"
    )
    parser.add_argument(
        "--record",
        type=Path,
        metavar="DIR",
        help="at the end, write what each packet met, the proxy's own lateness included: a trace "
        "for each port, client and way, as 7460-1-down.trace (for --trace here, and of loa bench "
        f"loss and sync); {MOST_PACKETS:,} packets at most",
    )
    parser.add_argument(
        "--every",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="how often to print the figures, a line of JSON; 0: at the end alone (%(default)g)",
    )
    return parser


def _profile(options: argparse.Namespace) -> Profile:
    """ValueError in one line."""
    if options.trace is not None:
        found = Profile(Impairments(trace=load_trace(options.trace)))
    else:
        found = profile(options.profile)
    if options.up_profile is not None:
        found = found.with_uplink(profile(options.up_profile))
    if options.rtt_ms is not None:
        found = found.with_rtt(options.rtt_ms)
    return found if options.kbps is None else found.limited(options.kbps, options.queue_ms)


def _check(options: argparse.Namespace) -> None:
    if not 0 <= options.every <= 86_400:
        raise ValueError(f"--every {options.every:g}: use 0 to 86400 seconds")
    if options.seed < 0:
        raise ValueError(f"--seed {options.seed}: a seed is not negative")
    if options.record is not None:
        try:
            options.record.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = error.strerror or error
            raise ValueError(f"--record {options.record}: {why}: name a folder") from None


class _Proxy:
    """Everything that is open, until the block ends."""

    def __init__(self, options: argparse.Namespace, listen: StationAddress, to: StationAddress):
        self.recorder = None if options.record is None else Recorder()
        self._crossings = Crossings(
            _profile(options), options.seed, listen.port, recorder=self.recorder
        )
        whole = listen.port == to.port and not options.udp_only
        if whole and listen.port > _LAST_PORT:
            raise ValueError(f"port {listen.port}: a station has five, from {_LAST_PORT} at most")
        here, there = resolved(listen), resolved(to)
        self.udp = [listen.port + step for step in (_UDP if whole else (0,))]
        self.tcp = [listen.port + step for step in (_TCP if whole else ())]
        pairs = [(port, port - listen.port + to.port) for port in self.udp]
        with ExitStack() as opened:  # closes them if one more cannot be had
            self._udp = UdpProxy(here, there, pairs, self._crossings)
            opened.callback(self._udp.close)
            for port in self.tcp:
                opened.callback(TcpPassage(here, port, there).close)
            self._ending = opened.pop_all()

    def run(self, every_ns: int) -> None:
        """Until KeyboardInterrupt; the figures are said every so often, unless that is 0."""
        next_ns = every_ns
        while True:
            self._udp.turn(self._udp.now_ns() + SECOND if not every_ns else next_ns)
            if every_ns and self._udp.now_ns() >= next_ns:
                self.say("figures")
                next_ns += every_ns

    def say(self, event: str, **more: Any) -> None:
        """One line of JSON; counts are since the beginning, ports those where it is called."""
        late = self._crossings.late
        _print(
            event=event,
            seconds=round(self._udp.now_ns() / SECOND, 3),
            ports=self._crossings.figures(),
            unsent=self._udp.unsent,
            late_p50_ms=late.percentile_ms(50),
            late_p99_ms=late.percentile_ms(99),
            late_max_ms=round(late.max_ns / MS, 3),
            **more,
        )

    def close(self) -> None:
        """All sockets."""
        self._ending.close()


def _print(**figures: Any) -> None:
    print(json.dumps(figures), flush=True)


def main(argv: list[str]) -> int:
    """Impair until Ctrl-C."""
    options = _parser().parse_args(argv)
    try:
        _check(options)
        listen, to = StationAddress.parse(options.listen), StationAddress.parse(options.to)
        proxy = _Proxy(options, listen, to)
    except (ValueError, PortError) as error:
        print(f"loa impair: {error}", file=sys.stderr)
        return 2
    keep_the_beat(0)
    gc.collect()
    gc.freeze()  # nothing built so far will be garbage, and a collection takes milliseconds
    _print(event="ready", listen=listen.text, to=to.text, udp=proxy.udp, tcp=proxy.tcp)
    try:
        proxy.run(round(options.every * SECOND))
    except KeyboardInterrupt:
        return _finish(proxy, options)
    finally:
        proxy.close()
    return 0


def _finish(proxy: _Proxy, options: argparse.Namespace) -> int:
    """Say the last figures, and write what was recorded."""
    if proxy.recorder is None:
        proxy.say("end")
        return 0
    proxy.say("end", recorded=proxy.recorder.figures(), unrecorded=proxy.recorder.unrecorded)
    about = f"{options.profile or options.trace}, seed {options.seed}, a line a packet"
    try:
        proxy.recorder.save(options.record, about)
    except OSError as error:
        why = error.strerror or error
        print(f"loa impair: --record {options.record}: {why}", file=sys.stderr)
        return 1
    return 0
