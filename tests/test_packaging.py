"""The systemd units start what there is, with options that there are."""

import configparser
import shlex
import shutil
import subprocess
from argparse import ArgumentParser
from pathlib import Path

import pytest

from endpoints import options as speaker
from loa.__main__ import VERBS
from server.cli import serve

UNITS = sorted((Path(__file__).parents[1] / "packaging" / "systemd").glob("*.service"))
PARSERS: dict[str, ArgumentParser] = {"serve": serve._parser(), "speaker": speaker.parser()}


def unit(path: Path) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(strict=True, interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]  # systemd minds the case
    parsed.read_string(path.read_text())
    return parsed


def test_there_is_one_for_the_station_and_one_for_a_loudspeaker() -> None:
    assert [path.stem for path in UNITS] == ["loa-speaker", "loa-station"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_verb_with_options_it_knows(path: Path) -> None:
    program, verb, *options = shlex.split(unit(path)["Service"]["ExecStart"])
    assert program.endswith("/bin/loa")
    assert verb in VERBS
    PARSERS[verb].parse_args(options)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_itself_finds_nothing_wrong(path: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    # Only that the program is not installed there yet would be wrong with it.
    here = tmp_path / path.name
    here.write_text(path.read_text().replace("/opt/loa/.venv/bin/loa", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", str(here)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert path.name not in said.stderr + said.stdout
