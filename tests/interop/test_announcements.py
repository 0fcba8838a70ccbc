"""SAP as a stock receiver would hear it."""

import select
import socket
import urllib.request

import pytest

from bench.demo import VOICE
from bench.processes import Bench, wait_until
from transport.net.stamped import multicast_socket
from transport.rtp.sap import SAP_PORT, SapPacket
from transport.rtp.sdp import StreamDescription

pytestmark = pytest.mark.realtime

# The station's groups are organisation-local (239.192/14); SAP uses the scope's highest address.
GROUP = "239.195.255.255"


def test_a_multicast_programme_is_announced_with_its_sdp_and_deleted_at_its_end(
    station: Bench,
) -> None:
    with multicast_socket(GROUP, SAP_PORT, "127.0.0.1") as ear:
        words = [str(VOICE), "--server", station.address, "--to", "all", "--multicast"]
        voice = station.start("live", *words, log="live")
        first = SapPacket.parse(_next_datagram(ear))
        programme = station.get("/api/programmes")[0]
        url = f"http://{station.address}{programme['sdp']}"
        served = urllib.request.urlopen(url).read().decode()
        assert not first.deletion
        assert first.payload == served
        assert StreamDescription.parse(served).destination.startswith("239.192.76.")

        assert voice.wait(30) == 0
        wait_until(lambda: not station.get("/api/programmes"), "the programme's end")
        last = SapPacket.parse(_next_datagram(ear))
        assert last.deletion
        assert last.message_id_hash == first.message_id_hash


def _next_datagram(ear: socket.socket) -> bytes:
    ready, _, _ = select.select([ear], [], [], 10)
    assert ready, "no announcement within 10 s"
    data: bytes = ready[0].recv(2048)
    return data
