"""`loa serve`: run the station."""

import argparse
import os
import sys
from argparse import BooleanOptionalAction

from server.configuration import configure
from server.settings import Settings, SettingsError
from server.supervise import supervise


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="loa serve",
        description="Run the station. What is not given here is taken from the environment "
        "(LOA_PORT for --port, and so on), then from loa.toml in the station's folder.",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="the station's folder, as `loa init` made it "
        "($LOA_DATA, /var/lib/loa or ~/.local/share/loa)",
    )
    parser.add_argument(
        "--bind",
        help=f"IP address to listen on; 0.0.0.0 is all of IPv4, :: all there are ({defaults.bind})",
    )
    parser.add_argument(
        "--port",
        help="HTTP and control (TCP) and time (UDP); the next four are used too; "
        f"0: any free ports ({defaults.port})",
    )
    parser.add_argument(
        "--interface", help="IPv4 address that multicast leaves by (that of --bind)"
    )
    parser.add_argument("--groups", help=f"multicast range ({defaults.groups})")
    parser.add_argument(
        "--group-port", help=f"multicast RTP port, even; RTCP is the next ({defaults.group_port})"
    )
    parser.add_argument("--ttl", help=f"of multicast ({defaults.ttl})")
    parser.add_argument("--announce", action=BooleanOptionalAction, help="announce by SAP (yes)")
    parser.add_argument(
        "--senders",
        help="processes that share the loudspeakers of UDP, each with a spare one "
        f"({defaults.senders})",
    )
    parser.add_argument(
        "--halls",
        help="processes that hold loudspeakers' sessions, for more of them than one process may "
        f"have descriptors ({defaults.halls})",
    )
    parser.add_argument(
        "--audit-days",
        metavar="DAYS",
        help=f"how long rows of the audit log are kept; 0: for ever ({defaults.audit_days})",
    )
    parser.add_argument(
        "--programmes-days",
        metavar="DAYS",
        help=f"and what is known of past programmes ({defaults.programmes_days})",
    )
    parser.add_argument(
        "--tls-certificate",
        metavar="FILE",
        help="PEM, with those that lead to its CA (the one that `loa init` made)",
    )
    parser.add_argument("--tls-key", metavar="FILE", help="its key, PEM, without a passphrase")
    return parser


def main(argv: list[str]) -> int:
    """Run until Ctrl-C."""
    options = _parser().parse_args(argv)
    try:
        return supervise(configure(vars(options), os.environ), _say_ready)
    except SettingsError as error:
        print(f"loa serve: {error}", file=sys.stderr)
        return 2


def _say_ready(address: str) -> None:
    print(f"station ready at https://{address}", flush=True)
