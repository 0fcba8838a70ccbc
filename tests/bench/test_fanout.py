"""That the bench sends what it says to whom it says; how fast this machine is, nobody asserts."""

import argparse
import json
import shutil
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bench import fanout, fanout_peers
from bench.fanout import Task, alternate, c_loop, compiled, figures, median_interval, our_loop
from bench.fanout_sender import Engine
from bench.measure import MeasureError
from transport.net.stamped import udp_socket

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def options(**changed: object) -> argparse.Namespace:
    given: dict[str, object] = dict.fromkeys(("json", "plot", "csv"))
    given |= {"destinations": 40, "packet_bytes": 160, "pairs": 2, "seed": 3, "no_peers": True}
    return argparse.Namespace(**{**given, **changed})


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "_RUN_PACKETS", 80)


@pytest.fixture
def ear() -> Iterator[socket.socket]:
    with udp_socket("0.0.0.0", 0) as udp:
        yield udp


def heard(udp: socket.socket) -> list[bytes]:
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(udp.recv(2048))
    return found


def task(ear: socket.socket, packet_bytes: int = 160) -> Task:
    return Task(40, packet_bytes, int(ear.getsockname()[1]), 3)


@needs_compiler
@pytest.mark.parametrize("packet_bytes", [160, 1_000])
def test_the_loop_in_c_sends_each_frame_to_everybody(
    ear: socket.socket, tmp_path: Path, packet_bytes: int
) -> None:
    program = compiled(tmp_path)
    assert program is not None
    with c_loop(program, task(ear, packet_bytes)) as loop:
        assert loop.run_us() > 0
        assert [len(packet) for packet in heard(ear)] == [packet_bytes] * 80
        loop.run_us()
        assert len(heard(ear)) == 80


@pytest.mark.parametrize("how", ["sendmmsg", "sendto"])
def test_our_loop_sends_each_frame_to_everybody(ear: socket.socket, how: str) -> None:
    with our_loop(how, task(ear)) as loop:
        assert loop.run_us() > 0
        packets = heard(ear)
    assert [len(packet) for packet in packets] == [160] * 120  # one frame before any is measured
    assert [packets.count(packet) for packet in set(packets)] == [40] * 3  # each sealed once


def test_a_frame_is_as_long_as_was_asked_for(ear: socket.socket) -> None:
    with udp_socket("0.0.0.0", 0) as udp:
        engine = Engine(udp, "sendmmsg", 3, 225, "127.1.0.1", int(ear.getsockname()[1]), 1)
        assert engine.frame() == 225
        assert [len(packet) for packet in heard(ear)] == [225] * 3
        assert engine.fanout.counters.errors == 0
        with pytest.raises(ValueError, match="100 bytes"):
            Engine(udp, "sendmmsg", 3, 99, "127.1.0.1", 9, 1)


def test_a_loop_that_ends_early_is_an_error_of_one_line(ear: socket.socket) -> None:
    with (
        fanout.Loop(["true"], task(ear)) as loop,
        pytest.raises(MeasureError, match=r"^true ended"),
    ):
        loop.run_us()


def test_who_is_measured_takes_turns() -> None:
    order: list[str] = []

    def run(name: str, took: float) -> float:
        order.append(name)
        return took

    ticks: list[int] = []
    found = alternate(lambda: run("a", 2), lambda: run("b", 1), 3, lambda: ticks.append(1))
    assert (order, found, len(ticks)) == (["a", "b"] * 3, [(2, 1)] * 3, 3)


def test_a_ratio_below_one_means_that_c_is_faster() -> None:
    row = figures(Task(10, 160, 9, 1), [(2.0, 1.0), (2.0, 1.5), (2.0, 2.0)])
    assert (row["us_per_packet"], row["c_us_per_packet"]) == (2.0, 1.5)
    assert (row["ratio_low"], row["ratio_to_c"], row["ratio_high"]) == (0.5, 0.75, 1.0)


def test_the_interval_of_fifteen_is_from_the_fourth_to_the_twelfth() -> None:
    """Tables of the sign test: 4 and 12 hold the median 96.5 times of 100."""
    assert median_interval(range(15, 0, -1)) == (4, 12)
    assert median_interval([1, 2, 3, 4, 5]) == (1, 5)
    assert median_interval([1, 2, 3, 4, 5, 6]) == (1, 6)
    assert median_interval([7]) == (7, 7)
    with pytest.raises(ValueError, match="no values"):
        median_interval([])


@needs_compiler
def test_figures_runs_and_plot_go_into_their_files(tmp_path: Path) -> None:
    files = {kind: tmp_path / f"fanout.{kind}" for kind in ("json", "csv", "plot")}
    fanout.run(options(**files))
    found = json.loads(files["json"].read_text())
    assert (found["destinations"], found["packet_bytes"], found["pairs"]) == (40, 160, 2)
    assert found["ratio_low"] <= found["ratio_to_c"] <= found["ratio_high"]
    assert min(found["us_per_packet"], found["c_us_per_packet"]) > 0
    assert found["sendto_us_per_packet"] > 0
    assert found["gstreamer_us_per_packet"] is found["snapserver_us_per_packet"] is None
    assert [row["packet_bytes"] for row in found["sizes"]] == [160]
    assert len(files["csv"].read_text().splitlines()) == 3
    assert "svg" in files["plot"].read_text()


def test_without_a_compiler_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    file = tmp_path / "fanout.json"
    fanout.run(options(json=file, plot=tmp_path / "fanout.svg", no_peers=False))
    found = json.loads(file.read_text())
    assert found["us_per_packet"] > 0
    absent = ("c_us_per_packet", "ratio_to_c", "gstreamer_us_per_packet")
    assert [found[name] for name in absent] == [None] * 3
    assert found["snapserver_us_per_packet"] is None
    assert "NaN" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"destinations": 0}, "--destinations: 1 to"),
        ({"packet_bytes": 99}, "--packet-bytes: 100 to"),
        ({"packet_bytes": 5_000}, "--packet-bytes: 100 to"),
        ({"pairs": 0}, "--pairs: at least 1"),
        ({"csv": Path("/nowhere/x.csv")}, "--csv: /nowhere/x.csv"),
    ],
)
def test_options_that_make_no_sense_are_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        fanout.run(options(**changed))


def test_chunks_of_snapcast_are_counted_when_they_are_whole() -> None:
    def message(kind: int, size: int) -> bytes:
        return struct.pack("<HHHiiiiI", kind, 0, 0, 0, 0, 0, 0, size) + bytes(size)

    data = bytearray(message(3, 10) + message(2, 100) + message(2, 7) + message(2, 50)[:-1])
    assert fanout_peers._take_chunks(data) == 2
    assert len(data) == 26 + 49
    data += b"\0"
    assert fanout_peers._take_chunks(data) == 1
    assert data == b""


@pytest.mark.realtime
@pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="GStreamer is not installed")
def test_gstreamer_is_measured(ear: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout_peers, "_GSTREAMER_FRAMES", (1, 3))
    found = fanout_peers.gstreamer_us(task(ear, 225), "127.1.0.1")
    if found is None:
        pytest.skip("this GStreamer has no multiudpsink")
    assert [len(packet) for packet in heard(ear)] == [225] * 4 * 40


@pytest.mark.realtime
@pytest.mark.skipif(shutil.which("snapserver") is None, reason="snapserver is not installed")
def test_snapserver_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout_peers, "_SNAP_CLIENTS", 20)
    monkeypatch.setattr(fanout_peers, "_SNAP_WARM_S", 1.0)
    monkeypatch.setattr(fanout_peers, "_SNAP_S", 1.0)
    found = fanout_peers.snapserver_us(tmp_path)
    assert found is not None
    assert 0 <= found < 10_000
