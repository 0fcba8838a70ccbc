"""SAP as a stock receiver would hear it."""

import select
import socket

import pytest

from bench.demo import VOICE
from bench.processes import Bench, ProcessError, wait_until
from transport.net.stamped import multicast_socket
from transport.rtp.sap import SAP_PORT, SapPacket
from transport.rtp.sdp import StreamDescription

pytestmark = pytest.mark.realtime

# The station's groups are organisation-local (239.192/14); SAP uses the scope's highest address.
GROUP = "239.195.255.255"


def test_a_programme_in_clear_is_announced_with_its_sdp_and_deleted_at_its_end(
    station: Bench,
) -> None:
    station.clear_zone("open")
    with multicast_socket(GROUP, SAP_PORT, "127.0.0.1") as ear:
        words = [str(VOICE), "--server", station.address, "--zone", "open"]
        voice = station.start("live", *words, log="live")
        first = SapPacket.parse(_next_datagram(ear))
        programme = station.get("/api/v1/programmes")[0]
        served = station.text(programme["sdp"])
        assert not first.deletion
        assert first.payload == served
        described = StreamDescription.parse(served)
        assert described.destination.startswith("239.192.76.")
        assert described.session_name.endswith(" (unauthenticated)")

        assert voice.wait(30) == 0
        wait_until(lambda: not station.get("/api/v1/programmes"), "the programme's end")
        last = SapPacket.parse(_next_datagram(ear))
        assert last.deletion
        assert last.message_id_hash == first.message_id_hash


def test_a_sealed_programme_is_not_announced(station: Bench) -> None:
    """What is announced next is the one in clear that began after it.

    Each goes on until the end of the test: both are on air then, however long the other took.
    """
    station.clear_zone("open")
    with multicast_socket(GROUP, SAP_PORT, "127.0.0.1") as ear:
        for number, zone in enumerate(("all", "open"), 1):
            words = [str(VOICE), "--repeat", "20", "--server", station.address, "--zone", zone]
            station.start("live", *words, log=f"live-{number}")
            _wait_for_programmes(station, number)
        first = SapPacket.parse(_next_datagram(ear))
        assert "s=Loa live-2 (unauthenticated)" in first.payload
    with pytest.raises(ProcessError, match="is sealed"):
        station.text("/programmes/live-1.sdp")


def _wait_for_programmes(station: Bench, count: int) -> None:
    wait_until(lambda: len(station.get("/api/v1/programmes")) == count, "a programme")


def _next_datagram(ear: socket.socket) -> bytes:
    ready, _, _ = select.select([ear], [], [], 30)
    assert ready, "no announcement within 30 s"
    data: bytes = ready[0].recv(2048)
    return data
