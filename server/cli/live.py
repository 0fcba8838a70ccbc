"""`loa live`: speak a microphone, a file, a stream or a test tone to loudspeakers."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.live import Live
from rich.text import Text

from codec.errors import SourceError
from codec.format import SAMPLE_RATE
from server.cli.api import default_station
from server.cli.sources import Speech, add_source_options, chimed, speech
from server.live.client import LiveClient, Progress
from server.live.station import LiveError
from transport.control.priority import Priority

# Sound is sent in blocks of a frame, of ten milliseconds at most.
_BLOCK_MS = 10.0
# Of those who listen, or do not.
_NAMED = 8


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="loa live",
        usage="loa live SOURCE --zone ZONE [ZONE ...] [--to SPEAKER ...] [options]",
        description="Speak to loudspeakers until the input ends or Ctrl-C.",
    )
    add_source_options(parser)
    for option, metavar, what in (("--zone", "ZONE", "zones"), ("--to", "SPEAKER", "names")):
        parser.add_argument(
            option, nargs="+", action="extend", default=[], metavar=metavar, help=f"{what}, or all"
        )
    parser.add_argument(
        "--priority",
        default="live",
        choices=[level.name.lower() for level in Priority],
        help="the higher is heard where both are meant (%(default)s)",
    )
    parser.add_argument(
        "--server",
        default=default_station(),
        metavar="HOST[:PORT]",
        help="the station ($LOA_SERVER, or this machine's)",
    )
    parser.add_argument("--bitrate", type=int, default=24_000, help="bits a second (%(default)s)")
    parser.add_argument(
        "--frame-ms",
        type=float,
        help="2.5, 5, 10, 20, 40 or 60 (as the loudspeakers' networks ask)",
    )
    parser.add_argument(
        "--complexity", type=int, default=9, help="of the encoder, 0 to 10 (%(default)s)"
    )
    parser.add_argument(
        "--playout-delay-ms",
        type=float,
        help="D: capture to loudspeaker (the largest that the loudspeakers' networks ask)",
    )
    parser.add_argument("--dtx", action="store_true", help="send nothing in silence")
    parser.add_argument("--fec", action="store_true", help="Opus in-band FEC")
    parser.add_argument(
        "--expected-loss", type=int, default=0, metavar="PERCENT", help="for FEC (%(default)s)"
    )
    parser.add_argument(
        "--test", action="store_true", help="no real announcement: it is marked as a test"
    )
    return parser


def _request(options: argparse.Namespace) -> dict[str, object]:
    return {
        "to": options.to,
        "zones": options.zone,
        "priority": options.priority,
        "bitrate": options.bitrate,
        "frame_ms": options.frame_ms,
        "complexity": options.complexity,
        "dtx": options.dtx,
        "inband_fec": options.fec,
        "expected_loss_percent": options.expected_loss,
        "playout_delay_ms": options.playout_delay_ms,
        "test": options.test,
    }


def main(argv: list[str]) -> int:
    """Speak; the exit status is 0 only if everything was said."""
    options = _parser().parse_args(argv)
    try:
        samples = round(
            min(_BLOCK_MS, max(options.frame_ms or _BLOCK_MS, 1.0)) * SAMPLE_RATE / 1000
        )
        spoken = speech(options, samples, _say)
        client = LiveClient(options.server, _request(options))
        _say_opened(client)
        return _speak(client, _whole(client, spoken, samples, chime=options.chime))
    except (SourceError, LiveError, ValueError) as error:
        _say(str(error))
        return 1


def _say(text: str) -> None:
    print(f"loa live: {text}", file=sys.stderr, flush=True)


def _whole(client: LiveClient, spoken: Speech, samples: int, *, chime: bool) -> Iterator[Progress]:
    if chime:
        yield from client.speak(chimed(samples))
    yield from client.speak(spoken.blocks, spoken.patience_s, spoken.live, samples)


def _few(names: tuple[str, ...]) -> str:
    """All of these names, or the first and how many more: there may be thousands."""
    more = len(names) - _NAMED
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown


def _say_opened(client: LiveClient) -> None:
    grant = client.grant
    print(f"{grant.programme} on air to {_few(grant.listening) or 'nobody yet'}", flush=True)
    if grant.not_listening:
        print(
            f"not listening yet: {_few(grant.not_listening)}; they join when they return",
            file=sys.stderr,
        )
    if grant.sdp is not None:
        print(f"for stock players: {grant.sdp}", flush=True)


def _speak(client: LiveClient, progress: Iterator[Progress]) -> int:
    console = Console(stderr=True)
    screen = Live(console=console, auto_refresh=False, transient=True)
    showing: AbstractContextManager[object] = screen if console.is_terminal else nullcontext()
    interrupted = False
    with showing:
        try:
            for so_far in progress:
                if console.is_terminal:
                    screen.update(_line(so_far), refresh=True)
        except KeyboardInterrupt:
            interrupted = True  # Ctrl-C is how a live voice ends
        finally:
            client.finish()
    summary = client.progress
    print(f"{client.grant.programme} ended after {summary.seconds:.1f} s", flush=True)
    if summary.holes:
        print(f"the source was late and left {summary.holes} holes", file=sys.stderr)
    if summary.dropped_samples:
        dropped_s = summary.dropped_samples / SAMPLE_RATE
        print(f"the source was ahead: {dropped_s:.1f} s of it were dropped", file=sys.stderr)
    if summary.seconds == 0 and not interrupted:
        raise LiveError("the source was empty")
    if summary.seconds > 0 and not summary.sounded:
        raise LiveError("the source was silent throughout")
    return 0


def _line(progress: Progress) -> Text:
    filled = round((progress.level_dbfs + 60) / 60 * 30) if progress.level_dbfs > -60 else 0
    bar = "█" * filled + "·" * (30 - filled)
    return Text(f"on air {progress.seconds:7.1f} s  {bar} {progress.level_dbfs:6.1f} dBFS")
