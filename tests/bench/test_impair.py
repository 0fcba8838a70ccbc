"""`loa impair`: what it refuses, and real processes on either side of it."""

import json
import random
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.demo import VOICE, wrong_world
from bench.impair import main
from bench.measure import Recording, offset_seconds
from bench.network import MS, SECOND, profile
from bench.processes import Bench, end, wait_until

HERE, THERE = "127.0.0.1", "127.0.0.2"
TO = ("--listen", "127.0.0.2:7460", "--to", "127.0.0.1:7460")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--profile", "R99"], "no profile 'R99': use one of L0, L1,"),
        (["--profile", "R5", "--up-profile", "x"], "no profile 'x': use one of"),
        (["--profile", "R5", "--rtt-ms", "-1"], "a round trip takes 0 to 60,000 ms"),
        (["--profile", "R5", "--kbps", "0"], "a rate is above 0"),
        (["--profile", "R5", "--kbps", "20"], "a queue has room for a packet"),
        (["--profile", "R5", "--kbps", "nan"], "a rate is above 0"),
        (["--profile", "R5", "--seed", "-1"], "a seed is not negative"),
        (["--profile", "R5", "--every", "-1"], "use 0 to 86400 seconds"),
        (["--profile", "R5", "--to", "::1"], "'::1' is no station's address"),
        (["--profile", "R5", "--to", "nowhere.invalid:7460"], "nowhere.invalid: "),
        (["--profile", "R5", "--listen", "127.0.0.2:65535", "--to", "[::1]:65535"], "has five"),
        (["--profile", "R5", "--listen", "192.0.2.1:7460"], "cannot use UDP port 7460 on 192.0.2."),
        (["--trace", "/nowhere/a.trace"], "/nowhere/a.trace: No such file or directory"),
        (["--trace", "pyproject.toml"], "line 1: '[build-system]': write `lost` or a delay"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main([*TO, *words]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("loa impair: ")
    assert said in printed.err
    assert (len(printed.err.splitlines()), printed.out) == (1, "")


def test_a_profile_or_a_trace_and_not_both(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--profile", "R5", "--trace", "x"]):
        with pytest.raises(SystemExit) as ended:
            main([*TO, *words])
        assert ended.value.code == 2
    assert "--profile" in capsys.readouterr().err


# ------------------------------------------------------------- real processes
def station_port() -> int:
    """The first of five that are free at both addresses, for TCP and UDP."""
    draw = random.Random()
    while True:
        first = draw.randrange(20_000, 32_000)
        if all(_is_free(address, first + step) for step in range(5) for address in (HERE, THERE)):
            return first


def _is_free(address: str, port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


class Impaired:
    """A proxy before `port`, until it is ended."""

    def __init__(self, bench: Bench, port: int, *words: str, listen: str = "") -> None:
        listen = listen or f"{THERE}:{port}"
        given = ("--listen", listen, "--to", f"{HERE}:{port}", *words)
        self._bench = bench
        self._process = bench.start("impair", *given, log="impair")
        assert self._process.stdout is not None
        self.out = self._process.stdout
        self.ready = json.loads(self.out.readline() or "{}")
        assert self.ready, bench.log("impair")

    def end(self, number: int = signal.SIGINT) -> dict[str, Any]:
        """What it says at its end."""
        self._process.send_signal(number)
        lines = [json.loads(line) for line in self.out]
        assert self._process.wait(5) == 0
        assert self._bench.log("impair") == ""
        assert lines[-1]["event"] == "end"
        figures: dict[str, Any] = lines[-1]
        return figures


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(tmp_path) as bench:
        yield bench


@pytest.mark.realtime
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_udp_port_is_impaired_for_anybody_and_ended_cleanly(
    number: signal.Signals, bench: Bench
) -> None:
    trace = bench.folder / "every-second.trace"
    trace.write_text("0\nlost\n" * 500)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as station:
        station.bind((HERE, 0))
        station.settimeout(2)
        port = station.getsockname()[1]
        listen = station_port()
        impaired = Impaired(bench, port, "--trace", str(trace), listen=f"{THERE}:{listen}")
        assert (impaired.ready["udp"], impaired.ready["tcp"]) == ([listen], [])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((THERE, listen))
            for index in range(100):
                client.send(index.to_bytes(2))
            # The way up begins somewhere in the trace: with a packet that is lost, or is not.
            came = [int.from_bytes(station.recv(2)) for _ in range(50)]
            assert came in ([*range(0, 100, 2)], [*range(1, 100, 2)])
        said = json.loads(impaired.out.readline())
        assert said["event"] == "figures"
        figures = impaired.end(number)["ports"][str(listen)]
    assert figures["up"] == {
        **dict.fromkeys(("duplicated", "dropped", "in_flight"), 0),
        "sent": 100,
        "delivered": 50,
        "lost": 50,
    }


@dataclass(frozen=True, slots=True)
class Heard:
    """What a loudspeaker behind the proxy was like, and another that was not."""

    figures: dict[str, Any]
    rows: dict[str, dict[str, Any]]
    apart_s: float


def _hear(bench: Bench, *words: str) -> Heard:
    port = station_port()
    bench.start_station(port=port)
    impaired = Impaired(bench, port, *words, "--every", "0")
    draw = random.Random(20261121)
    for number, (name, where) in enumerate({"near": HERE, "far": THERE}.items()):
        world = wrong_world(draw, number)
        options = ("--server", f"{where}:{port}", "--delivery", "wan", "--buffer-ms", "120")
        bench.start_speaker(name, *options, simulate=world)
    bench.wait_until_idle(("near", "far"))
    said = (str(VOICE), "--repeat", "2", "--zone", "all", "--server", bench.address)
    voice = bench.start("live", *said, log="live")
    wait_until(lambda: bench.speakers()["far"]["state"] == "playing", "its sound")
    began_ns = time.monotonic_ns()
    assert voice.wait(60) == 0
    wait_until(lambda: {row["state"] for row in bench.speakers().values()} == {"idle"}, "the end")
    rows = bench.speakers()
    figures = impaired.end()
    pair = [Recording.load(bench.recording(name)) for name in ("near", "far")]
    apart = offset_seconds(pair[0], pair[1], began_ns + SECOND, 8 * SECOND, 0.2)
    return Heard(figures, rows, apart.seconds)


def _simulated(path: str, sent: int) -> tuple[float, float]:
    """The least and the most that is lost of so many packets, every 20 ms, in 400 runs."""
    rates = []
    for seed in range(400):
        down, _ = profile(path).links(np.random.default_rng(seed))
        for index in range(sent):
            down.send(b"", index * 20 * MS)
        rates.append(down.lost / sent)
    return min(rates), max(rates)


@pytest.mark.realtime
@pytest.mark.parametrize("path", ["R20", "M2"])
def test_a_loudspeaker_behind_it_plays_what_came_in_step(path: str, bench: Bench) -> None:
    heard = _hear(bench, "--profile", path, "--rtt-ms", "100", "--seed", "3")
    near, far = heard.rows["near"], heard.rows["far"]
    # Of the stream itself: repairs are sent in bad moments, and are lost more than other packets.
    sent = near["packets_received"]
    loss = far["packets_lost"] / sent
    low, high = _simulated(path, sent)
    print(f"{path}: {loss:.3f} of {sent} lost, {low:.3f} to {high:.3f} simulated;")
    print(f"{heard.apart_s * 1e6:.0f} us apart; {heard.figures['late_p99_ms']} ms late at p99")
    assert (sent > 500, near["packets_lost"], far["way"]) == (True, 0, "udp")
    assert low <= loss <= high
    # The way up is as long as the way down, so it knows the time well in spite of the distance.
    assert abs(heard.apart_s) < 0.002


@pytest.mark.realtime
def test_where_no_udp_passes_a_loudspeaker_comes_by_the_gateway_behind_it(bench: Bench) -> None:
    trace = bench.folder / "nothing.trace"
    trace.write_text("lost\n")
    port = station_port()
    bench.start_station(port=port)
    impaired = Impaired(bench, port, "--trace", str(trace), "--every", "0")
    bench.start_speaker("far", "--server", f"{THERE}:{port}")
    bench.wait_until_idle(("far",))
    said = (str(VOICE), "--zone", "all", "--server", bench.address)
    voice = bench.start("live", *said, log="live")
    wait_until(lambda: bench.speakers()["far"]["way"] == "gateway", "the gateway")
    wait_until(lambda: bench.speakers()["far"]["packets_received"] > 50, "its sound")
    assert end(voice) == 0
    ports = impaired.end()["ports"]
    assert all(row["up"]["delivered"] == row["down"]["sent"] == 0 for row in ports.values())
    assert ports[str(port)]["up"]["lost"] > 0
