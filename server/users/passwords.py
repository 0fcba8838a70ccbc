"""Passwords: hashed by Argon2id (RFC 9106), which takes its time; call it in a worker thread."""

import base64
import secrets
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from server.users.errors import UserError
from transport.control.messages import spelt_alike

MIN_LETTERS = 10
# Argon2 would take more, and whoever is not signed in may choose how much.
MAX_LETTERS = 256
# Of a password that is drawn: 5 bits each, and none that is mistaken for another.
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
_GROUPS, _GROUP = 4, 5
# As the library draws and makes them.
_SALT_BYTES, _HASH_BYTES = 16, 32


@dataclass(frozen=True, slots=True)
class Cost:
    """What one hash costs; RFC 9106 section 4, for who has little memory, on one core."""

    passes: int = 3
    memory_kib: int = 64 << 10
    lanes: int = 1


class Passwords:
    """Hashes and checks them. Every call blocks for as long as the cost says."""

    def __init__(self, cost: Cost | None = None) -> None:
        cost = cost or Cost()
        self._hasher = PasswordHasher(cost.passes, cost.memory_kib, cost.lanes)
        # A user who does not exist is checked against this, so that it takes as long. Nobody has
        # ever hashed anything to it.
        shape = f"m={cost.memory_kib},t={cost.passes},p={cost.lanes}"
        self._nobody = f"$argon2id$v=19${shape}${_base64(_SALT_BYTES)}${_base64(_HASH_BYTES)}"

    def hashed(self, password: str) -> str:
        """What is kept of a password, salted; in the PHC string format."""
        return self._hasher.hash(_bytes(password))

    def is_right(self, kept: str | None, password: str) -> bool:
        """Whether that is the password; of nobody (None) it never is, and takes as long."""
        if len(password) > MAX_LETTERS:
            password = ""  # it is nobody's
        try:
            self._hasher.verify(kept or self._nobody, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False
        return kept is not None


def _bytes(password: str) -> bytes:
    """In the one spelling; a stranger may send half a character too."""
    return spelt_alike(password).encode(errors="surrogatepass")


def _base64(length: int) -> str:
    """Random bytes as the PHC string format has them."""
    return base64.b64encode(secrets.token_bytes(length)).decode().rstrip("=")


def check_password(password: str, name: str) -> str:
    """The password, if it can be one; UserError if it would be guessed at once."""
    if not MIN_LETTERS <= len(password) <= MAX_LETTERS:
        raise UserError(f"a password has {MIN_LETTERS} to {MAX_LETTERS} letters")
    if len(set(password)) < 4 or password.casefold() in name.casefold() * MAX_LETTERS:
        raise UserError("this password would be guessed: use several words that go ill together")
    return password


def drawn_password() -> str:
    """A password of 100 random bits, to be read and typed by a person once."""
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return "-".join(groups)
