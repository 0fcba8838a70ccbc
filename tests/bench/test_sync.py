"""The bench of neighbours in step: its clocks, its peers, and what it measures."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench import cli, sync
from bench.network import MS, PROFILES, SECOND, Impairments, Profile
from bench.sync_asking import FRAME_NS, Asking, Station, relearn, relearn_by_ear, sound
from bench.sync_clocks import MEDIA_EPOCH_NS, Oscillator, Wave, draw_oscillator
from bench.sync_pairs import BY_EAR, OURS, SCHEMES, Apart, Outcome, Plan, headline, measure
from bench.sync_peers import Best5Of30, BurstKalman, MedianOf200
from bench.sync_playing import Card, play
from bench.trace import Trace
from endpoints.fleet.timing import Estimator
from tests.support.clock import OwnClock, exchange_at
from transport.clock.estimator import ClockEstimator

CRYSTAL = Oscillator(3.0, 20, (Wave(1.0, 200, 0.5), Wave(0.1, 40, 2.0)))
CARD = Card(Oscillator(0.0, -15, (Wave(1.0, 100, 0.0),)), 0.0, 1)
US = 1_000


# ------------------------------------------------------------------ clocks
def test_a_cards_samples_and_true_times_are_each_others_inverse() -> None:
    seconds = np.linspace(0, 600, 1001)
    assert np.abs(CRYSTAL.seconds_at(CRYSTAL.samples_at(seconds)) - seconds).max() < 1e-9


def test_a_clock_runs_as_fast_as_it_says() -> None:
    fast = Oscillator(-2.0, 50)
    assert fast.of_true(0) == -2 * SECOND
    assert fast.of_true(1_000 * SECOND) == 998 * SECOND + 50 * MS


def test_a_drawn_oscillator_is_within_what_was_asked_for_and_wanders() -> None:
    drawn = [draw_oscillator(np.random.default_rng(seed), 20) for seed in range(50)]
    assert max(abs(one.ppm) for one in drawn) <= 20
    assert len({one.ppm for one in drawn}) == 50
    minute = np.array([0.0, 60.0, 120.0])
    bends = [np.diff(one.samples_at(minute), 2)[0] for one in drawn]
    assert np.abs(bends).max() > 0.1


# ------------------------------------------------------------------ asking
def test_on_a_wire_the_time_is_known_from_the_first_burst_on() -> None:
    rng = np.random.default_rng(1)
    links = Profile(Impairments(delay_ns=MS)).links(rng)
    learnt = Asking(CRYSTAL, links, Station(), rng, ClockEstimator()).advance(100 * SECOND)
    known = [one for one in learnt if one.estimate is not None]
    assert known[0].true_ns < SECOND // 5
    for one in known:
        assert one.estimate is not None
        truth_ns = MEDIA_EPOCH_NS + one.true_ns
        assert abs(one.estimate.theirs(CRYSTAL.of_true(one.true_ns)) - truth_ns) < 2 * US


def test_it_asks_as_often_as_a_loudspeaker_does() -> None:
    """Eight at once, two a second until a hundred have been answered, then one."""
    rng = np.random.default_rng(1)
    asking = Asking(CRYSTAL, Profile(Impairments()).links(rng), Station(), rng, ClockEstimator())
    asking.advance(100 * SECOND)
    assert asking.questions == pytest.approx(8 + 2 * 46.5 + 53, abs=3)


def test_a_station_that_does_not_answer_teaches_nothing() -> None:
    station = Station()
    station.awake = False
    rng = np.random.default_rng(1)
    asking = Asking(CRYSTAL, Profile(Impairments()).links(rng), station, rng, ClockEstimator())
    assert asking.advance(20 * SECOND) == []
    assert asking.questions > 20


def test_copies_of_answers_are_dropped() -> None:
    rng = np.random.default_rng(1)
    links = Profile(Impairments(duplicate=1.0)).links(rng)
    asking = Asking(CRYSTAL, links, Station(), rng, ClockEstimator())
    learnt = asking.advance(10 * SECOND)
    assert len(learnt) == asking.questions
    assert asking.dropped == 3 * asking.questions


def test_by_ear_the_same_exchanges_say_more() -> None:
    rng = np.random.default_rng(2)
    path = PROFILES["L1"]
    learnt = Asking(CRYSTAL, path.links(rng), Station(), rng, ClockEstimator()).advance(
        200 * SECOND
    )
    programme = sound(path.links(rng)[0], 20, 200, np.zeros(1, np.int64))
    assert len(programme.packets) == pytest.approx(180 * SECOND / FRAME_NS * 0.95, rel=0.05)
    errors_us = []
    for knew in (relearn(learnt, ClockEstimator()), relearn_by_ear(learnt, CRYSTAL, programme)):
        late = [one for one in knew if one.true_ns > 100 * SECOND and one.estimate is not None]
        errors = [
            one.estimate.theirs(CRYSTAL.of_true(one.true_ns)) - MEDIA_EPOCH_NS - one.true_ns
            for one in late
            if one.estimate is not None
        ]
        errors_us.append(np.sqrt(np.mean(np.square(np.array(errors) / US))))
    assert errors_us[1] < 0.7 * errors_us[0]


# ------------------------------------------------------------------ peers
@pytest.mark.parametrize("peer", [MedianOf200, Best5Of30, BurstKalman])
def test_a_peer_finds_the_offset_on_a_quiet_wire(peer: Callable[[], Estimator]) -> None:
    own, estimator = OwnClock(5.0), peer()
    for second in range(40):
        assert not estimator.add(exchange_at(own, second * SECOND, there_ns=MS, back_ns=MS))
    assert estimator.estimate is not None
    truth_ns = MEDIA_EPOCH_NS + 40 * SECOND
    assert abs(estimator.estimate.theirs(own.of_true(40 * SECOND)) - truth_ns) < US
    assert estimator.exchanges == 40


@pytest.mark.parametrize("peer", [MedianOf200, Best5Of30, BurstKalman])
def test_a_peer_forgets_with_another_clock(peer: Callable[[], Estimator]) -> None:
    estimator = peer()
    for second in range(20):
        estimator.add(exchange_at(OwnClock(), second * SECOND, there_ns=MS, back_ns=MS))
    moved = exchange_at(OwnClock(9.0), 20 * SECOND, there_ns=MS, back_ns=MS, clock_set_ns=2)
    assert estimator.add(moved)
    assert estimator.exchanges == 1


def test_only_the_filter_with_a_rate_follows_a_skew() -> None:
    own, errors_us = OwnClock(skew_ppm=20), {}
    for peer in (MedianOf200, BurstKalman):
        estimator = peer()
        for second in range(300):
            estimator.add(exchange_at(own, second * SECOND, there_ns=MS, back_ns=MS))
        assert estimator.estimate is not None
        found_ns = estimator.estimate.theirs(own.of_true(300 * SECOND))
        errors_us[peer] = abs(found_ns - MEDIA_EPOCH_NS - 300 * SECOND) / US
    assert errors_us[BurstKalman] < 50
    assert errors_us[MedianOf200] > 1_500


# ------------------------------------------------------------------ playing
def test_on_a_wire_what_sounds_is_the_media_time() -> None:
    rng = np.random.default_rng(1)
    links = Profile(Impairments(delay_ns=MS)).links(rng)
    learnt = Asking(CRYSTAL, links, Station(), rng, ClockEstimator()).advance(60 * SECOND)
    heard = play(CRYSTAL, CARD, learnt, 60, 5)
    errors_us = heard.error_us(np.arange(20, 59, 0.1))
    assert np.abs(errors_us).max() < 15
    assert heard.reanchored == 1
    assert np.isnan(heard.error_us(np.array([0.05]))).all()  # before the first estimate


def test_whoever_learns_a_wrong_time_plays_at_it() -> None:
    rng = np.random.default_rng(1)
    links = Profile(Impairments(delay_ns=MS), uplink_bias_ns=(40 * MS, 40 * MS)).links(rng)
    learnt = Asking(CRYSTAL, links, Station(), rng, ClockEstimator()).advance(60 * SECOND)
    errors_us = play(CRYSTAL, CARD, learnt, 60, 5).error_us(np.arange(20, 59, 0.1))
    assert errors_us == pytest.approx(20_000, abs=20)


# ------------------------------------------------------------------ pairs
def outcome(profile: str, seed: int = 1, minutes: float = 2.0, trim: bool = False) -> Outcome:
    return measure(Plan(PROFILES[profile], minutes=minutes, seed=seed, trim=trim))


def test_wired_neighbours_are_in_step_to_a_few_microseconds() -> None:
    """The goal is 50 us; the same seed brings the same figures."""
    one, again = outcome("L0", minutes=0.5), outcome("L0", minutes=0.5)
    assert np.percentile(one.apart[OURS].distances_us, 95) < 15
    assert one.apart[OURS].signed_us.tolist() == again.apart[OURS].signed_us.tolist()
    other = outcome("L0", seed=2, minutes=0.5)
    assert other.apart[OURS].signed_us.tolist() != one.apart[OURS].signed_us.tolist()


def test_on_wifi_whoever_hears_the_programme_beats_every_peer() -> None:
    apart = outcome("L1", seed=4).apart
    p95 = {scheme: np.percentile(apart[scheme].distances_us, 95) for scheme in SCHEMES}
    assert min(p95[s] for s in SCHEMES if s not in (OURS, BY_EAR)) > 1.5 * p95[BY_EAR]


def test_a_trim_takes_away_what_no_exchange_can_see() -> None:
    as_it_is, trimmed = (
        outcome("M3", minutes=0.5, trim=trim).apart[OURS] for trim in (False, True)
    )
    assert as_it_is.untrimmed_us is None
    assert trimmed.untrimmed_us == pytest.approx(np.median(as_it_is.distances_us), rel=0.1)
    assert trimmed.distances_us.max() < 50 < np.median(as_it_is.distances_us)


def test_the_spread_is_that_of_the_worst_pair_and_knows_no_offset() -> None:
    steady, moving = np.full(101, 900.0), np.linspace(0, 100, 101)
    assert Apart(np.array([steady, moving]), None).spread_us == pytest.approx(90)


def test_progress_ends_at_one() -> None:
    shares: list[float] = []
    measure(Plan(PROFILES["L0"], minutes=0.5), shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [{"endpoints": 1}, {"minutes": 0.0}, {"every_s": 0.0}])
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="use"):
        Plan(PROFILES["L0"], **wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------ the command
def run(*words: str) -> int:
    return cli.main(["sync", "--minutes", "0.5", *words])


def test_the_command_writes_its_figures_and_a_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, plot = tmp_path / "sync.json", tmp_path / "sync.svg"
    assert run("--profile", "m3", "--seed", "5", "--json", str(figures), "--plot", str(plot)) == 0
    document = json.loads(figures.read_text())
    assert document["profile"] == "M3"
    assert 0 < document["p50_us"] <= document["p95_us"] <= document["max_us"]
    assert (document["settle_s"], document["trim_s"], document["seed"]) == (60.0, 10.0, 5)
    assert document["schemes"].keys() == set(SCHEMES)
    assert (document["scheme"], document["p95_us"]) == (OURS, document["schemes"][OURS]["p95_us"])
    assert plot.stat().st_size < 100_000
    assert "burst + Kalman" in capsys.readouterr().out


@pytest.mark.parametrize("profile", ["l0", "L1"])
def test_where_a_group_is_heard_the_figures_are_of_who_hears_it(
    profile: str, tmp_path: Path
) -> None:
    figures = tmp_path / "sync.json"
    assert run("--profile", profile, "--json", str(figures)) == 0
    document = json.loads(figures.read_text())
    assert document["scheme"] == headline(profile.upper()) == BY_EAR
    assert document["p95_us"] == document["schemes"][BY_EAR]["p95_us"]
    assert document["p95_us"] != document["schemes"][OURS]["p95_us"]


def test_a_trace_takes_the_place_of_a_profile(tmp_path: Path) -> None:
    trace, figures = tmp_path / "wire.txt", tmp_path / "sync.json"
    trace.write_text("0.2\n0.3\nlost\n0.2\n" * 50)
    assert run("--trace", str(trace), "--json", str(figures)) == 0
    document = json.loads(figures.read_text())
    assert document["profile"] == "wire.txt"
    assert document["exchanges"] < 0.8 * document["questions"]
    assert document["p95_us"] < 50


def test_the_way_back_has_a_trace_of_its_own(tmp_path: Path) -> None:
    down, up, figures = (tmp_path / name for name in ("down", "up", "sync.json"))
    down.write_text("0.2\n" * 20)
    up.write_text("0.2\nlost\n" * 20)
    shares = []
    for words in ((down,), (down, "--trace-back", up), (up, "--trace-back", down)):
        assert run("--trace", *map(str, words), "--json", str(figures)) == 0
        document = json.loads(figures.read_text())
        shares.append(document["exchanges"] / document["questions"])
    assert shares == pytest.approx([1.0, 0.5, 0.5], abs=0.02)


def test_neighbours_do_not_meet_the_same_packets_of_a_trace() -> None:
    """What they would have in common, would put nobody out of step."""
    rng = np.random.default_rng(5)
    down, up = (
        Trace(tuple((rng.exponential(2 * MS, 500) + MS).astype(int).tolist())) for _ in range(2)
    )
    path = Profile(Impairments(trace=down), uplink=Impairments(trace=up))
    first, second = (path.anywhere(np.random.default_rng(seed)) for seed in (1, 2))
    assert first.uplink is not None
    assert first.path.trace_at != first.uplink.trace_at != second.path.trace_at
    apart = measure(Plan(path, minutes=0.5)).apart[OURS]
    assert np.percentile(apart.distances_us, 50) > 5


def test_the_matrix_is_of_every_profile_and_scheme_over_three_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "PROFILES", {name: PROFILES[name] for name in ("L1", "M3")})
    figures, plot = tmp_path / "sync.json", tmp_path / "sync.svg"
    assert run("--matrix", "--json", str(figures), "--plot", str(plot)) == 0
    document = json.loads(figures.read_text())
    assert document["seeds"] == [1, 2, 3]
    told = [(row["profile"], row["scheme"]) for row in document["rows"]]
    assert told == [(name, scheme) for name in ("L1", "M3") for scheme in SCHEMES]
    assert all(row["worst_p95_us"] <= row["max_us"] for row in document["rows"])
    trimmed = [row["untrimmed_us"] is not None for row in document["rows"]]
    assert trimmed == [name == "M3" for name, _ in told]
    assert plot.stat().st_size < 100_000


def test_where_nothing_comes_through_there_is_no_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "cut.txt"
    trace.write_text("lost\n")
    assert run("--trace", str(trace)) == 1
    assert "cut.txt: not everybody could learn the time there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--profile", "L7"), "no profile"),
        (("--trace", "/nowhere"), "/nowhere"),
        (("--trace-back", "/nowhere"), "give both"),
        (("--minutes", "0"), "minutes"),
        (("--endpoints", "1"), "loudspeakers"),
        (("--every", "0"), "question"),
    ],
)
def test_wrong_words_give_one_clear_line(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 1
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
