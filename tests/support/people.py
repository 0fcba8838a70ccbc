"""People of a station for tests, and what they ask by the session or token they show."""

import json
from typing import Any

from server.app import Control
from server.rights.table import Grant, Role
from server.users.passwords import Cost, Passwords
from server.users.records import LoginSession, Token, User, hash_of, session_text, token_text
from tests.support.asking import InControl, Reply, ask

# Of no value but here, and never drawn.
PASSWORD = "correct horse battery staple"
CHEAP = Passwords(Cost(passes=1, memory_kib=8, lanes=1))


def cheap_passwords(room: InControl) -> None:
    """What a real one costs is measured elsewhere."""
    room.control.accounts._passwords = CHEAP


def grants(*plain: tuple[str, str]) -> frozenset[Grant]:
    """From roles and units."""
    return frozenset(Grant(Role(role), unit) for role, unit in plain)


def now_s(control: Control) -> int:
    return control._clock.now_ns() // 1_000_000_000


async def person(room: InControl, name: str, *plain: tuple[str, str]) -> str:
    """A user with these rights who has just signed in; the session's text."""
    control = room.control
    book = control.accounts.book
    user = User(name, CHEAP.hashed(PASSWORD), grants(*plain))
    control._store.users.save(user)
    book.put(user)
    return signed_in(control, name)


def signed_in(control: Control, name: str, *, fresh: bool = True) -> str:
    """Another session of a user; the text is the same for nobody else."""
    text = session_text(control.accounts._random_bytes(16))
    at = now_s(control)
    number = control.accounts._random_bytes(4).hex()
    session = LoginSession(number, hash_of(text), name, at + 300 * fresh, at + 3600)
    control._store.users.begin_session(session, at, [], 0)
    control.accounts.book.put_session(session, at)
    return text


def token_of(control: Control, owner: str, *plain: tuple[str, str], urgent: bool = False) -> str:
    """A token of a user; its text."""
    text = token_text(control.accounts._random_bytes(32))
    number = control.accounts._random_bytes(4).hex()
    at = now_s(control)
    token = Token(number, hash_of(text), owner, "test", grants(*plain), urgent, at + 86_400)
    control._store.users.add_token(token)
    control.accounts.book.put_token(token)
    return text


async def ask_as(room: InControl, shown: str, method: str, path: str, body: object = None) -> Reply:
    """One request of whoever shows this."""
    data = b"" if body is None else json.dumps(body).encode()
    return await ask(room, method, path, data, shown=b"Bearer " + shown.encode())


async def done(room: InControl, shown: str, method: str, path: str, body: object = None) -> Any:
    """The same, of what must be done; what it says."""
    reply = await ask_as(room, shown, method, path, body)
    assert reply.status < 300, (reply.status, reply.body)
    return reply.json() if reply.body else None
