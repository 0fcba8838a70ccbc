"""Hostile datagrams at idle loudspeakers, at every port of a station, and while it is on air.

A tenth of a million here; `make attack` sends all of it.
"""

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from statistics import median

import numpy as np
import pytest

from bench.demo import VOICE
from bench.measure import Recording, offset_seconds
from bench.processes import Bench, end, wait_until
from tests.support.hostile import Attacker, Stolen, how_many, memory_bytes
from tests.support.recordings import recorded
from tests.support.wire import Sniffer, children, flood, needs_root, udp_ports
from transport.net.clocks import now_ns

pytestmark = pytest.mark.realtime

SECOND = 1_000_000_000
RATE = 20_000
ROUND = 100_000
MORE_BYTES = 5 << 20
POOL = 4_000
Send = tuple[tuple[str, int] | None, tuple[str, int], bytes]


@contextmanager
def _programme(station: Bench, *to: str) -> Iterator[Stolen]:
    """A programme that nobody speaks on; its loudspeakers wait, and know its keys."""
    grant = station.send("POST", "/api/v1/live", {"to": list(to), "priority": "emergency"})
    try:
        yield _stolen(station, grant["programme"])
    finally:
        with suppress(Exception):  # it ends by itself if nobody speaks
            station.send("DELETE", f"/api/v1/programmes/{grant['programme']}", None)


def _stolen(station: Bench, programme: str) -> Stolen:
    """What each of its loudspeakers was told."""
    (row,) = station.get(f"/api/v1/programmes/{programme}/key")["streams"]
    return Stolen(int(row["ssrc"], 16), bytes.fromhex(row["key"]), row["timestamp_offset"])


def _pool(attacker: Attacker, seconds: float) -> list[bytes]:
    """Datagrams whose times lie in the coming seconds: the media clock shows wall time here."""
    now = time.time_ns() * 48 // 1_000_000
    return [attacker.datagram(now + round(48_000 * seconds * n / POOL)) for n in range(POOL)]


def _captured(station: Bench, name: str) -> list[bytes]:
    """True packets of the station's, of a programme that is over."""
    with Sniffer(frozenset({station.get("/api/v1/station")["ports"]["media"]})) as wire:
        words = [str(VOICE), "--server", station.address, "--to", name]
        voice = station.start("live", *words, log="captured")
        wait_until(lambda: len(wire.seen) > 100, "packets to steal")
        end(voice)
    return [seen.data for seen in wire.seen]


def _media_port(speaker: subprocess.Popen[str], station_port: int) -> int:
    """Where unicast comes in: the port that is connected to the station's."""
    found = [port for port, (_, there) in udp_ports(speaker.pid).items() if there == station_port]
    assert len(found) == 1
    return found[0]


def test_an_idle_loudspeaker_is_silent_and_does_not_grow(bench: Bench) -> None:
    needs_root()
    bench.start_station()
    bench.start_speaker("victim")
    source = bench.start_speaker("source", "--output", "null")
    bench.wait_until_idle(["victim", "source"])
    captured = _captured(bench, "source")
    victim = bench.start_speaker("idle")
    bench.wait_until_idle(["idle"])
    station = "127.0.0.1", bench.get("/api/v1/station")["ports"]["media"]
    port = _media_port(victim, station[1])
    total, sent, rates = how_many(), 0, []
    baseline = 0
    while sent < total:
        with _programme(bench, "idle", "source") as stolen:
            pool = _pool(Attacker(sent, stolen, captured), ROUND / RATE)
            # As if they came from the station: what does not is dropped by the kernel.
            sends: list[Send] = [(station, ("127.0.0.1", port), data) for data in pool]
            first = (total // 10, ROUND - total // 10)
            for part in filter(None, first if not sent else (ROUND,)):
                rates.append(flood(sends, RATE, part))
                sent += part
                baseline = baseline or memory_bytes(victim.pid)
    # What it says of itself may be half a second old; or it never met most of them.
    wait_until(lambda: _dropped(bench, "idle") > sent / 4, "it to have met most of them", 20)
    grown = memory_bytes(victim.pid) - baseline
    print(
        f"{sent} at {min(rates):.0f}/s; {_dropped(bench, 'idle')} dropped by the loudspeaker, "
        f"memory {baseline >> 20} MB {grown / (1 << 20):+.2f} MB after the first tenth"
    )
    assert victim.poll() is None
    assert source.poll() is None
    assert grown <= MORE_BYTES
    end(victim)
    assert not np.any(Recording.load(bench.recording("idle")).samples)


def _dropped(bench: Bench, name: str) -> int:
    return int(bench.speakers()[name].get("packets_dropped", 0))


def test_every_port_of_a_station_bears_it(bench: Bench) -> None:
    needs_root()
    bench.start_station()
    bench.start_speaker("listener")
    bench.wait_until_idle(["listener"])
    captured = _captured(bench, "listener")
    ports = bench.get("/api/v1/station")["ports"]
    before = children(bench.station.pid)
    with _programme(bench, "listener") as stolen:
        pool = _pool(Attacker(1, stolen, captured), 10.0)
    udp = [ports[name] for name in ("time", "media", "rtcp")]
    sends: list[Send] = [(None, ("127.0.0.1", udp[n % 3]), data) for n, data in enumerate(pool)]
    total = how_many()
    flood(sends, RATE, total // 10)
    _rubbish_by_tcp([ports[name] for name in ("control", "ingest", "gateway")], pool[:100])
    sizes = {name: memory_bytes(number) for name, number in before.items()}
    rate = flood(sends, RATE, total - total // 10)
    _rubbish_by_tcp([ports[name] for name in ("control", "ingest", "gateway")], pool[:300])
    assert children(bench.station.pid) == before, "a process died"
    grown = {name: memory_bytes(number) - sizes[name] for name, number in before.items()}
    print(
        f"{total} at {rate:.0f}/s, grown by (MB):",
        {k: round(v / 2**20, 2) for k, v in grown.items()},
    )
    assert max(grown.values()) <= MORE_BYTES
    words = [str(VOICE), "--server", bench.address, "--to", "listener"]
    bench.start("live", *words, log="after")
    wait_until(
        lambda: bench.speakers()["listener"].get("level_dbfs", -96) > -50, "a voice afterwards"
    )


def _rubbish_by_tcp(ports: list[int], pool: list[bytes]) -> None:
    for n, data in enumerate(pool):
        with suppress(OSError), socket.create_connection(("127.0.0.1", ports[n % 3]), 1) as tcp:
            tcp.sendall(data)


def test_a_programme_on_air_stays_whole_under_a_flood(bench: Bench) -> None:
    needs_root()
    bench.start_station()
    victim = bench.start_speaker("victim", "--buffer-ms", "40")
    bench.start_speaker("calm", "--buffer-ms", "40")
    bench.wait_until_idle(["victim", "calm"])
    captured = _captured(bench, "calm")
    ports = bench.get("/api/v1/station")["ports"]
    station = "127.0.0.1", ports["media"]
    there = "127.0.0.1", _media_port(victim, station[1])
    words = [str(VOICE), "--repeat", "50", "--server", bench.address, "--to", "all"]
    bench.start("live", *words, "--playout-delay-ms", "300", log="live")
    wait_until(lambda: bench.speakers()["victim"]["level_dbfs"] > -50, "the voice")
    stolen = _stolen(bench, bench.get("/api/v1/programmes")[0]["name"])
    pool = _pool(Attacker(2, stolen, captured), 6.0)
    strangers: list[Send] = [(None, there, data) for data in pool]
    # A neighbour who forges the station's address and has everything but the group's key.
    forged: list[Send] = [(station, there, data) for data in pool if not _is_sealed(data, stolen)]
    udp = [ports[name] for name in ("time", "media", "rtcp")]
    at_ports: list[Send] = [(None, ("127.0.0.1", udp[n % 3]), d) for n, d in enumerate(pool)]
    for what, sends in (("strangers", strangers), ("forged", forged), ("station", at_ports)):
        rounds = [_flooded(bench, what, sends) for _ in range(3)]
        # A core that is taken away for a moment spoils one of three; a flood does that each time.
        assert median(missed for missed, _ in rounds) == 0
        assert median(alike for _, alike in rounds) > 0.999


def _flooded(bench: Bench, what: str, sends: Sequence[Send]) -> tuple[int, float]:
    """For two seconds: what the victim missed, and how like the calm one it sounded."""
    before, began_ns = bench.speakers(), now_ns()
    rate = flood(sends, RATE, 2 * RATE)
    ended_ns = now_ns()
    time.sleep(1.0)  # what was said last is heard, written and told
    after = bench.speakers()
    lost = {
        name: {
            count: after[name][count] - before[name][count]
            for count in ("packets_lost", "packets_late", "underruns")
        }
        for name in after
    }
    one, two = (recorded(bench.recording(name), ended_ns) for name in ("victim", "calm"))
    alike = offset_seconds(one, two, began_ns + SECOND // 2, ended_ns - began_ns - SECOND // 2)
    print(
        f"{what} at {rate:.0f}/s: {lost}; like the calm one {alike.correlation:.4f}, "
        f"{alike.seconds * 1e6:+.1f} us"
    )
    victim = lost["victim"]
    return victim["packets_lost"] + victim["packets_late"], alike.correlation


def _is_sealed(data: bytes, stolen: Stolen) -> bool:
    """Whether it is what a thief sealed: those may use up the allowance of verifications."""
    return len(data) > 100 and data[8:12] == stolen.ssrc.to_bytes(4) and data[0] == 0x90


def test_kill_after_kill_no_index_repeats_under_a_key(bench: Bench) -> None:
    """Producer and sender are killed in turn in mid-programme; the wire is captured throughout."""
    needs_root()
    kills = 100 * how_many() // 1_000_000
    bench.start_station()
    bench.start_speaker("a", "--buffer-ms", "40")
    bench.wait_until_idle(["a"])
    media = bench.get("/api/v1/station")["ports"]["media"]
    with Sniffer(frozenset({media})) as wire:
        words = ["tone", "--server", bench.address, "--to", "all", "--playout-delay-ms", "200"]
        bench.start("live", *words, log="live")
        wait_until(lambda: bench.speakers()["a"]["level_dbfs"] > -50, "the tone")
        moments = []
        for n in range(kills):
            module = ("server.producer", "server.sender")[n % 2]
            wait_until(lambda: set(children(bench.station.pid)) >= {module}, module)  # noqa: B023
            moments.append(now_ns())
            subprocess.run(["kill", "-9", str(children(bench.station.pid)[module])], check=True)
            time.sleep(2.7)  # each lives for more than 5 s, as in a day of work
    rtp = [s for s in wire.seen if s.data[0] >> 6 == 2 and not 192 <= s.data[1] <= 223]
    rtcp = [s for s in wire.seen if s.data[0] >> 6 == 2 and 192 <= s.data[1] <= 223]
    indices = [(s.data[8:12], s.data[2:4]) for s in rtp]
    report_indices = [(s.data[4:8], s.data[-4:]) for s in rtcp]
    ssrcs = {ssrc for ssrc, _ in indices}
    recording = recorded(bench.recording("a"), moments[-1] + 5 * SECOND // 2)
    silences = [_silence_s(recording, at_ns) for at_ns in moments]
    print(
        f"{kills} kills: {len(rtp)} RTP and {len(rtcp)} RTCP packets, {len(ssrcs)} SSRCs; "
        f"silence {np.median(silences):.3f} s median, {max(silences):.3f} s at most"
    )
    # To one loudspeaker each packet goes once, so an index that is there twice was used twice.
    assert len(set(indices)) == len(indices)
    assert len(set(report_indices)) == len(report_indices)
    assert len(ssrcs) >= kills / 2, "a producer that was born anew took an SSRC again"
    assert max(silences) <= 1.0


def _silence_s(recording: Recording, at_ns: int) -> float:
    """The longest silence within the 2.5 s after a moment."""
    start, _ = recording.index_at(at_ns)
    sound = recording.samples[start : start + round(2.5 * recording.rate)]
    block = recording.rate // 100
    loud = [np.max(np.abs(sound[i : i + block])) > 0.001 for i in range(0, len(sound), block)]
    longest = run = 0
    for is_loud in loud:
        run = 0 if is_loud else run + 1
        longest = max(longest, run)
    return longest / 100
