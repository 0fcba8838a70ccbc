"""`loa enrol`."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.sessions import Peer
from tests.support.stations import key_of_name
from transport.control.address import StationAddress
from transport.control.messages import Enrolled, Pending
from transport.security.enrolment import EnrolmentCode
from transport.security.keys import shown_fingerprint

Desk = Any  # the fixture's; see conftest
AtDesk = Callable[[Callable[[Desk], Awaitable[None]]], None]
HERE = "--address", "192.0.2.9:7460"
KEY = shown_fingerprint(key_of_name("x"))


async def comes(desk: Desk, code: str, name: str = "x") -> tuple[Peer, asyncio.Task[None]]:
    """A loudspeaker comes with this code."""
    sessions: Any = desk.room.control.sessions
    peer = Peer(name=name, tls_hash=sessions.credentials.tls_hash)
    serving = asyncio.create_task(sessions.serve(peer))
    await peer.prove(await peer.enrol(EnrolmentCode.parse(code).secret))
    return peer, serving


def code_in(text: str) -> str:
    return next(word for word in text.split() if word.startswith("loa:"))


def test_one_code_is_shown_as_text_as_a_picture_and_as_what_to_type(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        said = await desk.says("enrol", "chợ", *HERE)
        assert said.lines[0] == "a code for chợ, good once, for 60 min:"
        code = code_in(said.out)
        assert EnrolmentCode.parse(code).server == StationAddress("192.0.2.9", 7460)
        picture = [line for line in said.lines if set(line) <= set("█▀▄ ") and line.strip()]
        assert 15 < len(picture) < 30
        assert len({len(line) for line in picture}) == 1
        assert max(len(line) for line in picture) <= 80
        assert said.lines[-1] == f"at the loudspeaker:  loa speaker --enrol {code}"
        peer, serving = await comes(desk, code)
        assert await peer.hears() == Enrolled("chợ")
        await serving

    at_desk(scenario)


def test_a_code_for_this_machine_alone_is_said_to_be_so(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        said = await desk.loa("enrol", "a")
        assert said.status == 0
        assert len(said.err.splitlines()) == 1
        assert "at 127.0.0.1: say where it is with --address HOST[:PORT]" in said.err
        assert EnrolmentCode.parse(code_in(said.out)).server.host == "127.0.0.1"
        assert (await desk.loa("enrol", "a", "--address", "127.0.0.1")).err == ""

    at_desk(scenario)


def test_codes_for_several_are_a_line_each(at_desk: AtDesk, tmp_path: Path) -> None:
    async def scenario(desk: Desk) -> None:
        file = tmp_path / "names.txt"
        file.write_text("\ufeffb\n\n  chợ  \n", encoding="utf-8")
        said = await desk.says("enrol", "a", "--file", str(file), *HERE)
        names = [line.split("\t")[0] for line in said.lines]
        assert names == ["a", "b", "chợ"]
        for line in said.lines:
            EnrolmentCode.parse(line.split("\t")[1])
        file.write_text("one", encoding="utf-8")
        said = await desk.says("enrol", "--file", str(file), *HERE)
        assert [line.split("\t")[0] for line in said.lines] == ["one"]

    at_desk(scenario)


def test_a_fleet_has_its_codes_by_parts(at_desk: AtDesk, tmp_path: Path) -> None:
    async def scenario(desk: Desk) -> None:
        file = tmp_path / "names.txt"
        wanted = [f"n{number:03}" for number in range(450)]
        file.write_text("\n".join(wanted), encoding="utf-8")
        said = await desk.says("enrol", "--file", str(file), "--minutes", "525600", *HERE)
        assert [line.split("\t")[0] for line in said.lines] == wanted
        assert len(desk.room.control.enrolling.enrolment.codes) == 450
        rows = json.loads((await desk.says("enrol", "--file", str(file), "--json", *HERE)).out)
        assert [row["name"] for row in rows] == wanted

    at_desk(scenario)


def test_whoever_comes_is_listed_and_approved(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        assert (await desk.says("enrol", "list")).out == "no code is outstanding\n"
        said = await desk.says("enrol", "--minutes", "5", *HERE)
        assert said.lines[0] == "a code for whoever comes, good once, for 5 min:"
        assert said.lines[-1] == "then:  loa enrol list  and  loa enrol approve KEY --name NAME"
        peer, serving = await comes(desk, code_in(said.out))
        assert isinstance(await peer.hears(), Pending)
        said = await desk.says("enrol", "list")
        assert said.cells(2) == ["x", KEY, "192.0.2.1", "0 s"]
        assert said.cells(6)[0] == "(whoever comes)"
        assert said.cells(6)[3] == "yes"
        said = await desk.says("enrol", "approve", KEY.lower(), "--name", "market")
        assert said.out == "loudspeaker market enrolled\n"
        assert await peer.hears() == Enrolled("market")
        await serving
        found = json.loads((await desk.says("enrol", "--json", "list")).out)
        assert found == {"codes": [], "pending": []}

    at_desk(scenario)


def test_whoever_comes_is_refused(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        peer, serving = await comes(desk, code_in((await desk.says("enrol", *HERE)).out))
        assert isinstance(await peer.hears(), Pending)
        said = await desk.says("enrol", "refuse", KEY)
        assert said.out == "it was sent away, and its code is none any more\n"
        await serving
        assert (await desk.says("enrol", "list")).out == "no code is outstanding\n"

    at_desk(scenario)


def test_a_code_is_cancelled_by_its_name_or_its_number(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.says("enrol", "a", *HERE)
        await desk.says("enrol", *HERE)
        rows = json.loads((await desk.says("enrol", "list", "--json")).out)["codes"]
        number = next(row["number"] for row in rows if not row["name"])
        for which in ("a", number):
            said = await desk.says("enrol", "cancel", which)
            assert said.out == f"the code for {which} is none any more\n"
        assert (await desk.says("enrol", "list")).out == "no code is outstanding\n"

    at_desk(scenario)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["a", "b", "a"], 2, "'a' is there twice"),
        (["all"], 1, "'all' is no loudspeaker's name"),
        (["a", "--unit", "nowhere"], 1, "no unit 'nowhere'"),
        (["a", "--minutes", "0"], 1, "minutes: "),
        (["a", "--minutes", "soon"], 2, "--minutes"),
        (["a", "--address", "http://x"], 2, "--address 'http://x' is no station's address"),
        (["--file", "/nowhere"], 2, "--file /nowhere: No such file"),
        (["--file", "/dev/null"], 2, "there is no name in it"),
        (["approve", "AAAAA", "--name", "a"], 1, "waits to be approved"),
        (["approve", "AAAAA"], 2, "--name"),
        (["refuse", "AAAAA"], 1, "waits to be approved"),
        (["cancel", "a"], 1, "no code for 'a' is outstanding: there is none"),
        (["cancel", "00000000"], 1, "there is no such code"),
    ],
)
def test_what_cannot_be_is_one_line(
    at_desk: AtDesk, words: list[str], status: int, said: str
) -> None:
    async def scenario(desk: Desk) -> None:
        done = await desk.loa("enrol", *words)
        assert (done.status, done.out) == (status, "")
        assert said in done.err
        assert len(done.err.splitlines()) == 1

    at_desk(scenario)
