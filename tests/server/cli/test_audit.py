"""`loa audit`: seen, taken out, and verified from the file alone."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from server.audit.lines import head_line
from server.audit.row import ROOTED, Entry
from tests.support.logs import Keys, Log, entry, log_of
from transport.security.keys import shown_fingerprint

Desk = Any  # the fixture's; see conftest
AtDesk = Callable[[Callable[[Desk], Awaitable[None]]], None]
OURS = Keys()
SHOWN = shown_fingerprint(OURS.root.public)


@pytest.fixture
def loa(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`loa audit` without a station."""
    from server.cli.audit import main  # noqa: PLC0415

    def loa(*words: str | Path) -> tuple[int, str, str]:
        try:
            status = main([str(word) for word in words])
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = capsys.readouterr()
        return status, said.out, said.err

    return loa


def written(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


# ------------------------------------------------------------------ with a station
def test_what_was_done_is_listed_newest_first(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        root = desk.room.control.name
        await desk.says("units", "add", f"{root}/Thôn 3")
        await desk.loa("units", "add", "Nowhere/x")
        async with asyncio.timeout(20):
            # What was refused is written when there is time for it.
            while "refused" not in (said := await desk.says("audit")).out:
                await desk.room.settle(0.05)
        assert said.cells(0) == ["row", "at (UTC)", "who", "from", "what", "on", "outcome", "why"]
        assert [said.cells(n)[4] for n in (1, 2, 3)] == ["refused", "unit.add", "station.begin"]
        assert said.cells(2)[2:] == [
            *("token", "127.0.0.1", "unit.add", f"unit {root}/Thôn 3", "done", "-")
        ]
        said = await desk.says("audit", "show", "--limit", "1")
        assert (len(said.lines), said.lines[-1]) == (4, "older ones: loa audit --before 3")
        answer = json.loads((await desk.says("audit", "--before", "2", "--json")).out)
        assert [row["what"] for row in answer] == ["station.begin"]

    at_desk(scenario)


def test_an_export_is_verified_with_the_fingerprint_that_keys_show_says(
    at_desk: AtDesk, tmp_path: Path
) -> None:
    async def scenario(desk: Desk) -> None:
        file, key = tmp_path / "log.jsonl", desk.room.control._own.keys.certificate.root
        for number in range(600):  # more than a page
            desk.room.store.note([desk.room.control.audit.recorder.entry("x", {"n": number})])
        await desk.says("audit", "export", str(file))
        assert file.stat().st_mode & 0o777 == 0o600
        for shown in (shown_fingerprint(key), key.hex(), shown_fingerprint(key).lower()):
            said = await desk.says("audit", "verify", str(file), "--key", shown)
            assert said.lines[0].startswith(f"{file} is whole: 601 rows, signed at 20")
            assert "no anchor was given" in said.lines[-1]
        piped = await desk.loa("audit", "export", str(file))
        assert (piped.status, "exists already" in piped.err) == (2, True)

    at_desk(scenario)
    assert not (tmp_path / "log.jsonl.unfinished").exists()


def test_an_export_that_breaks_off_leaves_no_file(
    at_desk: AtDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(desk: Desk) -> None:
        vouching = desk.room.control.audit.vouching

        async def broken() -> Any:
            yield "{}"
            raise RuntimeError("control dies")

        monkeypatch.setattr(vouching, "export", broken)
        done = await desk.loa("audit", "export", str(folder / "log"))
        assert done.status == 1
        assert done.err.splitlines()[-1].endswith("broke off: try again")

    folder = tmp_path / "out"
    folder.mkdir()
    at_desk(scenario)
    assert list(folder.iterdir()) == []


# ------------------------------------------------------------------ with a file alone
def test_a_log_that_was_changed_is_told_by_its_first_row(
    loa: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    lines = log_of(12).lines()
    good = written(tmp_path / "good", lines)
    bad = written(tmp_path / "bad", [*lines[:4], *lines[5:]])
    assert loa("verify", good, "--key", SHOWN)[0] == 0
    status, out, err = loa("verify", bad, "--key", SHOWN)
    assert (status, out) == (1, "")
    assert err.startswith(f"loa audit verify: {bad}: row 4 is missing")
    status, out, _ = loa("verify", bad, "--key", SHOWN, "--json")
    assert (status, json.loads(out)["row"]) == (1, 4)
    status, out, _ = loa("verify", good, "--key", SHOWN, "--json")
    assert (json.loads(out)["whole"], json.loads(out)["rows"]) == (True, 12)


def test_another_station_s_log_is_refused(
    loa: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    other = written(tmp_path / "other", log_of(3, Keys(50)).lines())
    status, _, err = loa("verify", other, "--key", SHOWN)
    assert (status, "not under the root key" in err) == (1, True)


def test_anchors_are_found_in_the_middle_of_other_text(
    loa: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    log = log_of(20)
    host = tmp_path / "syslog"
    foreign = Log(Keys(50)).keys.signer.sign(log.tail, 1)
    host.write_text(
        f"Nov 21 loa - audit-head - {head_line(log.heads[5])}\nNov 21 sshd: hello {{}}\n"
        f"Nov 21 loa - audit-head - {head_line(log.heads[20])}\n{head_line(foreign)}\n"
    )
    shorter = written(tmp_path / "shorter", log_of(10).lines())
    whole = written(tmp_path / "whole", log.lines())
    status, out, err = loa("verify", whole, "--key", SHOWN, "--anchor", host)
    assert (status, "2 anchored heads agree" in out) == (0, True)
    assert "1 heads are not of this station" in err
    status, _, err = loa("verify", shorter, "--key", SHOWN, "--anchor", host)
    assert (status, "rows 11 to 20 were cut off" in err) == (1, True)
    none = written(tmp_path / "none", [b"x"])
    status, _, err = loa("verify", whole, "--key", SHOWN, "--anchor", none)
    assert (status, "holds no head" in err) == (2, True)


@pytest.mark.parametrize("key", ["", "x", "AAAAA", "00" * 32, "ff" * 31, "\ud800"])
def test_what_is_no_key_is_refused(
    loa: Callable[..., tuple[int, str, str]], tmp_path: Path, key: str
) -> None:
    file = written(tmp_path / "log", log_of(3).lines())
    status, out, err = loa("verify", file, "--key", key)
    assert (status, out, len(err.splitlines())) == (2, "", 1)


def test_without_a_key_this_machine_s_station_is_meant_and_never_the_file_s(
    loa: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "log", log_of(3).lines())
    monkeypatch.setenv("LOA_DATA", str(tmp_path / "nothing"))
    status, _, err = loa("verify", file)
    assert (status, "give --key" in err) == (2, True)


def test_a_file_that_is_not_there_or_of_rubbish_is_one_line(
    loa: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "zeros").write_bytes(bytes(1 << 20))
    for name in ("none", "zeros", ""):
        status, out, err = loa("verify", tmp_path / name, "--key", SHOWN)
        assert (status > 0, out, len(err.splitlines())) == (True, "", 1)


def test_a_log_that_was_cut_off_is_whole_from_there_on(
    loa: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    whole = log_of(20)
    host = written(tmp_path / "heads", [head_line(head).encode() for head in whole.heads.values()])
    file = written(tmp_path / "log", log_of(20).cut(15).lines())
    status, out, _ = loa("verify", file, "--key", SHOWN, "--anchor", host)
    said = out.splitlines()
    assert (status, len(said)) == (0, 6)
    assert said[0].startswith(f"{file} is whole from row 16 on: 6 rows, signed at 20")
    assert said[1].startswith("(the station has cut off rows 1 to 15, at 2026-09-21 14:13:20 UTC)")
    assert said[-2:] == [
        "3 anchored heads are of rows that were cut off",
        "1 anchored heads agree",
    ]
    status, out, _ = loa("verify", file, "--key", SHOWN, "--json")
    assert json.loads(out)["cut"] == {"up_to": 15, "at": "2026-09-21T14:13:20.000000000Z"}


def test_rows_of_another_root_are_told(
    loa: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    log = Log(Keys(50)).add(entry(1))
    told = {"root": Keys().root.public.hex()}
    log.add(Entry.of(1, "station", "", ROOTED, told))
    log.keys = Keys()
    file = written(tmp_path / "log", log.lines())
    status, out, _ = loa("verify", file, "--key", SHOWN)
    assert (status, "rows before 2 were signed under another root" in out) == (0, True)
