"""`loa serve`: run the station."""

import argparse
import sys

from server.settings import Settings, SettingsError
from server.supervise import supervise


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="loa serve", description="Run the station.")
    parser.add_argument(
        "--bind", default=defaults.bind, help="IPv4 address to listen on (%(default)s)"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=defaults.port,
        help="HTTP and control (TCP) and time (UDP); the next three are used too; "
        "0: any free ports (%(default)s)",
    )
    parser.add_argument(
        "--interface", help="IPv4 address that multicast leaves by (that of --bind)"
    )
    parser.add_argument("--groups", default=defaults.groups, help="multicast range (%(default)s)")
    parser.add_argument(
        "--group-port",
        type=int,
        default=defaults.group_port,
        help="multicast RTP port, even; RTCP is the next (%(default)s)",
    )
    parser.add_argument("--ttl", type=int, default=defaults.ttl, help="of multicast (%(default)s)")
    parser.add_argument("--no-announce", dest="announce", action="store_false", help="no SAP")
    parser.add_argument(
        "--insecure", action="store_true", help="allow --bind beyond this machine, without users"
    )
    return parser


def main(argv: list[str]) -> int:
    """Run until Ctrl-C."""
    options = _parser().parse_args(argv)
    try:
        return supervise(Settings(**vars(options)), _say_ready)
    except SettingsError as error:
        print(f"loa serve: {error}", file=sys.stderr)
        return 2


def _say_ready(address: str) -> None:
    print(f"station ready at http://{address}", flush=True)
