"""What /proc says of control, as it is written there."""

from pathlib import Path

import pytest

from bench.operators_machine import Reading, busy_s, waited_s
from bench.processes import ProcessError
from server.usage import ProcessUse

CONTROL = ProcessUse("control", None, 7, 1.0, 1 << 20)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "7").mkdir()
    (tmp_path / "stat").write_text("cpu  100 20 30 5000 70 1 2 3 9 9\ncpu0 1 2 3 4\n")
    (tmp_path / "7" / "schedstat").write_text("5000000000 250000000 12\n")
    (tmp_path / "7" / "status").write_text("Name:\tpython\nRssAnon:\t     64 kB\n")
    (tmp_path / "7" / "io").write_text("rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 5\n")
    return tmp_path


def test_what_is_idle_or_waits_for_a_disk_is_no_work(proc: Path) -> None:
    assert busy_s(proc) == pytest.approx(1.56)


def test_waiting_is_told_in_seconds(proc: Path) -> None:
    assert waited_s(7, proc) == pytest.approx(0.25)


def test_control_is_read_whole(proc: Path) -> None:
    sender = ProcessUse("sender", 0, 8, 1.0, 1 << 20)
    assert Reading.of([sender, CONTROL], proc) == Reading(64 << 10, 4096, 0.25, 1.56)


def test_no_control_is_said_so(proc: Path) -> None:
    with pytest.raises(ProcessError, match="no control"):
        Reading.of([], proc)
    (proc / "7" / "io").unlink()
    with pytest.raises(ProcessError, match="ended"):
        Reading.of([CONTROL], proc)
