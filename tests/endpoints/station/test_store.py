"""The state file: what is in it, who may have it, and what a kill leaves of it."""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from endpoints.station.store import (
    KnownStation,
    NoStateError,
    SpeakerState,
    SpeakerStore,
    StoreError,
    default_path,
)
from transport.control.address import StationAddress

ROOT = bytes(range(32))
KNOWN = KnownStation(StationAddress("10.0.0.1", 7460), ROOT, 3, 1 << 40)
STATE = SpeakerState(b"s" * 32, "Loa thôn Đông", KNOWN)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


@pytest.fixture
def store(path: Path) -> Iterator[SpeakerStore]:
    store = SpeakerStore.open(path)
    yield store
    store.close()


def read_again(path: Path) -> SpeakerState:
    store = SpeakerStore.open(path)
    store.close()
    return store.state


# ------------------------------------------------------------------ what is in it
def test_a_new_one_has_a_key_that_no_other_has(tmp_path: Path) -> None:
    states = [read_again(tmp_path / name / "state.json") for name in "ab"]
    assert len({state.seed for state in states}) == 2
    assert [(state.name, state.station, state.enrolled) for state in states] == 2 * [
        ("", None, False)
    ]


def test_what_was_written_is_read_again(store: SpeakerStore, path: Path) -> None:
    store.write(STATE)
    assert store.state == STATE
    store.close()
    assert read_again(path) == STATE
    assert STATE.enrolled


def test_it_is_written_before_keep_returns(store: SpeakerStore, path: Path) -> None:
    trio.run(store.keep, STATE)
    assert SpeakerState.from_json(path.read_bytes()) == STATE


def test_it_is_json_that_a_person_can_read(path: Path, store: SpeakerStore) -> None:
    store.write(STATE)
    plain = json.loads(path.read_bytes())
    assert plain == {
        "version": 1,
        "seed": "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M=",
        "name": "Loa thôn Đông",
        "station": {
            "address": "10.0.0.1:7460",
            "root": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "generation": 3,
            "session_number": 1 << 40,
        },
    }


@pytest.mark.parametrize(
    ("environment", "is_root", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/loa-speaker"}, False, "/var/lib/loa-speaker/state.json"),
        ({"STATE_DIRECTORY": "/a:/b", "XDG_STATE_HOME": "/c"}, True, "/a/state.json"),
        ({}, True, "/var/lib/loa-speaker/state.json"),
        ({"XDG_STATE_HOME": "/c"}, False, "/c/loa/speaker.json"),
        ({}, False, f"{Path.home()}/.local/state/loa/speaker.json"),
    ],
)
def test_its_place_depends_on_who_starts_it(
    environment: dict[str, str], is_root: bool, expected: str
) -> None:
    assert default_path(environment, is_root=is_root) == Path(expected)


# ------------------------------------------------------------------ who may have it
def test_it_is_its_owners_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        store = SpeakerStore.open(path)
        store.write(STATE)
        store.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o666, 0o700 | 0o001])
def test_one_that_others_may_use_is_refused_with_what_to_do(path: Path, mode: int) -> None:
    read_again(path)
    path.chmod(mode)
    with pytest.raises(StoreError, match=rf"others may use it: chmod 600 {path}$"):
        SpeakerStore.open(path)
    path.chmod(0o600)
    read_again(path)


def test_two_loudspeakers_do_not_share_one(store: SpeakerStore, path: Path) -> None:
    with pytest.raises(StoreError, match=rf"{path} is in use by another loudspeaker: .*--state"):
        SpeakerStore.open(path)
    store.write(STATE)  # it is another file now, under the same name
    with pytest.raises(StoreError, match="in use"):
        SpeakerStore.open(path)
    store.close()
    assert read_again(path) == STATE


def test_by_whatever_name_its_folder_goes_it_is_locked(
    store: SpeakerStore, path: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(StoreError, match="in use"):
        SpeakerStore.open(link / path.name)
    store.close()
    assert read_again(link / path.name) == read_again(path)


@pytest.mark.parametrize("there", [False, True])
def test_a_link_in_the_file_s_place_is_not_followed(path: Path, there: bool) -> None:
    other = path.with_name("other.json")
    if there:
        read_again(other)
    path.symlink_to(other)
    with pytest.raises(StoreError, match=rf"^{path} is a link: .*--state$"):
        SpeakerStore.open(path)
    assert path.is_symlink()
    assert other.exists() == there


def test_a_lock_outlives_no_exec(store: SpeakerStore, path: Path) -> None:
    """Or a loudspeaker that begins anew would lock itself out."""
    opened = f"from endpoints.station.store import *; SpeakerStore.open(Path({str(path)!r}))"
    store.close()
    again = (
        "import os, sys; from pathlib import Path; "
        "from endpoints.station.store import SpeakerStore; "
        f"SpeakerStore.open(Path({str(path)!r})); "
        f"os.execv(sys.executable, [sys.executable, '-P', '-c', {opened!r}])"
    )
    subprocess.run([sys.executable, "-P", "-c", again], check=True)


def test_none_is_made_where_none_was_asked_for(path: Path) -> None:
    with pytest.raises(NoStateError):
        SpeakerStore.open(path, create=False)
    assert list(path.parent.iterdir()) == []


def test_its_folder_is_made_if_need_be_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "loa" / "speaker.json"
    read_again(path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


# ------------------------------------------------------------------ what is none
GOOD = json.loads(STATE.to_json())


def changed(**fields: Any) -> bytes:
    return json.dumps(GOOD | fields).encode()


def station(**fields: Any) -> bytes:
    return changed(station=GOOD["station"] | fields)


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 50_000,
        STATE.to_json()[:-40],
        STATE.to_json() + b"x",
        STATE.to_json() + b" " * 70_000 + b"x",
        changed(version=2),
        changed(seed="AAAA"),
        changed(seed=GOOD["seed"] + "!"),
        changed(seed=None),
        changed(name=7),
        changed(name="all"),
        changed(station=[]),
        station(address="nowhere:x"),
        station(root="AAAA"),
        station(generation=-1),
        station(generation=True),
        station(generation="3"),
        station(generation=1 << 64),
        station(session_number=1.0),
        station(session_number=1 << 63),
    ],
    ids=lambda contents: repr(contents[:30]),
)
def test_a_damaged_one_is_named_and_kept_as_it_is(path: Path, contents: bytes) -> None:
    path.write_bytes(contents)
    path.chmod(0o600)
    with pytest.raises(StoreError, match=rf"^{path} is .*damaged: move it away and enrol"):
        SpeakerStore.open(path)
    assert path.read_bytes() == contents


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_state_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        SpeakerState.from_json(data)


@given(st.sampled_from(sorted(GOOD)), st.none() | st.integers() | st.text() | st.floats())
def test_a_strange_value_is_a_value_error(field: str, value: object) -> None:
    with suppress(ValueError):
        SpeakerState.from_json(json.dumps(GOOD | {field: value}).encode())


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket"])
def test_what_is_no_file_is_named(path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    with pytest.raises(StoreError, match=f"{path}"):
        SpeakerStore.open(path)


def test_where_it_cannot_be_the_systems_reason_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"Not a directory|File exists"):
        SpeakerStore.open(tmp_path / "file" / "state.json")


def test_a_write_that_fails_leaves_the_old_one_and_nothing_else(
    store: SpeakerStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(STATE)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=f"cannot write {path}: No space left on device"):
        store.write(SpeakerState(b"t" * 32))
    monkeypatch.undo()
    assert store.state == STATE
    assert list(path.parent.iterdir()) == [path]
    store.close()
    assert read_again(path) == STATE


@pytest.mark.parametrize(
    "state",
    [
        lambda: SpeakerState(b"short"),
        lambda: SpeakerState(b"s" * 32, "all"),
        lambda: KnownStation(KNOWN.address, b"short"),
        lambda: KnownStation(KNOWN.address, ROOT, -1),
        lambda: KnownStation(KNOWN.address, ROOT, 0, -1),
    ],
)
def test_a_state_that_cannot_be_is_not_made(state: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        state()


# ------------------------------------------------------------------ kills
WRITER = """
import itertools, sys
from dataclasses import replace
from pathlib import Path
from endpoints.station.store import KnownStation, SpeakerState, SpeakerStore
from transport.control.address import StationAddress

store = SpeakerStore.open(Path(sys.argv[1]))
known = store.state.station or KnownStation(StationAddress("a", 1), bytes(range(32)))
for number in itertools.count(known.session_number + 1):
    store.write(SpeakerState(store.state.seed, "a", replace(known, session_number=number)))
    print(number, flush=True)
"""


def test_a_kill_at_any_point_leaves_the_old_state_or_the_new(path: Path) -> None:
    """Killed a little later each time; the next start finds a state, and every number it told."""
    last = 0
    for enough in (1, 2, 3, 5, 8, 13, 21, 34):
        with subprocess.Popen(
            [sys.executable, "-P", "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline() for _ in range(enough)]
            writer.kill()
            said += writer.stdout.readlines()
        told = int(next(line for line in reversed(said) if line.endswith("\n")))
        known = read_again(path).station
        assert known is not None
        assert told <= known.session_number <= told + 1
        assert known.session_number >= last + enough
        last = known.session_number
        assert list(path.parent.iterdir()) == [path]


CREATOR = """
import sys
from pathlib import Path
from endpoints.station.store import SpeakerStore
print(flush=True)
sys.stdin.readline()
SpeakerStore.open(Path(sys.argv[1]))
"""


def test_a_kill_while_it_is_made_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    for number in range(12):
        path = tmp_path / str(number) / "state.json"
        with subprocess.Popen(
            [sys.executable, "-P", "-c", CREATOR, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as creator:
            assert creator.stdin is not None
            assert creator.stdout is not None
            creator.stdout.readline()
            creator.stdin.write(b"\n")
            creator.stdin.flush()
            if number % 2:
                while not path.parent.exists():  # it has begun: no time is waited for
                    pass
            creator.kill()
        assert len(read_again(path).seed) == 32
        assert list(path.parent.iterdir()) == [path]


def test_of_two_that_make_it_at_once_one_has_it(path: Path) -> None:
    creators = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", f"{CREATOR}sys.stdin.readline()", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for creator in creators:
        assert creator.stdout is not None
        creator.stdout.readline()
    for creator in creators:
        assert creator.stdin is not None
        creator.stdin.write(b"\n")
        creator.stdin.flush()
    # Whoever has it waits; the other ends at once.
    while all(creator.poll() is None for creator in creators):
        pass
    errors = [creator.communicate()[1] for creator in creators]
    assert sorted(creator.returncode for creator in creators) == [0, 1]
    assert b"in use by another loudspeaker" in b"".join(errors)
