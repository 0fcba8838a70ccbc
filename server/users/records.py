"""Users, their tokens and their sessions, as they are kept. Secrets are kept as hashes alone."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from server.rights.table import Grant, is_reached
from server.users.errors import UserError
from transport.control.messages import spelt_alike

SESSION_BYTES = 16
TOKEN_BYTES = 32
NUMBER_BYTES = 4
# Whoever finds one of these somewhere knows at once what it is.
SESSION_PREFIX, TOKEN_PREFIX = "loa-session-", "loa-token-"
_NAME = re.compile(r"\w[\w.@-]{0,63}")
# Who is meant by it in logs is the operator's token, or the station itself.
_TAKEN = {"token", "station", "loudspeaker"}


def check_user_name(name: str) -> str:
    """The one spelling of a user's name; UserError if it is none."""
    name = spelt_alike(name)
    if not _NAME.fullmatch(name):
        raise UserError(f"{name!r} is no name for a user: use 1 to 64 letters, digits or . @ - _")
    if name.casefold() in _TAKEN:
        raise UserError(f"{name!r} means another in the logs: choose another name")
    return name


def hash_of(bearer: str) -> bytes:
    """What is kept of a session's or token's text; it is random, so one SHA-256 will do."""
    return hashlib.sha256(bearer.encode(errors="replace")).digest()


def session_text(random: bytes) -> str:
    """How a session is shown, of 16 random bytes."""
    return SESSION_PREFIX + _hexadecimal(random, SESSION_BYTES)


def token_text(random: bytes) -> str:
    """How a token is shown, of 32 random bytes."""
    return TOKEN_PREFIX + _hexadecimal(random, TOKEN_BYTES)


def _hexadecimal(random: bytes, length: int) -> str:
    if len(random) != length:
        raise ValueError(f"{length} random bytes are wanted, not {len(random)}")
    return random.hex()


@dataclass(frozen=True, slots=True)
class User:
    """A person. `password` is a hash; `totp` the secret of one-time codes, None without them.

    `totp_step` is the last step whose code was used. Whoever `must_choose` a password has one that
    another knows.
    """

    name: str
    password: str = field(repr=False)
    grants: frozenset[Grant] = frozenset()
    disabled: bool = False
    must_choose: bool = False
    totp: bytes | None = field(default=None, repr=False)
    totp_step: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """What a program shows in the place of its owner; `number` names it, and opens nothing.

    It may do what these grants and its owner's both allow.
    """

    number: str
    hash: bytes = field(repr=False)
    owner: str
    label: str
    grants: frozenset[Grant]
    urgent: bool
    expires_s: int

    def grants_of(self, owner: User) -> frozenset[Grant]:
        """As far as its owner has them still."""
        return frozenset(grant for grant in self.grants if holds(owner.grants, grant))


@dataclass(frozen=True, slots=True)
class LoginSession:
    """Somebody who signed in; `number` names it, and opens nothing. Instants in UTC seconds."""

    number: str
    hash: bytes = field(repr=False)
    user: str
    fresh_until_s: int
    expires_s: int


def holds(held: Iterable[Grant], wanted: Grant) -> bool:
    """Whether these grants include this one, at its unit or above it."""
    return is_reached(wanted.unit, {g.unit for g in held if g.role is wanted.role})
