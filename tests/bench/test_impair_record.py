"""What is recorded of each packet, and that the replay of it is the same weather."""

from pathlib import Path

from bench.impair_crossings import Client, Crossings
from bench.impair_record import Recorder
from bench.network import MS, SECOND, Impairments, Profile, profile
from bench.trace import Trace, load_trace

WHO, OTHER = Client(7460, "192.0.2.1", 5), Client(7462, "192.0.2.1", 6)
LATEST_NS = 2**62


def crossings(path: Profile, recorder: Recorder, most: int = 8) -> Crossings:
    return Crossings(path, seed=1, first_port=7460, most=most, recorder=recorder)


def hand_on(through: Crossings, now_ns: int, late_ns: int = 0) -> int:
    arrived = through.due(now_ns)
    for due in arrived:
        through.handed_on(due, due.due_ns + late_ns)
    return len(arrived)


def fates(recorder: Recorder) -> dict[str, list[int | None]]:
    return {name: recording.fates() for name, recording in recorder.traces()}


def test_a_delay_is_from_its_arrival_to_its_being_handed_on() -> None:
    trace = Trace((5 * MS, None, 2 * MS))
    recorder = Recorder()
    through = crossings(Profile(Impairments(trace=trace)), recorder)
    for number in range(3):
        through.send(WHO, b"x", (3 + number) * SECOND, up=False)
    assert hand_on(through, LATEST_NS, late_ns=MS // 10) == 2
    assert fates(recorder) == {"7460-1-down.trace": [5_100_000, None, 2_100_000]}
    assert recorder.figures() == {"7460-1-down.trace": {"packets": 3, "first_s": 3.0}}


def test_every_client_way_and_port_has_a_trace_of_its_own() -> None:
    recorder = Recorder()
    through = crossings(Profile(Impairments()), recorder)
    for client, up in ((WHO, True), (WHO, False), (OTHER, True), (WHO._replace(source=9), True)):
        through.send(client, b"", 0, up=up)
    hand_on(through, 0)
    names = ["7460-1-down.trace", "7460-1-up.trace", "7460-2-up.trace", "7462-1-up.trace"]
    assert sorted(fates(recorder)) == names


def test_who_overtakes_is_told_from_who_is_overtaken_and_of_copies_the_first_counts() -> None:
    recorder = Recorder()
    twice = Profile(Impairments(trace=Trace((70 * MS, 5 * MS)), duplicate=1.0))
    through = crossings(twice, recorder)
    through.send(WHO, b"slow", 0, up=False)
    through.send(WHO, b"fast", MS, up=False)
    for late_ns, due in enumerate(through.due(LATEST_NS)):
        through.handed_on(due, due.due_ns + late_ns)
    assert fates(recorder) == {"7460-1-down.trace": [70 * MS + 2, 5 * MS]}


def test_what_a_full_queue_drops_is_lost_and_what_is_under_way_is_left_out() -> None:
    recorder = Recorder()
    narrow = Profile(Impairments(delay_ns=10 * MS)).limited(kbps=100, queue_ms=150)
    through = crossings(narrow, recorder)
    for _ in range(4):
        through.send(WHO, bytes(972), 0, up=False)  # 80 ms each on the way out
    assert hand_on(through, SECOND) == 1
    assert fates(recorder) == {"7460-1-down.trace": [90 * MS, None, None, None]}
    through.send(WHO, b"", SECOND, up=False)
    assert len(fates(recorder)["7460-1-down.trace"]) == 4


def test_recording_changes_nothing_of_the_weather() -> None:
    plain, recorded = Crossings(profile("L1"), 1, 7460), crossings(profile("L1"), Recorder())
    for through in (plain, recorded):
        for number in range(300):
            through.send(WHO, number.to_bytes(2), number * 20 * MS, up=True)
    assert plain.due(LATEST_NS) == recorded.due(LATEST_NS)


def test_whose_client_is_gone_keeps_what_was_recorded_of_it() -> None:
    recorder = Recorder()
    through = crossings(Profile(Impairments(delay_ns=MS)), recorder, most=1)
    through.send(WHO, b"", 0, up=True)
    hand_on(through, MS)
    through.send(WHO, b"", 2 * MS, up=True)
    due = through.due(3 * MS)
    assert through.make_room() == [WHO]
    through.handed_on(due[0], 3 * MS)  # too late to be told
    assert fates(recorder) == {"7460-1-up.trace": [MS]}


def test_beyond_the_most_nothing_is_recorded_but_counted() -> None:
    recorder = Recorder(most=3)
    through = crossings(Profile(Impairments()), recorder)
    for number in range(5):
        through.send(WHO, b"", number, up=True)
    assert hand_on(through, LATEST_NS) == 5
    assert (len(fates(recorder)["7460-1-up.trace"]), recorder.unrecorded) == (3, 2)


def test_what_is_saved_is_a_trace_and_says_of_what(tmp_path: Path) -> None:
    recorder = Recorder()
    through = crossings(profile("R30"), recorder)
    for number in range(200):
        through.send(WHO, b"", number * 20 * MS, up=True)
    hand_on(through, LATEST_NS, 7)
    recorder.save(tmp_path, "R30, seed 1")
    (file,) = tmp_path.iterdir()
    assert load_trace(file) == Trace(tuple(fates(recorder)[file.name]))
    assert file.read_text().startswith("# 7460-1-up.trace: R30, seed 1\n")
    assert 0.2 < load_trace(file).loss < 0.4
