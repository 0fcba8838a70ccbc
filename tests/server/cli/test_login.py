"""`loa login`, `loa logout`, `loa users` and `loa tokens`, of a station that is served."""

import json
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from server.signed_in import Kept, SignedIn, SignedInError
from tests.support.people import CHEAP, PASSWORD

Desk = Any  # the fixture's; see conftest
AtDesk = Callable[[Callable[[Desk], Awaitable[None]]], None]
OTHER = "quite another set of words"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LOA_DATA", str(tmp_path / "no station"))
    return tmp_path / "config" / "loa" / "sessions.json"


def kept_in(home: Path) -> tuple[int, list[dict[str, Any]]]:
    """The file's mode, and the sessions in it."""
    return stat.S_IMODE(home.stat().st_mode), list(json.loads(home.read_text()).values())


async def with_ana(desk: Desk, monkeypatch: pytest.MonkeyPatch, *roles: str) -> None:
    """Ana is added by the machine's token, and has chosen a password at her first login."""
    desk.room.control.accounts._passwords = CHEAP
    monkeypatch.setenv("LOA_NEW_PASSWORD", "handed over on paper")
    said = await desk.says("users", "add", "ana", "--role", *roles)
    assert said.out == f"user ana added: {', '.join(f'{r} at Tân Phú' for r in sorted(roles))}\n"
    monkeypatch.delenv("LOA_TOKEN")
    monkeypatch.setenv("LOA_PASSWORD", "handed over on paper")
    monkeypatch.setenv("LOA_NEW_PASSWORD", PASSWORD)
    said = await desk.says("login", "ana")
    assert "choose one of your own" in said.out
    assert "ana is signed in at 127.0.0.1:" in said.out
    monkeypatch.setenv("LOA_PASSWORD", PASSWORD)


def test_whoever_signs_in_is_himself_in_all_commands_until_he_signs_out(
    at_desk: AtDesk, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    async def scenario(desk: Desk) -> None:
        await with_ana(desk, monkeypatch, "viewer")
        mode, (row,) = kept_in(home)
        assert mode == 0o600
        monkeypatch.delenv("LOA_FINGERPRINT")  # it was kept with the session
        assert (await desk.says("units")).out.startswith("Tân Phú")
        refused = await desk.loa("units", "add", "Tân Phú/x")
        assert refused.status == 1
        assert refused.err == (
            "loa units: to edit units needs the right of administrator: ana has none of these "
            "rights\n"
        )
        await desk.says("logout")
        assert kept_in(home) == (0o600, [])
        assert desk.room.control.access.identify(row["session"]) is None
        assert (await desk.loa("units")).status == 1
        assert "nobody is signed in" in (await desk.loa("logout")).err

    at_desk(scenario)


def test_a_session_that_is_over_is_one_line_that_says_what_to_do(
    at_desk: AtDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(desk: Desk) -> None:
        await with_ana(desk, monkeypatch, "viewer")
        desk.room.control.accounts.book.end_sessions("ana")
        said = await desk.loa("units")
        assert (said.status, "`loa login` begins another" in said.err) == (1, True)
        assert len(said.err.splitlines()) == 1
        monkeypatch.setenv("LOA_PASSWORD", "wrong wrong wrong")
        said = await desk.loa("login", "ana")
        assert said.err.startswith("loa login: nobody is signed in by that")

    at_desk(scenario)


def test_users_are_listed_and_changed(at_desk: AtDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(desk: Desk) -> None:
        await with_ana(desk, monkeypatch, "administrator")
        monkeypatch.delenv("LOA_NEW_PASSWORD")
        said = await desk.says("users", "add", "bob", "--role", "operator", "viewer")
        (password,) = [line.split(": ")[1] for line in said.lines if "first password" in line]
        assert len(password) == 23
        await desk.says("units", "add", "Tân Phú/A")
        await desk.says("users", "grant", "bob", "emergency", "Tân Phú/A")
        said = await desk.says("users", "withdraw", "bob", "viewer")
        assert "emergency at Tân Phú/A" in said.out
        assert "viewer" not in said.out
        await desk.says("users", "disable", "bob")
        table = await desk.says("users")
        assert table.cells(2) == [
            "bob", "operator at Tân Phú, emergency at Tân Phú/A", "disabled, first password",
        ]  # fmt: skip
        await desk.says("users", "enable", "bob")
        monkeypatch.setenv("LOA_NEW_PASSWORD", OTHER)
        await desk.says("users", "password", "bob")
        await desk.says("users", "password", "ana")
        await desk.says("users", "remove", "bob")
        assert len((await desk.says("users")).lines) == 2
        monkeypatch.setenv("LOA_PASSWORD", OTHER)
        await desk.says("login", "ana")
        said = await desk.loa("users", "add", "carl")
        assert (said.status, said.err) == (
            2, "loa users: what may the user do? --role ROLE ... [--unit UNIT]\n",
        )  # fmt: skip

    at_desk(scenario)


def test_tokens_are_shown_once_and_open_what_they_say(
    at_desk: AtDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(desk: Desk) -> None:
        await with_ana(desk, monkeypatch, "operator", "viewer")
        said = await desk.says("tokens", "add", "bells", "--role", "viewer", "--days", "7")
        text = said.lines[1].removeprefix("shown this once: ")
        table = await desk.says("tokens")
        assert text not in table.out
        assert table.cells(1)[1:3] == ["ana", "bells"]
        assert table.cells(1)[4] == "viewer at Tân Phú"
        refused = await desk.loa("tokens", "add", "more", "--role", "administrator")
        assert "you are no administrator" in refused.err
        monkeypatch.setenv("LOA_TOKEN", text)
        assert (await desk.says("units")).out.startswith("Tân Phú")
        assert (await desk.loa("mute", "--to", "all")).status == 1
        monkeypatch.delenv("LOA_TOKEN")
        await desk.says("tokens", "remove", table.cells(1)[0])
        monkeypatch.setenv("LOA_TOKEN", text)
        assert "does not take this token" in (await desk.loa("units")).err

    at_desk(scenario)


# ------------------------------------------------------------------ where they are kept
def test_sessions_are_kept_by_station_and_never_shown(tmp_path: Path) -> None:
    kept = SignedIn(tmp_path / "a" / "sessions.json")
    assert kept.at("x:1") is None
    one, two = Kept("loa-session-1", "ana", "ab" * 32), Kept("loa-session-2", "bob", None)
    kept.keep("x:1", one)
    kept.keep("y:1", two)
    assert (kept.at("x:1"), kept.at("y:1")) == (one, two)
    kept.forget("x:1")
    kept.forget("z:1")
    assert (kept.at("x:1"), kept.at("y:1")) == (None, two)
    assert "loa-session" not in repr(one)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"x:1": 7}', '{"x:1": {}}', "\xff", '{"x:1": {"fingerprint": "zz"}}']
)
def test_what_is_no_file_of_sessions_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sessions.json"
    path.write_text(text, encoding="latin-1")
    path.chmod(0o600)
    with pytest.raises(SignedInError, match="remove it"):
        SignedIn(path).at("x:1")


def test_a_file_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "sessions.json"
    path.write_text("{}")
    path.chmod(0o644)
    with pytest.raises(SignedInError, match="chmod 600"):
        SignedIn(path).at("x:1")
