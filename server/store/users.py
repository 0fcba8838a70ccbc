"""Users, their rights, tokens and sessions, in and out of their tables."""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from server.rights.table import Grant, Role
from server.store.engine import StoreError
from server.store.tables import (
    GrantRow,
    LoginSessionRow,
    TokenGrantRow,
    TokenRow,
    UserRow,
)
from server.users.records import LoginSession, Token, User


@dataclass(frozen=True, slots=True)
class Users:
    """All that is kept of people; sessions each with when they were last used, UTC seconds."""

    users: tuple[User, ...] = ()
    tokens: tuple[Token, ...] = ()
    sessions: tuple[tuple[LoginSession, int], ...] = ()


class UserStore:
    """The store's part about people. Every call is one transaction, as all of the store's."""

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[Connection]],
        units: Callable[[], Mapping[str, int]],
    ) -> None:
        """`units` has each unit's number by its path."""
        self._transaction = transaction
        self._units = units

    def load(self) -> Users:
        """Everybody; StoreError if somebody wrote nonsense into it."""
        paths = {number: path for path, number in self._units().items()}
        with self._transaction() as connection:
            held = _grants(connection, GrantRow, "user_name", paths)
            given = _grants(connection, TokenGrantRow, "token", paths)
            users = connection.execute(select(*UserRow.__table__.columns)).all()
            tokens = connection.execute(select(*TokenRow.__table__.columns)).all()
            sessions = connection.execute(select(*LoginSessionRow.__table__.columns)).all()
        return Users(
            tuple(_user(row, frozenset(held.get(row.name, ()))) for row in users),
            tuple(_token(row, frozenset(given.get(row.number, ()))) for row in tokens),
            tuple((_session(row), row.used_at) for row in sessions),
        )

    # ------------------------------------------------------------- users
    def save(self, user: User, *, end_sessions: bool = False, but: str | None = None) -> None:
        """Add or replace a user, with his rights; ValueError if a unit does not exist.

        Perhaps with all his sessions ended but that of a number.
        """
        grants = [{"user_name": user.name, **row} for row in self._rows(user.grants)]
        row = {
            "password": user.password,
            "disabled": user.disabled,
            "must_choose": user.must_choose,
            "totp": user.totp,
            "totp_step": user.totp_step,
        }
        with self._transaction() as connection:
            changed = update(UserRow).where(UserRow.name == user.name).values(**row)
            if not connection.execute(changed).rowcount:
                connection.execute(insert(UserRow), {"name": user.name, **row})
            connection.execute(delete(GrantRow).where(GrantRow.user_name == user.name))
            if grants:
                connection.execute(insert(GrantRow), grants)
            if end_sessions:
                mine = LoginSessionRow.user_name == user.name
                others = LoginSessionRow.number != (but or "")
                connection.execute(delete(LoginSessionRow).where(mine, others))

    def remove(self, name: str) -> None:
        """A user, with all that stands for him; nothing if there is none."""
        with self._transaction() as connection:
            connection.execute(delete(UserRow).where(UserRow.name == name))

    # ------------------------------------------------------------- tokens
    def add_token(self, token: Token) -> None:
        """ValueError if its number is in use, or a unit does not exist."""
        grants = [{"token": token.number, **row} for row in self._rows(token.grants)]
        row = {
            "number": token.number,
            "hash": token.hash,
            "owner": token.owner,
            "label": token.label,
            "urgent": token.urgent,
            "expires_at": token.expires_s,
        }
        with self._transaction() as connection:
            connection.execute(insert(TokenRow), row)
            if grants:
                connection.execute(insert(TokenGrantRow), grants)

    def remove_token(self, number: str) -> None:
        """Nothing if there is none."""
        with self._transaction() as connection:
            connection.execute(delete(TokenRow).where(TokenRow.number == number))

    # ------------------------------------------------------------- sessions
    def begin_session(
        self, session: LoginSession, at: int, over: Collection[bytes], totp_step: int
    ) -> None:
        """Somebody has signed in at an instant; his code's step is used, and these are over."""
        row = {
            "hash": session.hash,
            "number": session.number,
            "user_name": session.user,
            "fresh_until": session.fresh_until_s,
            "expires_at": session.expires_s,
            "used_at": at,
        }
        with self._transaction() as connection:
            _end(connection, over)
            mine = UserRow.name == session.user
            connection.execute(update(UserRow).where(mine).values(totp_step=totp_step))
            connection.execute(insert(LoginSessionRow), row)

    def end_sessions(self, hashes: Collection[bytes]) -> None:
        """Those there are of these."""
        with self._transaction() as connection:
            _end(connection, hashes)

    def sessions_used(self, used_s: Mapping[bytes, int]) -> None:
        """When sessions were last used, by their hash; those that are over are ignored."""
        if not used_s:
            return
        statement = (
            update(LoginSessionRow)
            .where(LoginSessionRow.hash == bindparam("of"))
            .values(used_at=bindparam("at"))
        )
        with self._transaction() as connection:
            connection.execute(statement, [{"of": of, "at": at} for of, at in used_s.items()])

    def _rows(self, grants: Iterable[Grant]) -> list[dict[str, Any]]:
        units = self._units()
        for grant in grants:
            if grant.unit not in units:
                raise ValueError(f"no unit {grant.unit!r} is stored")
        return [{"role": grant.role.value, "unit_id": units[grant.unit]} for grant in grants]


def _end(connection: Connection, hashes: Collection[bytes]) -> None:
    if hashes:
        statement = delete(LoginSessionRow).where(LoginSessionRow.hash == bindparam("of"))
        connection.execute(statement, [{"of": of} for of in hashes])


def _grants(
    connection: Connection,
    table: type[GrantRow | TokenGrantRow],
    of: str,
    paths: Mapping[int, str],
) -> dict[str, list[Grant]]:
    found: dict[str, list[Grant]] = {}
    for row in connection.execute(select(*table.__table__.columns)):
        try:
            grant = Grant(Role(row.role), paths[row.unit_id])
        except (ValueError, KeyError) as error:
            raise StoreError(f"a right in {table.__tablename__} is none: {error}") from None
        found.setdefault(getattr(row, of), []).append(grant)
    return found


def _user(row: Any, grants: frozenset[Grant]) -> User:
    return User(
        row.name, row.password, grants, row.disabled, row.must_choose, row.totp, row.totp_step
    )


def _token(row: Any, grants: frozenset[Grant]) -> Token:
    return Token(row.number, row.hash, row.owner, row.label, grants, row.urgent, row.expires_at)


def _session(row: Any) -> LoginSession:
    return LoginSession(row.number, row.hash, row.user_name, row.fresh_until, row.expires_at)
