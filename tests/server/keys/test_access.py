"""Who may use the API: nobody without the operator's token, and of a stranger nothing is read."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.keys.access import Access, AccessCheck
from server.keys.token import AccessError, TokenFile
from tests.support.tls import TOKEN

Message = dict[str, Any]


class House:
    """What lies behind the check: how often somebody came in."""

    def __init__(self) -> None:
        self.access = Access(TOKEN)
        self.visits = 0
        self.read = 0
        self._check = AccessCheck(self._serve, self.access)

    async def _serve(self, _scope: object, _receive: object, send: Any) -> None:
        self.visits += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def ask(self, *shown: bytes, method: str = "GET", path: str = "/api/v1/zones") -> list[Message]:
        """The reply to a request that shows these in its head."""
        headers = [(b"authorization", value) for value in shown]
        return self.visit({"type": "http", "method": method, "path": path, "headers": headers})

    def visit(self, scope: Message) -> list[Message]:
        sent: list[Message] = []

        async def receive() -> Message:
            self.read += 1
            return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self._check(scope, receive, send))
        return sent

    def status(self, *shown: bytes, method: str = "GET", path: str = "/api/v1/zones") -> int:
        return int(self.ask(*shown, method=method, path=path)[0]["status"])


def test_with_the_token_everything_may_be_done() -> None:
    house = House()
    for scheme in (b"Bearer", b"bearer", b"BEARER"):
        assert house.status(scheme + b" " + TOKEN.encode()) == 200
    assert house.visits == 3


WRONG = [
    b"",
    b"Bearer",
    b"Bearer ",
    b"Bearer x",
    TOKEN.encode(),
    b"Basic " + TOKEN.encode(),
    b"Bearer " + TOKEN[:-1].encode(),
    b"Bearer " + TOKEN.encode() + b"0",
    b"Bearer " + TOKEN.upper().encode(),
    b"Bearer \xff\xfe",
]


@pytest.mark.parametrize("shown", WRONG)
def test_without_it_nothing_is_done_and_one_line_says_how_to_get_it(shown: bytes) -> None:
    house = House()
    start, body = house.ask(shown, method="POST")
    assert start["status"] == 401
    assert (b"www-authenticate", b"Bearer") in start["headers"]
    assert json.loads(body["body"])["status"] == 401
    assert b"loa keys token" in body["body"]
    assert TOKEN.encode() not in body["body"]
    assert (house.visits, house.read) == (0, 0)


def test_nobody_shows_two_tokens() -> None:
    house = House()
    right = b"Bearer " + TOKEN.encode()
    assert house.status() == 401
    assert house.status(right, right) == 401
    assert house.status(right, b"Bearer x") == 401


@pytest.mark.parametrize("path", ["/api/v1/docs", "/api/v1/openapi.json", "/programmes/live-1.sdp"])
def test_what_says_how_to_authenticate_is_open_to_read(path: str) -> None:
    house = House()
    assert house.status(path=path) == 200
    assert house.status(path=path, method="POST") == 401
    for near in (path + "/", path + "/x", "/" + path, path.upper(), "/x" + path):
        assert house.status(path=near) == 401


def test_loudspeakers_prove_their_own_keys_and_no_other_session_is_begun() -> None:
    house = House()
    house.visit({"type": "websocket", "path": "/control", "headers": []})
    assert house.visits == 1
    for path in ("/control/", "/api/v1/zones", "/"):
        (closed,) = house.visit({"type": "websocket", "path": path, "headers": []})
        assert closed["type"] == "websocket.close"
    assert house.visits == 1
    assert house.status(path="/control") == 401


def test_a_token_made_anew_is_the_only_one() -> None:
    house = House()
    house.access.token = "f" * 64
    assert house.status(b"Bearer " + TOKEN.encode()) == 401
    assert house.status(b"Bearer " + b"f" * 64) == 200


@given(st.text(max_size=80))
def test_whatever_is_shown_but_the_token_is_not_it(shown: str) -> None:
    assert Access(TOKEN).allows(shown) == (shown == TOKEN)


def test_no_token_is_no_way_in() -> None:
    assert not Access("").allows("")


# ------------------------------------------------------------------ where it is kept
@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    file = TokenFile(tmp_path / "operator.token")
    file.create()
    return file


def test_a_token_is_drawn_once_and_for_its_user_alone(file: TokenFile, tmp_path: Path) -> None:
    token = file.load()
    assert len(bytes.fromhex(token)) == 32
    assert stat.S_IMODE((tmp_path / "operator.token").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        file.create()
    assert file.load() == token


def test_a_token_is_made_anew(file: TokenFile, tmp_path: Path) -> None:
    before, stamp = file.load(), file.stamp()
    file.renew()
    assert file.load() != before
    assert file.stamp() != stamp
    assert stat.S_IMODE((tmp_path / "operator.token").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_token_that_others_can_reach_is_not_used(
    file: TokenFile, tmp_path: Path, mode: int
) -> None:
    (tmp_path / "operator.token").chmod(mode)
    with pytest.raises(AccessError, match="`chmod 600 "):
        file.load()


@pytest.mark.parametrize("text", ["", "\n", "admin", TOKEN[1:], TOKEN + "0", "g" * 64, "\xff"])
def test_what_is_no_token_opens_nothing(file: TokenFile, tmp_path: Path, text: str) -> None:
    (tmp_path / "operator.token").write_text(text)
    with pytest.raises(AccessError, match="is no token: make one with `loa keys token --new`"):
        file.load()
