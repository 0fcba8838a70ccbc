"""The users there are, their tokens and sessions, and whom a bearer's text stands for. Pure state.

Whatever is withdrawn here counts with the next question: nothing of an answer is kept.
"""

from collections.abc import Iterable
from dataclasses import replace

from server.directory import is_within
from server.errors import NoSuchError
from server.rights.identity import Identity
from server.rights.table import Grant
from server.users.errors import UserError
from server.users.records import LoginSession, Token, User, hash_of

MAX_USERS = 5_000
MAX_GRANTS = 100
MAX_TOKENS_EACH = 50
MAX_SESSIONS_EACH = 20
IDLE_S = 2 * 3600
ABSOLUTE_S = 12 * 3600
FRESH_S = 5 * 60
MAX_TOKEN_DAYS = 365


class UserBook:
    """Users by name, tokens and sessions by the hash of their text."""

    def __init__(
        self,
        users: Iterable[User] = (),
        tokens: Iterable[Token] = (),
        sessions: Iterable[tuple[LoginSession, int]] = (),
    ) -> None:
        """Sessions each with when they were last used, in UTC seconds."""
        self._users = {user.name: user for user in users}
        self._tokens = {token.hash: token for token in tokens}
        self._sessions: dict[bytes, LoginSession] = {}
        self._used_s: dict[bytes, int] = {}
        for session, used_s in sessions:
            self._sessions[session.hash] = session
            self._used_s[session.hash] = used_s

    # ------------------------------------------------------------- who is it
    def identify(self, shown: str, now_s: int, *, used: bool = True) -> Identity | None:
        """Whom this text stands for; None if nobody. A session that is `used` lives on."""
        shown_hash = hash_of(shown)
        session = self._sessions.get(shown_hash)
        if session is not None:
            return self._of_session(session, now_s, used=used)
        token = self._tokens.get(shown_hash)
        return None if token is None else self._of_token(token, now_s)

    def _of_session(self, session: LoginSession, now_s: int, *, used: bool) -> Identity | None:
        user = self._users.get(session.user)
        if user is None or user.disabled or not self._is_alive(session, now_s):
            return None
        if used:
            self._used_s[session.hash] = now_s
        return Identity(
            user.name,
            "user",
            user.grants,
            session.number,
            fresh=now_s < session.fresh_until_s,
            held_up=user.must_choose,
        )

    def _is_alive(self, session: LoginSession, now_s: int) -> bool:
        return now_s < session.expires_s and now_s - self._used_s[session.hash] < IDLE_S

    def _of_token(self, token: Token, now_s: int) -> Identity | None:
        owner = self._users.get(token.owner)
        if owner is None or owner.disabled or now_s >= token.expires_s:
            return None
        return Identity(
            owner.name,
            "token",
            token.grants_of(owner),
            token.number,
            urgent=token.urgent,
            held_up=owner.must_choose,
        )

    def standing(self, name: str, token: str | None) -> frozenset[Grant]:
        """What a user may do now, or by a token of his; nothing if that is over."""
        user = self._users.get(name)
        if user is None or user.disabled:
            return frozenset()
        if token is None:
            return user.grants
        mine = (known for known in self._tokens.values() if known.number == token)
        return frozenset().union(*(known.grants_of(user) for known in mine))

    # ------------------------------------------------------------- users
    @property
    def users(self) -> tuple[User, ...]:
        """All of them, by name."""
        return tuple(self._users[name] for name in sorted(self._users))

    def user(self, name: str) -> User:
        """A user by name; NoSuchError if there is none."""
        found = self._users.get(name)
        if found is None:
            raise NoSuchError(f"no user {name!r}: `loa users` lists those there are")
        return found

    def find(self, name: str) -> User | None:
        """The same, None if there is none."""
        return self._users.get(name)

    def check_new(self, name: str) -> None:
        """UserError if there cannot be another user of this name."""
        alike = {known.casefold() for known in self._users}
        if name.casefold() in alike:
            raise UserError(f"there is a user {name!r} already")
        if len(self._users) >= MAX_USERS:
            raise UserError(f"there are {MAX_USERS} users: remove some first")

    def put(self, user: User) -> None:
        """Another user, or the same changed; UserError for too many grants."""
        if len(user.grants) > MAX_GRANTS:
            raise UserError(f"a user holds at most {MAX_GRANTS} rights")
        self._users[user.name] = user

    def remove(self, name: str) -> None:
        """A user, with all that stands for him."""
        self._users.pop(name, None)
        self.end_sessions(name)
        for token in self.tokens_of(name):
            self.remove_token(token)

    def forget_unit(self, path: str) -> None:
        """A unit is gone, and every right that was held there: one made anew is another."""
        for user in list(self._users.values()):
            self._users[user.name] = replace(user, grants=_without(user.grants, path))
        for token in list(self._tokens.values()):
            self._tokens[token.hash] = replace(token, grants=_without(token.grants, path))

    # ------------------------------------------------------------- tokens
    @property
    def tokens(self) -> tuple[Token, ...]:
        """All of them, by owner."""
        return tuple(sorted(self._tokens.values(), key=lambda t: (t.owner, t.label, t.number)))

    def tokens_of(self, owner: str) -> list[Token]:
        """One user's."""
        return [token for token in self.tokens if token.owner == owner]

    def token(self, number: str) -> Token:
        """A token by its number; NoSuchError if there is none."""
        for token in self._tokens.values():
            if token.number == number:
                return token
        raise NoSuchError("there is no such token: `loa tokens` lists those there are")

    def put_token(self, token: Token) -> None:
        """Another token."""
        self._tokens[token.hash] = token

    def remove_token(self, token: Token) -> None:
        """It opens nothing from now on."""
        self._tokens.pop(token.hash, None)

    # ------------------------------------------------------------- sessions
    def put_session(self, session: LoginSession, now_s: int) -> None:
        """Somebody has signed in."""
        self._sessions[session.hash] = session
        self._used_s[session.hash] = now_s

    def superfluous(self, user: str, now_s: int) -> list[LoginSession]:
        """Sessions that are over, and the oldest of a user who is to have one more."""
        over = [s for s in self._sessions.values() if not self._is_alive(s, now_s)]
        mine = [s for s in self._sessions.values() if s.user == user and s not in over]
        mine.sort(key=lambda session: self._used_s[session.hash])
        return over + mine[: max(len(mine) - MAX_SESSIONS_EACH + 1, 0)]

    def session_of(self, shown: str) -> LoginSession | None:
        """The session that this text opens, alive or not; None if it is none's."""
        return self._sessions.get(hash_of(shown))

    def end_session(self, session: LoginSession) -> None:
        """It opens nothing from now on."""
        self._sessions.pop(session.hash, None)
        self._used_s.pop(session.hash, None)

    def end_sessions(self, user: str, *, but: str | None = None) -> None:
        """A user's, all but that of a number."""
        for session in list(self._sessions.values()):
            if session.user == user and session.number != but:
                self.end_session(session)

    def uses_since(self, since_s: int) -> dict[bytes, int]:
        """When sessions were last used, of those that were since then; by their hash."""
        return {key: used_s for key, used_s in self._used_s.items() if used_s >= since_s}


def _without(grants: frozenset[Grant], path: str) -> frozenset[Grant]:
    return frozenset(grant for grant in grants if not is_within(grant.unit, path))
