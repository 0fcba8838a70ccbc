from pathlib import Path

import pytest

from bench.loss_scene import Scene, ns_of, scene_of

SECOND = 1_000_000_000


def trip_ns(scene: Scene) -> tuple[int, int]:
    """How long a packet takes down and up where nothing is lost or delayed by chance."""
    links = scene.links()
    for link in links:
        link.send(b"", 0)
    down, up = (link.due(10 * SECOND)[0][0] for link in links)
    return down, up


def delayed(tmp_path: Path, text: str) -> Path:
    trace = tmp_path / "some.trace"
    trace.write_text(text)
    return trace


def test_what_is_left_out_is_as_the_delivery_asks_for() -> None:
    assert scene_of("R10", "wan", seed=1).playout_delay_ms == 500.0
    assert scene_of("R10", "lan", seed=1, multicast=True).frame_ms == 10.0


@pytest.mark.parametrize(
    ("profile", "delivery", "rtt_ms"), [("R10", "wan", 100.0), ("M2", "wan", None)]
)
def test_by_unicast_a_path_without_a_delay_gets_a_round_trip(
    profile: str, delivery: str, rtt_ms: float | None
) -> None:
    assert scene_of(profile, delivery, seed=1).rtt_ms == rtt_ms


def test_a_local_network_has_no_round_trip_of_its_own() -> None:
    assert scene_of("R5", "lan", seed=1).rtt_ms is None


def test_half_of_the_round_trip_is_each_way(tmp_path: Path) -> None:
    trace = delayed(tmp_path, "0\n")
    scene = scene_of("a trace", "wan", seed=1, rtt_ms=80, trace=trace)
    assert trip_ns(scene) == (40_000_000, 40_000_000)


def test_a_trace_takes_the_place_of_the_profile(tmp_path: Path) -> None:
    scene = scene_of("a trace", "wan", seed=1, trace=delayed(tmp_path, "25\n"))
    assert trip_ns(scene) == (25_000_000, 25_000_000)


def test_equal_seeds_have_equal_weather() -> None:
    fates = []
    for seed in (1, 1, 2):
        down, _ = scene_of("M2", "wan", seed=seed).links()
        for number in range(1_000):
            down.send(number.to_bytes(2), number * 20_000_000)
        fates.append([data for _, data in down.due(100 * SECOND)])
    assert fates[0] == fates[1] != fates[2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "R99"}, "no profile 'R99'"),
        ({"delivery": "saver", "multicast": True}, "unicast alone"),
        ({"playout_delay_ms": 20.0}, "longer than a frame"),
        ({"playout_delay_ms": float("nan")}, "longer than a frame"),
        ({"rtt_ms": -1.0}, "--rtt-ms"),
        ({"buffer_ms": 500.0}, "--buffer-ms"),
    ],
)
def test_what_no_network_is_is_refused(change: dict[str, object], said: str) -> None:
    given = {"name": "R10", "delivery": "wan", "seed": 1} | change
    with pytest.raises(ValueError, match=said):
        scene_of(**given)  # type: ignore[arg-type]


def test_samples_as_nanoseconds() -> None:
    assert ns_of(48_000) == SECOND
    assert ns_of(3) == 62_500
