"""The one command itself: its verbs, its version, and an output that cannot be written."""

import importlib
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from loa.__main__ import GROUPS, VERBS, main, usage

LOA = [sys.executable, "-P", "-m", "loa"]


def test_every_verb_has_a_line_below_its_group() -> None:
    text = usage()
    for group, verbs in GROUPS.items():
        assert f"\n{group}:\n" in text
        for verb, (_, what) in verbs.items():
            assert f"  {verb} " in text
            assert what in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_leads_to_a_function(verb: str) -> None:
    module, _, function = VERBS[verb][0].partition(":")
    assert callable(getattr(importlib.import_module(module), function or "main"))


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"loa {version('loa')}\n"


def test_an_unknown_verb_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sing"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["zones", "--help"]])
def test_a_full_disk_under_the_output_is_one_line(unbuffered: str, words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*LOA, *words],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            text=True,
            check=False,
        )
    # With no buffer argparse itself tries to write its help, and does not mind.
    if not (unbuffered and len(words) > 1):
        assert done.stderr == "loa: the output cannot be written: No space left on device\n"
        assert done.returncode == 1
    assert len(done.stderr.splitlines()) <= 1


def test_whoever_reads_the_output_may_go() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [*LOA, "--help"], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "")


def test_a_closed_output_is_no_output() -> None:
    done = subprocess.run(
        [*LOA, "--version"],
        preexec_fn=lambda: os.close(1),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
