"""An outsider verifies a log from AUDIT.md alone, and the page's own example is what we make."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.audit.row import Entry, genesis_hash
from tests.support.logs import Keys, Log, log_of, verify
from transport.security.keys import shown_fingerprint

VERIFIER = Path(__file__).with_name("verify_audit.py")
PAGE = (Path(__file__).parents[2] / "AUDIT.md").read_text()
ROOT = Keys().root.public
AT_NS = 1_795_000_000_123_456_789
MINUTE = 60 * 1_000_000_000


def outsider() -> Callable[[list[bytes], bytes], tuple[int, int] | str]:
    spec = importlib.util.spec_from_file_location("verify_audit", VERIFIER)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.verify  # type: ignore[no-any-return]


def example(which: int = 0) -> list[bytes]:
    """The lines on the page."""
    found = re.findall(r"```jsonl\n(.*?)```", PAGE, re.DOTALL)
    return str(found[which]).encode().splitlines()


def test_the_verifier_is_short_and_has_nothing_of_ours() -> None:
    text = VERIFIER.read_text()
    assert len(text.splitlines()) < 100
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    assert imported - sys.stdlib_module_names == {"cryptography"}


def example_log() -> Log:
    told = {"boot": 29_916_666, "generation": 1, "loa": "0.2.0"}
    zone = {"zone": "chợ", "definition": {"tag": "chợ"}, "clear": False}
    asked = {"method": "POST", "path": "/api/v1/live", "status": 401}
    why = "this needs a session or a token"
    return Log(every=2).add(
        Entry.of(AT_NS, "station", "", "station.begin", told),
        Entry.of(AT_NS + MINUTE, "Lan", "192.0.2.7", "zone.put", zone),
        Entry.of(AT_NS + 3 * MINUTE // 2, "", "198.51.100.9", "refused", asked, why, "refused"),
    )


def test_the_example_is_what_we_make_and_what_we_verify() -> None:
    assert example_log().lines() == example()
    assert verify(example()).rows == 3
    for said in (ROOT.hex(), shown_fingerprint(ROOT), genesis_hash(ROOT).hex()):
        assert said in PAGE


def test_the_outsider_finds_the_example_whole() -> None:
    assert outsider()(example(), ROOT) == (1, 3)


def test_the_example_that_is_cut_off_is_whole_from_there_on() -> None:
    log = example_log().cut(2)
    assert log.lines() == example(1)
    assert verify(example(1)).rows == 2
    assert outsider()(example(1), ROOT) == (3, 4)


@pytest.mark.parametrize("cut", [5, 7, 12])
def test_the_outsider_finds_who_cut_off_rows(cut: int) -> None:
    check = outsider()
    lines = log_of(12).cut(cut).lines()
    assert check(lines, ROOT) == (cut + 1, 13)
    missing = f"rows 1 to {cut} are missing, and not cut off by the station"
    forged = log_of(12, Keys(50)).cut(cut).lines()[1]
    assert check([lines[0], forged, *lines[2:]], ROOT) == missing
    kept = lines[1].replace(b'"cut"', b'"kept"')
    assert isinstance(check([lines[0], kept, *lines[2:]], ROOT), str)
    assert isinstance(check([lines[0], *lines[2:]], ROOT), str)
    assert isinstance(check([*lines[:3], lines[1], *lines[3:]], ROOT), str)
    for at in range(2, len(lines)):
        edited = lines[at].replace(b'"at":"20', b'"at":"21')
        assert isinstance(check([*lines[:at], edited, *lines[at + 1 :]], ROOT), str)


LINES = log_of(12).lines()


@pytest.mark.parametrize("at", range(1, len(LINES) - 1))
def test_the_outsider_finds_what_was_edited_taken_out_or_moved(at: int) -> None:
    check = outsider()
    assert check(LINES, ROOT) == (1, 12)
    assert isinstance(check([*LINES[:at], LINES[at].replace(b'"at":"20', b'"at":"21')], ROOT), str)
    if LINES[at].startswith(b'{"seq"'):
        without = [*LINES[:at], *LINES[at + 1 :]]
        assert isinstance(check(without, ROOT), str)
        assert isinstance(check([*without[:2], LINES[at], *without[2:]], ROOT), str) or at == 2
    assert isinstance(check(LINES[: at + 1], ROOT), str)


def test_the_outsider_refuses_another_station_s(tmp_path: Path) -> None:
    other = Keys(50)
    lines = log_of(12, other).lines()
    assert outsider()(lines, ROOT) == "it is the log of another station"
    file = tmp_path / "log.jsonl"
    file.write_bytes(b"\n".join(lines) + b"\n")
    command = [sys.executable, str(VERIFIER), str(file)]
    done = subprocess.run([*command, other.root.public.hex()], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    done = subprocess.run([*command, ROOT.hex()], capture_output=True, check=False)
    assert done.returncode == 1
