"""Where somebody has signed in: sessions by station, in a file of the user's own."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.keys.private import PrivateError, read_private, replace_private

_FOLDER_MODE = 0o700


class SignedInError(Exception):
    """The file cannot be used; one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A session at a station: its text, whose it is, and by which certificate that is known.

    `fingerprint` is hexadecimal; None where the system's CAs vouch for the station.
    """

    session: str = field(repr=False)
    name: str
    fingerprint: str | None


def file_of(environment: Mapping[str, str]) -> Path | None:
    """Where this user's sessions are; None if the user has no home."""
    for named, below in (("XDG_CONFIG_HOME", ""), ("HOME", ".config")):
        # A relative path there is to be ignored (XDG Base Directory Specification).
        base = Path(environment.get(named, ""))
        if base.is_absolute():
            return base / below / "loa" / "sessions.json"
    return None


class SignedIn:
    """The sessions in one file, by the station's address."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def at(self, station: str) -> Kept | None:
        """The session at a station; None if there is none. SignedInError as `_load`."""
        row = self._load().get(station)
        if row is None:
            return None
        try:
            fingerprint = row["fingerprint"]
            if fingerprint is not None:
                bytes.fromhex(fingerprint)
            return Kept(str(row["session"]), str(row["name"]), fingerprint)
        except (KeyError, TypeError, ValueError):
            raise self._nonsense() from None

    def keep(self, station: str, kept: Kept) -> None:
        """From now on this is the session at a station; SignedInError if it cannot be written."""
        row = {"session": kept.session, "name": kept.name, "fingerprint": kept.fingerprint}
        self._write(self._load() | {station: row})

    def forget(self, station: str) -> None:
        """There is none at this station any more."""
        rows = self._load()
        if rows.pop(station, None) is not None:
            self._write(rows)

    def _load(self) -> dict[str, Any]:
        try:
            if not self._path.exists():
                return {}
            rows = json.loads(read_private(self._path))
        except PrivateError as error:
            raise SignedInError(str(error)) from None
        except (OSError, ValueError, RecursionError):
            raise self._nonsense() from None
        if not isinstance(rows, dict):
            raise self._nonsense()
        return rows

    def _nonsense(self) -> SignedInError:
        return SignedInError(f"{self._path} holds no sessions: remove it, and `loa login` again")

    def _write(self, rows: dict[str, Any]) -> None:
        data = json.dumps(rows, indent=1, ensure_ascii=False).encode(errors="replace")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
            replace_private(self._path, data)
        except OSError as error:
            raise SignedInError(f"{self._path}: {error.strerror}") from None
