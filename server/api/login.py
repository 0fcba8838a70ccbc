"""The HTTP API: signing in and out, and who one is."""

from typing import Any

from fastapi import FastAPI, Request, Response

from server.api.answers import IdentityAnswer, SessionAnswer
from server.api.bodies import LoginBody
from server.api.rights import OPEN, Anybody
from server.api.users import grant_rows
from server.app import Control
from transport.control.address import neighbourhood


def add_login(api: FastAPI, control: Control) -> None:
    """A session for a name and a password."""
    accounts = control.accounts

    @api.post("/api/v1/login", response_model=SessionAnswer, status_code=201, dependencies=[OPEN])
    async def sign_in(body: LoginBody, request: Request, response: Response) -> dict[str, Any]:
        """Sign in; the session is shown like a token. Instants are UTC seconds.

        What is dangerous wants a session that began a moment ago: until `fresh_until`.
        """
        request.state.asked = {"user": body.name}
        where = neighbourhood(request.client.host) if request.client else ""
        session, text = await accounts.sign_in(body.name, body.password, body.code, where)
        response.headers["Cache-Control"] = "no-store"
        return {
            "session": text,
            "expires": session.expires_s,
            "fresh_until": session.fresh_until_s,
            "must_choose_password": accounts.book.user(session.user).must_choose,
        }

    @api.get("/api/v1/login", response_model=IdentityAnswer)
    async def who(asker: Anybody) -> dict[str, Any]:
        """Who you are here, and what you may do where."""
        return {
            "name": asker.name,
            "kind": asker.kind,
            "grants": grant_rows(asker.grants),
            "fresh": asker.fresh,
            "must_choose_password": asker.held_up,
        }

    @api.delete("/api/v1/login", status_code=204)
    async def sign_out(asker: Anybody, request: Request) -> None:  # noqa: ARG001 - states the right
        """End the session that is shown."""
        await accounts.sign_out(request.state.shown)
