"""A loudspeaker that an integrator wrote from PROTOCOL.md alone is one of a station's."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from bench.measure import Recording
from bench.processes import Bench, end, wait_until
from codec.format import SAMPLE_RATE, Samples
from tests.protocol.page import KNOWN, PUBLIC, VECTORS
from tests.support.integrator import (
    ENOUGH,
    NAME,
    SECOND_NS,
    THIRD_PARTY,
    Scene,
    beeps,
    code_lines,
    fit,
    imported,
    loaded,
    loudest_hz,
    seconds_heard,
    stolen,
    those,
    with_a_wrong_tag,
)
from tests.support.ports import port_of_its_own
from tests.support.wire import Forger, Sniffer, needs_root, udp_ports

CLIENT = Path(__file__).with_name("integrator_speaker.py")
# What the protocol asks of whoever enrols, hears and obeys; docs/integrating.md says which part
# costs how many.
MOST_LINES = 313


def test_the_client_has_nothing_of_ours() -> None:
    assert imported(CLIENT) == THIRD_PARTY


def test_the_client_is_no_longer_than_it_must_be() -> None:
    assert len(code_lines(CLIENT.read_text())) <= MOST_LINES


# ---------------------------------------------------------------- held to docs/vectors.json
@pytest.fixture
def client(tmp_path: Path) -> Iterator[Any]:
    """It, with the code of the vectors, as it listens to their streams at their time."""
    module = loaded(CLIENT)
    code = VECTORS["read_code_typed"].data.decode()
    speaker = module.Speaker(str(tmp_path / "state"), str(tmp_path / "out.wav"), code)
    with closing(speaker.wav):
        speaker.keep(generation=3)
        speaker.station = PUBLIC["station"]
        speaker.welcome, speaker.id = {"key": KNOWN["Welcome.key"]}, KNOWN["Welcome.session"]
        speaker.now = lambda: int.from_bytes(KNOWN["media sample of now"], "big")
        speaker.listen(msgpack.unpackb(VECTORS["listen"].data)["streams"])
        speaker.refusals = module.BAD
        yield speaker


def test_it_reads_a_code_as_it_may_be_typed(client: Any) -> None:
    assert client.kept["server"] == "192.168.1.10:7460"
    assert client.kept["code"][16:26] == KNOWN["secret of the code"]


def test_it_knows_its_station(client: Any) -> None:
    shown = KNOWN["SHA-256 of the TLS certificate"]
    client.know(msgpack.unpackb(VECTORS["identity"].data), shown)
    assert client.station == PUBLIC["station"]


@pytest.mark.parametrize("name", those("refuse", "identity"))
def test_it_knows_a_stranger(client: Any, name: str) -> None:
    shown = KNOWN["SHA-256 of the TLS certificate"]
    with pytest.raises(client.refusals):
        client.know(msgpack.unpackb(VECTORS[name].data), shown)


def test_it_plays_what_is_sealed_and_certified_alone(client: Any) -> None:
    """The second stream of the vectors comes in clear."""
    assert [stream["programme"] for stream in client.streams.values()] == ["live-7"]
    client.listen(msgpack.unpackb(VECTORS["refuse_listen_priority"].data)["streams"])
    assert not client.streams


@pytest.mark.parametrize("name", ["rtp_sealed", "rtp_copies_sealed", "rtp_symbols_sealed"])
def test_it_opens_a_packet_once(client: Any, name: str) -> None:
    _, _, samples = client.opened(VECTORS[name].data)
    assert len(samples) == 480
    with pytest.raises(client.refusals):
        client.opened(VECTORS[name].data)
    assert client.told["packets_received"] == 1


@pytest.mark.parametrize("name", those("refuse", "sealed", "repair"))
def test_it_drops_a_forged_packet(client: Any, name: str) -> None:
    client.on_sound(VECTORS[name].data)
    assert (client.told["packets_received"], client.told["packets_dropped"]) == (0, 1)


@pytest.mark.parametrize("name", those("refuse", "time"))
def test_it_takes_no_forged_time(client: Any, name: str) -> None:
    reply = VECTORS["time_reply_sealed"].data
    client.question = reply[24:32], 0
    with pytest.raises(client.refusals):
        client.on_time(VECTORS[name].data)
    client.question = reply[24:32], 0
    client.on_time(reply)
    assert len(client.exchanges) == 1


# ---------------------------------------------------------------- at a station
@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """An integrator's loudspeaker with a code for `NAME`."""
    folder = tmp_path_factory.mktemp("integrator")
    with Bench(folder) as bench, (folder / "client.log").open("w") as log:
        # Not one that somebody who calls may have when the station begins anew there.
        bench.start_station(port=port_of_its_own())
        command = [sys.executable, str(CLIENT), str(bench.state(NAME)), str(bench.recording(NAME))]
        process = subprocess.Popen([*command, bench.code(NAME)], stderr=log, cwd=folder)
        try:
            made = Scene(bench, process)
            wait_until(lambda: NAME in bench.speakers(), "the loudspeaker to be enrolled", 30)
            made.wait_until_idle()
            yield made
        finally:
            process.kill()
            process.wait()


def given_up(scene: Scene) -> int:
    """How many packets the station had no time to send: nobody has lost them on the way."""
    return int(scene.bench.get("/api/v1/station")["sender"]["stale"])


def settle(scene: Scene) -> None:
    """Until it plays by all that it was told: it hears words in their order, and this is one."""
    assert scene.post("tone", seconds=0.1) == {"done": [NAME], "failed": {}}
    since = scene.samples()
    wait_until(lambda: scene.samples() > since + SAMPLE_RATE // 2, "half a second of sound", 30)


def sounded(scene: Scene, since: int) -> Samples:
    """What it plays from there on, as soon as that has sounded and is over."""

    def is_over() -> bool:
        played = scene.played(since)
        # Longer than from one beep to the next.
        return bool(np.any(played) and not np.any(played[-SAMPLE_RATE * 2 // 5 :]))

    wait_until(is_over, "a sound and its end", 30)
    return scene.played(since)


@pytest.mark.realtime
def test_it_is_one_of_the_stations(scene: Scene) -> None:
    wait_until(lambda: scene.row["way"] == "udp", "its way to be open", 30)
    row = scene.row
    assert row["enrolled"]
    assert row["in_step"]
    assert 0 < row["clock_uncertainty_us"] < 100_000
    assert scene.bench.state(NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.realtime
def test_it_plays_what_is_spoken_and_says_so(scene: Scene) -> None:
    before, since = scene.row, scene.samples()
    voice = scene.speak()
    scene.wait_until_hearing()
    heard = scene.row
    assert heard["hearing"] in {live["name"] for live in scene.bench.get("/api/v1/programmes")}
    assert heard["state"] == "playing"
    assert heard["authenticated"]
    assert voice.wait(60) == 0, scene.bench.log("live")
    scene.wait_until_idle()
    row = scene.row
    assert row["packets_received"] - before["packets_received"] > 500
    assert 0 <= row["packets_lost"] - before["packets_lost"] <= given_up(scene)
    assert row["packets_late"] == before["packets_late"]
    # The station waits 0.3 s for it to know the stream: what comes before it does it cannot open.
    assert row["packets_dropped"] == heard["packets_dropped"]
    assert seconds_heard(scene.played(since)) >= ENOUGH


@pytest.mark.realtime
def test_it_sounds_when_its_neighbour_does(scene: Scene) -> None:
    """The neighbour is Loa's own; a recording of the client's says when it began to 20 ms only."""
    neighbour = scene.bench.start_speaker("hut", "--buffer-ms", "250")
    scene.bench.wait_until_idle(["hut"])
    voice = scene.speak("hut")
    scene.wait_until_hearing()
    time.sleep(3)
    began_ns = min(scene.began_ns() for _ in range(3))  # it may have been held up for one of them
    end(voice)
    end(neighbour)
    ours = Recording.load(scene.bench.recording("hut"))
    client = Recording(scene.played(0), SAMPLE_RATE, began_ns)
    onset = int(np.argmax(np.abs(ours.samples) > 0.02)) / ours.rate
    at_ns = ours.first_sample_time_ns + round(onset * SECOND_NS)
    fits = [fit(ours, client, at_ns + n * SECOND_NS // 2) for n in range(8)]
    best = max(fits, key=lambda offset: offset.correlation)
    assert best.correlation > 0.9, scene.row
    assert abs(best.seconds) < 0.02
    scene.wait_until_idle()


@pytest.mark.realtime
def test_it_does_what_it_is_told(scene: Scene) -> None:
    """A tone at volume 50 is a tone at an eighth; muted, it is none."""
    done = {"done": [NAME], "failed": {}}
    assert scene.post("volume", volume=50) == {"changed": [NAME]}
    settle(scene)
    since = scene.samples()
    assert scene.post("tone", seconds=0.5) == done
    tone = sounded(scene, since)
    assert loudest_hz(tone) == pytest.approx(1000, abs=2)
    assert float(np.max(np.abs(tone))) == pytest.approx(0.1 / 8, abs=1e-3)
    assert np.count_nonzero(tone) == pytest.approx(SAMPLE_RATE / 2, rel=0.1)
    assert scene.post("mute", muted=True) == {"changed": [NAME]}
    settle(scene)
    since = scene.samples()
    assert scene.post("identify") == done
    wait_until(lambda: scene.samples() > since + SAMPLE_RATE, "a second of silence", 30)
    assert not np.any(scene.played(since))
    assert scene.post("mute", muted=False) == {"changed": [NAME]}
    assert scene.post("volume", volume=100) == {"changed": [NAME]}
    settle(scene)
    since = scene.samples()
    assert scene.post("identify") == done
    assert beeps(sounded(scene, since)) == 3


@pytest.mark.realtime
def test_it_does_not_beep_into_a_programme(scene: Scene) -> None:
    voice = scene.speak()
    scene.wait_until_hearing()
    told = scene.post("tone", seconds=1)
    assert told["done"] == []
    assert told["failed"][NAME] == f"{scene.row['hearing']} is being heard"
    end(voice)
    scene.wait_until_idle()


@pytest.mark.realtime
def test_it_begins_anew_as_the_same(scene: Scene) -> None:
    uptime_s = scene.row["uptime_s"]
    assert scene.post("restart") == {"done": [NAME], "failed": {}}
    wait_until(lambda: scene.row.get("uptime_s", uptime_s) < uptime_s, "a new beginning", 30)
    scene.wait_until_idle()
    assert scene.row["enrolled"]


@pytest.mark.realtime
def test_it_comes_again_to_a_station_that_began_anew(scene: Scene) -> None:
    """Its clock and its keys of the media are others then."""
    port = int(scene.bench.address.rpartition(":")[2])
    end(scene.bench.station)
    scene.bench.start_station(port=port)
    scene.wait_until_idle()
    since = scene.samples()
    assert scene.speak().wait(60) == 0, scene.bench.log("live")
    scene.wait_until_idle()
    assert seconds_heard(scene.played(since)) >= ENOUGH


def sound_to(here: tuple[str, int], wire: Sniffer) -> list[bytes]:
    """What the wire has heard of it so far."""
    return [seen.data for seen in wire.seen if seen.to == here and seen.data[0] == 0x90]


@pytest.mark.realtime
def test_it_is_deaf_to_forgers(scene: Scene) -> None:
    """Replays, a wrong tag and a thief's seal without a signature, all in the station's name."""
    needs_root()
    assert scene.process is not None
    media = scene.bench.get("/api/v1/station")["ports"]["media"]
    (port,) = (p for p, to in udp_ports(scene.process.pid).items() if to[1] == media)
    station, here = ("127.0.0.1", media), ("127.0.0.1", port)
    since = scene.samples()
    voice = scene.speak()
    scene.wait_until_hearing()
    before = scene.row
    with Sniffer(frozenset({media})) as wire:
        wait_until(lambda: len(sound_to(here, wire)) >= 10, "ten packets of the voice", 30)
    true = sound_to(here, wire)
    forged = [*true[:10], *(with_a_wrong_tag(data) for data in true[:10])]
    told = scene.bench.get(f"/api/v1/programmes/{scene.row['hearing']}/key")["streams"][0]
    forged += stolen(told, true[-1])
    with closing(Forger()) as forger:
        for data in forged:
            forger.send(station, here, data)
            forger.send(("127.0.0.1", media + 1), here, data)  # from elsewhere: not even looked at
    assert voice.wait(60) == 0, scene.bench.log("live")
    scene.wait_until_idle()
    row = scene.row
    assert row["packets_dropped"] - before["packets_dropped"] == len(forged) == 30
    assert 0 <= row["packets_lost"] - before["packets_lost"] <= given_up(scene)
    assert seconds_heard(scene.played(since)) >= ENOUGH
