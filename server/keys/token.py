"""The operator's token: whoever has it may do everything with the station."""

import re
import secrets
from pathlib import Path

from server.keys.private import PrivateError, create_private, read_private, replace_private, stamp

_TOKEN_BYTES = 32
_TOKEN = re.compile(rf"[0-9a-f]{{{2 * _TOKEN_BYTES}}}")


class AccessError(Exception):
    """There is no token to be had; one line that says what to do."""


class TokenFile:
    """Where the operator's token is kept."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def stamp(self) -> tuple[int, ...]:
        """Differs from what it was once the token was made anew; takes microseconds."""
        return stamp(self._path)

    def create(self) -> None:
        """Draw the first token; OSError if there is one."""
        create_private(self._path, _drawn())

    def renew(self) -> None:
        """Draw another token in place of this one; OSError if it cannot be written."""
        replace_private(self._path, _drawn())

    def load(self) -> str:
        """The token; AccessError if there is none, or others can read it."""
        try:
            text = read_private(self._path).decode("ascii", "replace").strip()
        except PrivateError as error:
            hint = "" if self._path.exists() else ": `loa keys token --new` makes another"
            raise AccessError(f"{error}{hint}") from None
        if not _TOKEN.fullmatch(text):
            raise AccessError(f"{self._path} is no token: make one with `loa keys token --new`")
        return text


def _drawn() -> bytes:
    return f"{secrets.token_hex(_TOKEN_BYTES)}\n".encode()
