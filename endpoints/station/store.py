"""The loudspeaker's one file: its key, its name, its station, and the numbers that only rise.

JSON, readable by its owner alone, and locked while a loudspeaker uses it. Every write makes a new
file beside it and puts that in its place, so whatever happens there is the old one or the new one
(rename(2)); both the file and the folder are synced before the write counts as done.
"""

import base64
import binascii
import errno
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from transport.control.address import StationAddress
from transport.control.messages import check_name
from transport.security.keys import SigningKey

VERSION = 1
SEED_BYTES = 32
ROOT_BYTES = 32
_MAX_BYTES = 1 << 16
_SYSTEM_PATH = Path("/var/lib/loa-speaker/state.json")
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class StoreError(Exception):
    """The state file cannot be used; one line that says what to do."""


class NoStateError(StoreError):
    """There is no state file yet."""


@dataclass(frozen=True, slots=True)
class KnownStation:
    """The station a loudspeaker belongs to.

    `root` is its root's public key; `generation` the highest that its station key has had, and
    `session_number` the highest of its welcomes: whoever shows a lower one is not it any more.
    """

    address: StationAddress
    root: bytes
    generation: int = 0
    session_number: int = 0

    def __post_init__(self) -> None:
        if len(self.root) != ROOT_BYTES:
            raise ValueError(f"a root's public key has {ROOT_BYTES} bytes")
        if not 0 <= self.generation < 1 << 64 or not 0 <= self.session_number < 1 << 63:
            raise ValueError("a generation or a session's number is out of range")


@dataclass(frozen=True, slots=True)
class SpeakerState:
    """What a loudspeaker knows of itself.

    Before it is enrolled it has no name. It may know its station all the same, where its last key
    was revoked and this one waits for approval: the station's numbers go on rising.
    """

    seed: bytes
    name: str = ""
    station: KnownStation | None = None

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise ValueError(f"a key's seed has {SEED_BYTES} bytes")
        if self.name:
            check_name(self.name)

    @property
    def enrolled(self) -> bool:
        """Whether it belongs to a station."""
        return bool(self.name) and self.station is not None

    @property
    def key(self) -> SigningKey:
        """What it signs with."""
        return SigningKey(self.seed)

    def to_json(self) -> bytes:
        """The file's contents."""
        plain: dict[str, Any] = {
            "version": VERSION,
            "seed": base64.b64encode(self.seed).decode(),
            "name": self.name,
            "station": None,
        }
        if self.station is not None:
            plain["station"] = {
                "address": self.station.address.text,
                "root": base64.b64encode(self.station.root).decode(),
                "generation": self.station.generation,
                "session_number": self.station.session_number,
            }
        return json.dumps(plain, indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> "SpeakerState":
        """From the file's contents; ValueError if they are not."""
        try:
            plain = json.loads(data)
            if plain["version"] != VERSION:
                raise ValueError("another version")
            seed = base64.b64decode(_text(plain["seed"]), validate=True)
            return cls(seed, _text(plain["name"]), _station(plain["station"]))
        except (KeyError, TypeError, binascii.Error, RecursionError) as error:
            raise ValueError("not what a loudspeaker writes") from error


def _station(plain: Any) -> KnownStation | None:
    if plain is None:
        return None
    return KnownStation(
        StationAddress.parse(_text(plain["address"])),
        base64.b64decode(_text(plain["root"]), validate=True),
        _whole(plain["generation"]),
        _whole(plain["session_number"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: object) -> int:
    if type(value) is not int:  # exact: true must not pass for 1
        raise TypeError
    return value


def default_path(environment: Mapping[str, str], *, is_root: bool) -> Path:
    """Where the file is unless told: the service manager's folder, the system's, or the user's."""
    if given := environment.get("STATE_DIRECTORY"):  # systemd.exec(5), StateDirectory=
        return Path(given.partition(":")[0]) / _SYSTEM_PATH.name
    if is_root:
        return _SYSTEM_PATH
    own = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(own) / "loa" / "speaker.json"


async def _in_a_thread(write: Callable[[], None]) -> None:
    """A card may take a second to sync, and the sound must not wait for it."""
    await trio.to_thread.run_sync(write)


class SpeakerStore:
    """The state file, open and locked."""

    def __init__(
        self,
        path: Path,
        lock: int,
        state: SpeakerState,
        aside: Callable[[Callable[[], None]], Awaitable[None]],
    ) -> None:
        """Use `open`. `lock` is a descriptor of the locked file."""
        self.path = path
        self._lock = lock
        self._state = state
        self._aside = aside

    @classmethod
    def open(
        cls,
        path: Path,
        draw: Callable[[int], bytes] = secrets.token_bytes,
        aside: Callable[[Callable[[], None]], Awaitable[None]] = _in_a_thread,
        *,
        create: bool = True,
    ) -> "SpeakerStore":
        """The file at `path`, made with a new key where there is none; StoreError.

        NoStateError where there is none and it shall not be made. `draw` gives so many random
        bytes; `aside` is where writing happens.
        """
        # The folder may be a link; the file may not, for whoever made that would choose the file.
        path = path.parent.resolve() / path.name
        try:
            while (lock := _locked(path)) is None:
                if not create:
                    raise NoStateError(f"there is no {path}")
                _create(path, SpeakerState(draw(SEED_BYTES)))
            try:
                state = _read(lock, path)
                _remove_unfinished(path)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            raise StoreError(f"cannot use {path}: {error.strerror or error}") from error
        return cls(path, lock, state, aside)

    @property
    def state(self) -> SpeakerState:
        """What was written last."""
        return self._state

    async def keep(self, state: SpeakerState) -> None:
        """Written, synced and in its place when this returns; StoreError if that is impossible."""
        await self._aside(lambda: self.write(state))

    def write(self, state: SpeakerState) -> None:
        """The same, and everything waits for it."""
        try:
            fresh, lock = _written(self.path, state)
            try:
                fresh.replace(self.path)
            except OSError:
                fresh.unlink(missing_ok=True)
                os.close(lock)
                raise
            # From here on the new file is the state, though the folder may not be synced.
            before, self._lock, self._state = self._lock, lock, state
            os.close(before)
            _sync_folder(self.path)
        except OSError as error:
            raise StoreError(f"cannot write {self.path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Let another process use the file."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _locked(path: Path) -> int | None:
    """A descriptor of the file that is at `path`, locked; None where there is none."""
    while True:
        try:
            lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:  # open(2): O_NOFOLLOW
                raise
            raise StoreError(f"{path} is a link: give the file itself with --state") from None
        try:
            _check(os.fstat(lock), path)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, lock):
                return lock
        except BlockingIOError:
            os.close(lock)
            raise StoreError(
                f"{path} is in use by another loudspeaker: end that one, or give this one a file "
                "of its own with --state"
            ) from None
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)  # it was replaced in between; who did that holds the new one


def _is_at(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    return False


def _check(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is no file: give another with --state")
    if found.st_mode & _OF_OTHERS:
        raise StoreError(
            f"{path} holds this loudspeaker's key, and others may use it: chmod 600 {path}"
        )


def _read(descriptor: int, path: Path) -> SpeakerState:
    data = os.read(descriptor, _MAX_BYTES + 1)
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError("too long")
        return SpeakerState.from_json(data)
    except ValueError:
        raise StoreError(
            f"{path} is no loudspeaker's state, or is damaged: move it away and enrol this "
            "loudspeaker anew with --enrol"
        ) from None


def _create(path: Path, state: SpeakerState) -> None:
    """Make the file, unless another process was quicker."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh, lock = _written(path, state)
    try:
        # Unlike a rename it never takes the place of what is there.
        with suppress(FileExistsError, FileNotFoundError):
            path.hardlink_to(fresh)
        fresh.unlink(missing_ok=True)
        _sync_folder(path)
    finally:
        os.close(lock)


def _written(path: Path, state: SpeakerState) -> tuple[Path, int]:
    """A new file beside `path`, locked and synced, and its descriptor."""
    fresh = path.with_name(f"{_unfinished(path)}{secrets.token_hex(8)}")
    lock = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        left = memoryview(state.to_json())
        while left:
            left = left[os.write(lock, left) :]
        os.fsync(lock)
    except BaseException:
        fresh.unlink(missing_ok=True)
        os.close(lock)
        raise
    return fresh, lock


def _unfinished(path: Path) -> str:
    return f".{path.name}.new-"


def _remove_unfinished(path: Path) -> None:
    """What a process left that was killed while it wrote; only the holder of the lock may."""
    for left in path.parent.iterdir():
        if left.name.startswith(_unfinished(path)):
            left.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
