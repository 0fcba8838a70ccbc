"""Signing in and out, and every change of users: checked, written, and only then true.

Whoever asks is checked under the same lock as what is changed, so that nothing comes between.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from server.audit.caller import Caller, caller
from server.audit.row import Entry
from server.directory import Directory
from server.errors import StationError
from server.keeper import Keeper
from server.recording import Recorder
from server.rights.identity import ForbiddenError, Identity, check_grants_within
from server.rights.table import Deed, Grant
from server.users import totp
from server.users.book import ABSOLUTE_S, FRESH_S, MAX_TOKEN_DAYS, MAX_TOKENS_EACH, UserBook
from server.users.errors import (
    CodeWantedError,
    SignInError,
    TooManyAttemptsError,
    UserError,
)
from server.users.lockout import Lockout
from server.users.passwords import Passwords, check_password
from server.users.records import (
    NUMBER_BYTES,
    SESSION_BYTES,
    TOKEN_BYTES,
    LoginSession,
    Token,
    User,
    check_user_name,
    hash_of,
    holds,
    session_text,
    token_text,
)
from transport.control.messages import spelt_alike

_NS_PER_SECOND = 1_000_000_000
_S_PER_DAY = 86_400
# Each takes a tenth of a second of one thread; whoever comes when so many wait comes again.
_MOST_WAITING = 32
_T = TypeVar("_T")
_WRONG = "nobody is signed in by that: look at the name, the password and, if you use one, the code"


class Tables(Protocol):
    """Where they are kept: `server.store.users.UserStore`."""

    def save(  # noqa: D102
        self, user: User, *, end_sessions: bool = False, but: str | None = None
    ) -> None: ...
    def remove(self, name: str) -> None: ...  # noqa: D102
    def add_token(self, token: Token) -> None: ...  # noqa: D102
    def remove_token(self, number: str) -> None: ...  # noqa: D102
    def begin_session(  # noqa: D102
        self, session: LoginSession, at: int, over: list[bytes], totp_step: int
    ) -> None: ...
    def end_sessions(self, hashes: list[bytes]) -> None: ...  # noqa: D102
    def sessions_used(self, used_s: dict[bytes, int]) -> None: ...  # noqa: D102


class Accounts:
    """Whom the station knows."""

    def __init__(
        self,
        book: UserBook,
        tables: Tables,
        keeper: Keeper,
        recorder: Recorder,
        directory: Directory,
        *,
        passwords: Passwords,
        now_ns: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`changed` is called when somebody may do less than before, or more."""
        self.book = book
        self._tables = tables
        self._keeper = keeper
        self._recorder = recorder
        self._directory = directory
        self._passwords = passwords
        self._now_ns = now_ns
        self._random_bytes = random_bytes
        self._changed = changed
        self._lockout = Lockout()
        self._lock = asyncio.Lock()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="passwords")
        self._waiting = 0
        self._kept_up_to_s = 0
        # Secrets of one-time codes that have yet to be shown to work, by user.
        self._offered: dict[str, bytes] = {}

    def _now_s(self) -> int:
        return self._now_ns() // _NS_PER_SECOND

    def identify(self, shown: str, *, used: bool = True) -> Identity | None:
        """Whom a session's or token's text stands for now; None if nobody.

        To be only looked at, and not `used`, does not keep a session alive.
        """
        return self.book.identify(shown, self._now_s(), used=used)

    # ------------------------------------------------------------- signing in
    async def sign_in(
        self, name: str, password: str, code: str | None, address: str
    ) -> tuple[LoginSession, str]:
        """A new session, and its text, which is kept nowhere.

        SignInError, or TooManyAttemptsError before anything is looked at. How long it takes does
        not tell whether there is such a user.
        """
        name = spelt_alike(name)
        if self._waiting >= _MOST_WAITING:
            raise TooManyAttemptsError(1)
        wait_s = self._lockout.attempt(name, address, self._now_s())
        if wait_s:
            raise TooManyAttemptsError(wait_s)
        found = self.book.find(name)
        kept = None if found is None else found.password
        if not await self._work(self._passwords.is_right, kept, password):
            raise SignInError(_WRONG)
        async with self._lock:
            user = self.book.find(name)
            # It may have been changed while the password was looked at.
            if user is None or user.disabled or user.password != kept:
                raise SignInError(_WRONG)
            user = self._with_code(user, code)
            begun = await self._begin(user)
        self._lockout.succeeded(name, address, self._now_s())
        return begun

    def _with_code(self, user: User, code: str | None) -> User:
        """The user, after this code was used."""
        if user.totp is None:
            return user
        if not code:
            raise CodeWantedError(f"{user.name} has one-time codes: the code is wanted as well")
        step = totp.step_of(user.totp, code, self._now_s(), user.totp_step)
        if step is None:
            raise SignInError(_WRONG)
        return replace(user, totp_step=step)

    async def _begin(self, user: User) -> tuple[LoginSession, str]:
        now_s = self._now_s()
        text = session_text(self._random_bytes(SESSION_BYTES))
        session = LoginSession(
            self._random_bytes(NUMBER_BYTES).hex(),
            hash_of(text),
            user.name,
            now_s + FRESH_S,
            now_s + ABSOLUTE_S,
        )
        over = self.book.superfluous(user.name, now_s)
        hashes = [old.hash for old in over]
        by = Caller(user.name, caller().where)
        entry = self._recorder.entry("user.sign in", {"session": session.number}, by=by)
        begin = self._tables.begin_session
        await self._keep(entry, begin, session, now_s, hashes, user.totp_step)
        for old in over:
            self.book.end_session(old)
        self.book.put(user)
        self.book.put_session(session, now_s)
        return session, text

    async def sign_out(self, shown: str) -> None:
        """End the session of this text; UserError if it is none's."""
        async with self._lock:
            session = self.book.session_of(shown)
            if session is None:
                raise UserError("there is no session to end: whoever asks shows a token")
            # At once, whatever the disk says.
            self.book.end_session(session)
            entry = self._recorder.entry("user.sign out", {"session": session.number})
            await self._keep(entry, self._tables.end_sessions, [session.hash])

    def save_uses(self) -> None:
        """Write down which sessions were used since this was called last."""
        since_s, self._kept_up_to_s = self._kept_up_to_s, self._now_s()
        self._keeper.later(self._tables.sessions_used, self.book.uses_since(since_s))

    # ------------------------------------------------------------- users
    async def add(self, asker: Identity, name: str, password: str, grants: Iterable[Grant]) -> User:
        """A user, who is to choose another password when he first signs in."""
        name = check_user_name(name)
        hashed = await self._hashed(password, name)
        async with self._lock:
            held = self._checked(grants)
            check_grants_within(asker, held)
            self.book.check_new(name)
            user = User(name, hashed, held, must_choose=True)
            await self._save("user.add", user, _told(held))
        return user

    async def grant(self, asker: Identity, name: str, grant: Grant) -> User:
        """A right more. Whoever has rights elsewhere is given more by who administers both."""
        async with self._lock:
            user = self.book.user(name)
            (grant,) = self._checked([grant])
            check_grants_within(asker, user.grants | {grant})
            changed = replace(user, grants=user.grants | {grant})
            return await self._save("user.grant", changed, _told([grant]))

    async def withdraw(self, asker: Identity, name: str, grant: Grant) -> User:
        """A right less, from the next question on; his tokens' as well."""
        async with self._lock:
            check_grants_within(asker, [grant])
            user = self.book.user(name)
            if grant not in user.grants:
                raise UserError(f"{name} is no {grant.role} at {grant.unit}")
            changed = replace(user, grants=user.grants - {grant})
            return await self._save("user.withdraw", changed, _told([grant]))

    async def disable(self, asker: Identity, name: str, *, disabled: bool) -> User:
        """Neither his password nor any session or token of his opens anything; or they do again."""
        async with self._lock:
            user = self._managed(asker, name)
            what = "user.disable" if disabled else "user.enable"
            changed = replace(user, disabled=disabled)
            return await self._save(what, changed, end_sessions=disabled)

    async def remove(self, asker: Identity, name: str) -> None:
        """Forget a user, with all that stands for him."""
        async with self._lock:
            self._managed(asker, name)
            entry = self._recorder.entry("user.remove", {"user": name})
            await self._keep(entry, self._tables.remove, name)
            self.book.remove(name)
            self._changed()

    def _managed(self, asker: Identity, name: str) -> User:
        """A user whom the asker administers wherever that has rights."""
        user = self.book.find(name)
        if user is None:
            asker.check_somewhere(Deed.MANAGE_USERS)
            return self.book.user(name)
        check_grants_within(asker, user.grants)
        return user

    def _own_or_managed(self, asker: Identity, name: str, *, held_up: bool = False) -> User:
        """The asker himself, if he has just signed in, or a user whom he administers."""
        if asker.kind != "user" or asker.name != name:
            return self._managed(asker, name)
        if not asker.fresh:
            raise ForbiddenError("sign in again before this: `loa login`; it is good for 5 minutes")
        if asker.held_up and not held_up:
            asker.check(Deed.SEE, ())
        return self.book.user(name)

    async def set_password(self, asker: Identity, name: str, password: str) -> User:
        """One's own, or another's, who is then to choose one; his other sessions are ended."""
        own = asker.kind == "user" and asker.name == name
        before = self._own_or_managed(asker, name, held_up=True)
        if own and await self._work(self._passwords.is_right, before.password, password):
            raise UserError("that is the password there is: choose another")
        hashed = await self._hashed(password, name)
        async with self._lock:
            user = self._own_or_managed(asker, name, held_up=True)
            changed = replace(user, password=hashed, must_choose=not own)
            but = asker.session if own else None
            return await self._save("user.password", changed, end_sessions=True, but=but)

    async def offer_codes(self, asker: Identity, name: str) -> bytes:
        """A secret for one-time codes, which counts once `begin_codes` was shown that it works."""
        async with self._lock:
            self._own_or_managed(asker, name)
            secret = self._offered[name] = self._random_bytes(totp.SECRET_BYTES)
        return secret

    async def begin_codes(self, asker: Identity, name: str, code: str) -> User:
        """From now on a code is wanted too, made of the secret that was offered last."""
        async with self._lock:
            user = self._own_or_managed(asker, name)
            secret = self._offered.get(name)
            step = None if secret is None else totp.step_of(secret, code, self._now_s(), 0)
            if secret is None or step is None:
                raise UserError("that is no code of the secret shown last: ask for another secret")
            changed = replace(user, totp=secret, totp_step=step)
            user = await self._save("user.codes on", changed)
            del self._offered[name]
            return user

    async def end_codes(self, asker: Identity, name: str) -> User:
        """A password alone is enough again."""
        async with self._lock:
            user = self._own_or_managed(asker, name)
            return await self._save("user.codes off", replace(user, totp=None, totp_step=0))

    def _checked(self, grants: Iterable[Grant]) -> frozenset[Grant]:
        """In the one spelling; NoSuchError for a unit that does not exist."""
        check = self._directory.check_unit
        return frozenset(Grant(grant.role, check(grant.unit)) for grant in grants)

    async def _save(
        self,
        what: str,
        user: User,
        told: Mapping[str, Any] | None = None,
        *,
        end_sessions: bool = False,
        but: str | None = None,
    ) -> User:
        """`what` and what is `told` stand in the audit log."""

        def save() -> None:
            self._tables.save(user, end_sessions=end_sessions, but=but)

        entry = self._recorder.entry(what, {"user": user.name, **(told or {})})
        await self._keep(entry, save)
        self.book.put(user)
        if end_sessions:
            self.book.end_sessions(user.name, but=but)
        self._changed()
        return user

    # ------------------------------------------------------------- tokens
    async def add_token(
        self, asker: Identity, label: str, grants: Iterable[Grant], days: int, *, urgent: bool
    ) -> tuple[Token, str]:
        """A token of the asker's, and its text, which is kept nowhere."""
        if asker.kind != "user":
            raise ForbiddenError("a token belongs to a person: sign in with `loa login`")
        if not 1 <= days <= MAX_TOKEN_DAYS:
            raise UserError(f"a token is good for 1 to {MAX_TOKEN_DAYS} days")
        async with self._lock:
            owner = self._own_or_managed(asker, asker.name)
            if len(self.book.tokens_of(owner.name)) >= MAX_TOKENS_EACH:
                raise UserError(f"you have {MAX_TOKENS_EACH} tokens: remove some first")
            held = self._checked(grants)
            self._check_held(owner, held)
            text = token_text(self._random_bytes(TOKEN_BYTES))
            token = Token(
                self._random_bytes(NUMBER_BYTES).hex(),
                hash_of(text),
                owner.name,
                label,
                held,
                urgent,
                self._now_s() + days * _S_PER_DAY,
            )
            told = {"token": token.number, "label": label, "urgent": urgent, "days": days}
            entry = self._recorder.entry("token.add", told | _told(held))
            await self._keep(entry, self._tables.add_token, token)
            self.book.put_token(token)
        return token, text

    @staticmethod
    def _check_held(owner: User, wanted: frozenset[Grant]) -> None:
        if not wanted:
            raise UserError("what may it do? name at least one role and a unit")
        for grant in wanted:
            if not holds(owner.grants, grant):
                raise ForbiddenError(
                    f"you are no {grant.role} at {grant.unit}: a token has no more rights than you"
                )

    async def remove_token(self, asker: Identity, number: str) -> None:
        """It opens nothing from the next question on."""
        async with self._lock:
            token = self.book.token(number)
            if asker.kind == "token" or asker.name != token.owner:
                self._managed(asker, token.owner)
            told = {"token": number, "user": token.owner}
            entry = self._recorder.entry("token.remove", told)
            await self._keep(entry, self._tables.remove_token, number)
            self.book.remove_token(token)
            self._changed()

    # ------------------------------------------------------------- what takes time
    async def _work(self, call: Callable[..., _T], *args: object) -> _T:
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._worker, call, *args)
        finally:
            self._waiting -= 1

    async def _hashed(self, password: str, name: str) -> str:
        return await self._work(self._passwords.hashed, check_password(password, name))

    async def _keep(self, entry: Entry, call: Callable[..., None], *args: object) -> None:
        try:
            await self._recorder.change([entry], call, *args)
        except ValueError:  # a unit was removed a moment ago
            raise StationError("nothing was changed: a unit that it names is gone") from None


def _told(grants: Iterable[Grant]) -> dict[str, Any]:
    """Rights as the audit log tells them."""
    return {"rights": sorted(f"{grant.role} at {grant.unit}" for grant in grants)}
