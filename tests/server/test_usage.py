"""What is read of /proc: a made-up one, and this machine's own."""

import os
from pathlib import Path

from server.usage import ProcessUse, station_use

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def put(proc: Path, pid: int, command: str, name: str = "python3") -> None:
    """A process with 3 s of its own, 2 s of the system's, and 5 pages."""
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes(b"".join(a.encode() + b"\0" for a in command.split()))
    fields = ["S", *["0"] * 10, str(3 * TICKS), str(2 * TICKS), *["0"] * 8, "5", *["0"] * 28]
    (folder / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")


def station(proc: Path, *children: int) -> list[ProcessUse]:
    put(proc, 10, "python loa serve", name="a) S 9 (b")
    (proc / "10/task/10").mkdir(parents=True)
    (proc / "10/task/10/children").write_text("".join(f"{pid} " for pid in children))
    return station_use(10, proc)


def test_each_process_is_called_by_what_it_does(tmp_path: Path) -> None:
    put(tmp_path, 11, "python -P -m server {}")
    put(tmp_path, 12, 'python -P -m server.sender {"shard":1}')
    put(tmp_path, 13, 'python -P -m server.usher {"shard":0}')
    found = station(tmp_path, 11, 12, 13)
    assert found[0] == ProcessUse("supervisor", None, 10, 5.0, 5 * PAGE)
    assert [(use.process, use.shard, use.pid) for use in found[1:]] == [
        ("control", None, 11),
        ("sender", 1, 12),
        ("usher", None, 13),
    ]


def test_what_is_gone_or_not_yet_itself_or_of_another_trade_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, 11, "python loa serve")
    put(tmp_path, 12, "cc -m 64 x.c")
    put(tmp_path, 13, "python -P -m server {}")
    (tmp_path / "13/stat").write_text("")
    assert [use.pid for use in station(tmp_path, 11, 12, 13, 14)] == [10]


def test_a_sender_whose_birth_cannot_be_read_has_no_shard(tmp_path: Path) -> None:
    for pid, birth in enumerate(("{", "[]", "{}", '{"shard":"x"}'), 11):
        put(tmp_path, pid, f"python -P -m server.sender {birth}")
    assert {use.shard for use in station(tmp_path, *range(11, 15))} == {None}


def test_where_there_is_no_proc_there_is_nothing(tmp_path: Path) -> None:
    assert station_use(10, tmp_path) == []


def test_of_a_real_process_there_is_time_and_memory() -> None:
    (use,) = [use for use in station_use(os.getpid()) if use.pid == os.getpid()]
    assert use.cpu_s > 0
    assert 10_000_000 < use.resident_bytes < 10_000_000_000
