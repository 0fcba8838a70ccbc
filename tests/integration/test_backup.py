"""A station of real processes is backed up while it runs, lost and put back."""

import subprocess
from pathlib import Path

import pytest

from bench.demo import VOICE
from bench.processes import Bench, end, wait_until
from server.data import DataFolder
from tests.support.ports import port_of_its_own
from tests.support.postgresql import Server

pytestmark = pytest.mark.realtime


@pytest.fixture(params=["sqlite", "postgresql"])
def bench(request: pytest.FixtureRequest, bench: Bench) -> Bench:
    """A bench whose station's database is a file, or on a server."""
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        url = server.new_database().replace("loa@", "loa:hush-hush@")
        bench.data.create("Bench", f'database = "{url}"\n', url)
    return bench


def test_loudspeakers_take_a_station_put_back_for_theirs(bench: Bench, tmp_path: Path) -> None:
    port = port_of_its_own()
    bench.start_station(port=port)
    bench.start_speaker("market")
    bench.wait_until_idle(["market"])
    bench.send("PUT", "/api/v1/zones/before", {"definition": {"tag": "x"}})
    told = command_lines(bench.station.pid)
    assert "hush-hush" not in told
    file = tmp_path / "station.tar"
    done = bench.run("backup", str(file))
    assert done.returncode == 0, done.stderr
    bench.send("PUT", "/api/v1/zones/after", {"definition": {"tag": "x"}})

    # What loudspeakers have heard since is younger than the back-up: keys, and beginnings.
    for _ in range(3):
        assert bench.run("keys", "rotate").returncode == 0
        end(bench.station)
        bench.start_station(port=port)
        bench.wait_until_idle(["market"])
    end(bench.station)
    bench.data.path.rename(tmp_path / "lost")
    done = bench.run("restore", str(file), "--data", str(bench.data.path))
    assert done.returncode == 0, done.stderr
    bench.start_station(port=port)
    bench.wait_until_idle(["market"])
    zones = {zone["name"] for zone in bench.get("/api/v1/zones")}
    assert "before" in zones
    assert "after" not in zones
    words = [str(VOICE), "--server", bench.address, "--to", "market"]
    bench.start("live", *words, log="live")
    wait_until(lambda: bench.speakers()["market"].get("level_dbfs", -96.0) > -60, "it to sound")
    assert DataFolder(bench.data.path).database.exists()


def command_lines(station: int) -> str:
    """Of the station's processes, as anybody on the machine sees them."""
    found = subprocess.run(
        ["ps", "-ww", "-o", "args=", "--pid", str(station), "--ppid", str(station)],
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout
