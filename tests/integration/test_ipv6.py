"""A station of both families: whoever calls it by IPv6 hears it by IPv6."""

import socket
from contextlib import closing

import pytest

from bench.processes import Bench, wait_until

pytestmark = pytest.mark.realtime

TONE_DBFS = -23.0  # 1 kHz at a peak of -20 dBFS
BY_IPV4, BY_IPV6, BY_GROUP = "a", "b", "c"


@pytest.fixture
def station(bench: Bench) -> Bench:
    """One that is bound to everything, and called by IPv6."""
    with closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    bench.start_station("--bind", "::", "--interface", "127.0.0.1")
    bench.address = f"[::1]:{bench.address.rpartition(':')[2]}"
    return bench


def test_loudspeakers_of_both_families_hear_one_voice(station: Bench) -> None:
    port = station.address.rpartition(":")[2]
    station.start_speaker(BY_IPV6, "--output", "null")
    station.start_speaker(BY_GROUP, "--output", "null", "--multicast")
    station.start_speaker(BY_IPV4, "--output", "null", "--server", f"127.0.0.1:{port}")
    names = [BY_IPV4, BY_IPV6, BY_GROUP]
    station.wait_until_idle(names)
    station.start("live", "tone", "--server", station.address, "--to", *names, log="live")
    wait_until(
        lambda: all(abs(row["level_dbfs"] - TONE_DBFS) < 1 for row in station.speakers().values()),
        "the tone at every loudspeaker",
    )
    rows = station.speakers()
    assert [rows[name]["address"] for name in names] == ["127.0.0.1", "::1", "::1"]
    assert [rows[name]["way"] for name in (BY_IPV4, BY_IPV6)] == ["udp", "udp"]
    assert [rows[name]["fault"] for name in names] == ["", "", ""]
