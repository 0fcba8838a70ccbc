"""The HTTP API: users, their rights, their passwords and codes, and tokens."""

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import FastAPI, Path

from server.api.answers import NewTokenAnswer, TokenAnswer, TotpAnswer, UserAnswer
from server.api.bodies import (
    CodesBody,
    GrantBody,
    Name,
    PasswordBody,
    TokenBody,
    UserBody,
    UserChangeBody,
)
from server.api.pages import Paged
from server.api.rights import Anybody, UserManager
from server.app import Control
from server.rights.identity import Identity
from server.rights.table import Deed, Grant, may
from server.users import totp
from server.users.records import Token, User
from transport.control.messages import spelt_alike

TokenNumber = Annotated[str, Path(pattern="^[0-9a-f]{8}$")]


def add_users(api: FastAPI, control: Control) -> None:
    """Who may come in, and what they may do."""
    _add_list(api, control)
    _add_grants(api, control)
    _add_secrets(api, control)
    _add_tokens(api, control)


def grant_rows(grants: Iterable[Grant]) -> list[dict[str, str]]:
    """Roles at units, sorted."""
    rows = sorted((grant.unit, grant.role.value) for grant in grants)
    return [{"role": role, "unit": unit} for unit, role in rows]


def _user_row(user: User, asker: Identity) -> dict[str, Any]:
    """Of a user who has rights elsewhere, those that the asker administers."""
    seen = [g for g in user.grants if asker.reaches(Deed.MANAGE_USERS, g.unit)]
    mine = asker.kind == "user" and asker.name == user.name
    return {
        "name": user.name,
        "grants": grant_rows(user.grants if mine else seen),
        "disabled": user.disabled,
        "must_choose_password": user.must_choose,
        "codes": user.totp is not None,
    }


def _token_row(token: Token) -> dict[str, Any]:
    return {
        "number": token.number,
        "owner": token.owner,
        "label": token.label,
        "grants": grant_rows(token.grants),
        "urgent": token.urgent,
        "expires": token.expires_s,
    }


def _administers(asker: Identity, user: User) -> bool:
    """Whether the asker administers a unit where the user has a right; the station has all."""
    if may(asker.grants, Deed.MANAGE_USERS, ()):
        return True
    return any(asker.reaches(Deed.MANAGE_USERS, grant.unit) for grant in user.grants)


def _add_list(api: FastAPI, control: Control) -> None:
    accounts = control.accounts

    @api.get("/api/v1/users", response_model=list[UserAnswer])
    async def users(asker: UserManager, page: Paged) -> list[dict[str, Any]]:
        """Every user who has a right in a unit that you administer."""
        mine = (user for user in accounts.book.users if _administers(asker, user))
        return [_user_row(user, asker) for user in page.rows(mine, lambda user: user.name)]

    @api.post("/api/v1/users", response_model=UserAnswer, status_code=201)
    async def add(body: UserBody, asker: UserManager) -> dict[str, Any]:
        """Add a user, who chooses another password at the first sign-in."""
        grants = [grant.grant() for grant in body.grants]
        return _user_row(await accounts.add(asker, body.name, body.password, grants), asker)

    @api.patch("/api/v1/users/{name}", response_model=UserAnswer)
    async def change(name: Name, body: UserChangeBody, asker: UserManager) -> dict[str, Any]:
        """Shut a user out at once, or let him in again."""
        name = spelt_alike(name)
        return _user_row(await accounts.disable(asker, name, disabled=body.disabled), asker)

    @api.delete("/api/v1/users/{name}", status_code=204)
    async def remove(name: Name, asker: UserManager) -> None:
        """Forget a user, with his sessions and tokens."""
        await accounts.remove(asker, spelt_alike(name))


def _add_grants(api: FastAPI, control: Control) -> None:
    accounts = control.accounts

    @api.post("/api/v1/users/{name}/grants", response_model=UserAnswer)
    async def grant(name: Name, body: GrantBody, asker: UserManager) -> dict[str, Any]:
        """Give a user a role at a unit and everything below it."""
        return _user_row(await accounts.grant(asker, spelt_alike(name), body.grant()), asker)

    @api.post("/api/v1/users/{name}/grants/withdraw", response_model=UserAnswer)
    async def withdraw(name: Name, body: GrantBody, asker: UserManager) -> dict[str, Any]:
        """Take a role at a unit from a user; what he says on air by it is ended."""
        return _user_row(await accounts.withdraw(asker, spelt_alike(name), body.grant()), asker)


def _add_secrets(api: FastAPI, control: Control) -> None:
    accounts = control.accounts

    @api.put("/api/v1/users/{name}/password", status_code=204)
    async def password(name: Name, body: PasswordBody, asker: Anybody) -> None:
        """Choose a password of your own, just after you signed in; or give another a first one."""
        await accounts.set_password(asker, spelt_alike(name), body.password)

    @api.put(
        "/api/v1/users/{name}/codes",
        response_model=TotpAnswer,
        response_model_exclude_unset=True,
    )
    async def codes(name: Name, body: CodesBody, asker: Anybody) -> dict[str, Any]:
        """Have one-time codes wanted too: first without a code, for a secret; then with one."""
        name = spelt_alike(name)
        if body.code is None:
            secret = await accounts.offer_codes(asker, name)
            uri = totp.uri(secret, control.name, name)
            return {"secret": totp.shown(secret), "uri": uri, "codes": False}
        await accounts.begin_codes(asker, name, body.code)
        return {"codes": True}

    @api.delete("/api/v1/users/{name}/codes", status_code=204)
    async def no_codes(name: Name, asker: Anybody) -> None:
        """Have the password be enough again."""
        await accounts.end_codes(asker, spelt_alike(name))


def _add_tokens(api: FastAPI, control: Control) -> None:
    accounts = control.accounts

    @api.get("/api/v1/tokens", response_model=list[TokenAnswer])
    async def tokens(asker: Anybody, page: Paged) -> list[dict[str, Any]]:
        """Your tokens, and those of users whom you administer."""
        book = accounts.book
        mine = (
            token
            for token in book.tokens
            if (asker.kind != "machine" and token.owner == asker.name)
            or _administers(asker, book.user(token.owner))
        )
        return [_token_row(token) for token in page.rows(mine, lambda token: token.number)]

    @api.post("/api/v1/tokens", response_model=NewTokenAnswer, status_code=201)
    async def add(body: TokenBody, asker: Anybody) -> dict[str, Any]:
        """Make a token of yours; it is shown this once."""
        grants = [grant.grant() for grant in body.grants]
        token, text = await accounts.add_token(
            asker, body.label, grants, body.days, urgent=body.urgent
        )
        return _token_row(token) | {"token": text}

    @api.delete("/api/v1/tokens/{number}", status_code=204)
    async def remove(number: TokenNumber, asker: Anybody) -> None:
        """Have a token open nothing any more; what is said on air by it is ended."""
        await accounts.remove_token(asker, number)
