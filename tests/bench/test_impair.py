"""`loa impair`: what it refuses, and real processes on either side of it."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import pytest

from bench.demo import VOICE
from bench.impair import main
from bench.impair_replay import Interval, losses, rms_us, steps
from bench.impair_scene import HERE, THERE, Impaired, hear, station_port, step
from bench.processes import Bench, end, wait_until
from bench.trace import load_trace

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
        (
            ["--profile", "R5", "--record", "pyproject.toml"],
            "pyproject.toml: File exists: name a f",
        ),
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
        words = ("--trace", str(trace), "--record", str(bench.folder / "met"))
        impaired = Impaired(bench, port, *words, listen=f"{THERE}:{listen}")
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
        said = impaired.end(number)
    met = f"{listen}-1-up.trace"
    assert (said["recorded"][met]["packets"], said["unrecorded"]) == (100, 0)
    recorded = load_trace(bench.folder / "met" / met)
    assert recorded.loss == 0.5
    assert all(delay_ns > 0 for delay_ns in recorded.fates if delay_ns is not None)
    figures = said["ports"][str(listen)]
    assert figures["up"] == {
        **dict.fromkeys(("duplicated", "dropped", "in_flight"), 0),
        "sent": 100,
        "delivered": 50,
        "lost": 50,
    }


@pytest.mark.realtime
@pytest.mark.parametrize("path", ["R20", "M2"])
def test_a_loudspeaker_behind_it_plays_what_came_in_step(path: str, bench: Bench) -> None:
    heard = hear(bench, "--profile", path, "--rtt-ms", "100", "--seed", "3")
    simulated = Interval.of(losses(path, heard.packets, 400))
    print(f"{path}: {heard.loss:.3f} of {heard.packets} lost; {simulated}")
    print(f"{heard.apart_s * 1e6:.0f} us apart; {heard.figures['late_p99_ms']} ms late at p99")
    assert (heard.packets > 500, heard.rows["far"]["way"]) == (True, "udp")
    # Nothing is lost on the way there, but the station may have had no time to send it.
    assert heard.rows["near"]["packets_lost"] <= bench.get("/api/v1/station")["sender"]["stale"]
    assert simulated.least <= heard.loss <= simulated.most
    # The way up is as long as the way down, so it knows the time well in spite of the distance.
    assert abs(heard.apart_s) < 0.002


@pytest.mark.realtime
def test_neighbours_behind_it_are_as_far_apart_as_in_a_simulation_of_these_delays(
    bench: Bench,
) -> None:
    stepped = step(bench, "L1", seed=3, settle_s=14, seconds=12)
    real_us = rms_us(stepped.apart_us)
    simulated = Interval.of(steps(stepped.met, stepped.watch, 30))
    in_order = Interval.of(steps(stepped.met, stepped.watch, 4, in_order=True))
    print(f"{real_us:.1f} us apart; {simulated} by these delays, {in_order} in the same order")
    lost = [round(one.down.loss, 3) for one in stepped.met]
    print(f"lost on the way to each: {lost}")
    # Of each it was 0.009 to 0.08 in half a minute of bursts.
    assert 0.02 < fmean(lost) < 0.12
    assert simulated.least <= real_us <= simulated.most
    # What is not recorded, as how long a process takes from its clock to its socket, adds a little.
    assert 0.6 <= real_us / in_order.middle <= 1.7


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
