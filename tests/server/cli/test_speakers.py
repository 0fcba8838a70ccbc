"""`loa speakers`."""

import json
import unicodedata
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import pytest

from transport.control.address import StationAddress
from transport.control.messages import Telemetry
from transport.discovery.records import FoundSpeaker

Desk = Any  # the fixture's; see conftest
AtDesk = Callable[[Callable[[Desk], Awaitable[None]]], None]

WELL = Telemetry(
    "playing", -23.04, 12.4, 30.0, 970, 30, 0, 0, 60.0, packets_missed=1, hearing="live-1"
)


def _join(desk: Desk, name: str, telemetry: Telemetry | None = None) -> None:
    desk.room.join(name)
    desk.room.control.station.speakers[name].telemetry = telemetry


def test_a_loudspeaker_s_figures_are_in_the_table(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "chợ", WELL)
        table = await desk.says("speakers")
        assert dict(zip(table.cells(0), table.cells(1), strict=True)) == {
            "name": "chợ",
            "unit": desk.room.control.name,
            "state": "playing",
            "seen": "0 s",
            "in step": "yes",
            "loss": "3.0 %",
            "missed": "0.1 %",
            "sync error": "12 µs",
            "step error": "-",
            "level": "-23.0 dBFS",
            "volume": "100",
            "trim": "-",
            "hearing": "live-1",
            "fault": "-",
        }

    at_desk(scenario)


def test_what_an_offline_loudspeaker_said_last_is_not_shown_as_of_now(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "a", WELL)
        desk.room.control.station.speakers["a"].session = None
        table = await desk.says("speakers")
        assert table.cells()[2] == "offline"
        assert table.cells()[4:10] == ["-"] * 6
        assert table.cells()[11:] == ["-", "-", "it cannot be reached"]

    at_desk(scenario)


def test_one_that_is_offline_is_red_on_a_terminal(
    at_desk: AtDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)

    async def scenario(desk: Desk) -> None:
        _join(desk, "a", WELL)
        _join(desk, "b", WELL)
        desk.room.control.station.speakers["b"].session = None
        said = await desk.says("speakers")
        assert ["\x1b[31m" in line for line in said.lines] == [False, False, True]

    at_desk(scenario)


def test_a_fault_and_being_out_of_step_are_shown(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        fault = Telemetry(**{**asdict(WELL), "fault": "the amplifier hums"})
        _join(desk, "a", fault)
        table = await desk.says("speakers")
        assert table.cells()[4] == "no"
        assert table.cells()[-1] == "the amplifier hums"

    at_desk(scenario)


def test_zones_choose_whom_to_list(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        for name in ("a", "b", "c"):
            _join(desk, name)
        await desk.says("zones", "add", "x", "--speaker", "a")
        await desk.says("zones", "add", "y", "--speaker", "c")
        said = await desk.says("speakers", "--zone", "x", "y", "--json")
        assert [row["name"] for row in json.loads(said.out)] == ["a", "c"]

    at_desk(scenario)


def test_everything_is_shown_of_one_a_field_a_line(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "chợ", WELL)
        said = await desk.says("speakers", "show", unicodedata.normalize("NFD", "chợ"))
        assert said.cells(0) == ["name", "chợ"]
        fields = dict(said.cells(line) for line in range(len(said.lines)))
        assert fields["packets_lost"] == "30"
        assert fields["in_step"] == "yes"
        row = json.loads((await desk.says("speakers", "show", "chợ", "--json")).out)
        assert set(row) == set(fields)

    at_desk(scenario)


def test_where_a_loudspeaker_belongs_and_stands_is_set(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "a")
        await desk.says("units", "add", f"{desk.room.control.name}/Thôn")
        words = ["--unit", f"{desk.room.control.name}/Thôn", "--tag", "school", "indoor"]
        said = await desk.says("speakers", "set", "a", *words, "--position", "-6.2,106.8")
        assert said.lines[1:] == [
            f"unit           {desk.room.control.name}/Thôn",
            "tags           indoor, school",
            "position       latitude -6.2, longitude 106.8",
            "trim_us        0",
            "authenticated  yes",
        ]
        said = await desk.says("speakers", "set", "a", "--no-tags")
        assert said.lines[2] == "tags           -"

    at_desk(scenario)


@pytest.mark.parametrize(("trim_us", "shown"), [(-1200, "-1200 µs"), (50_000, "+50000 µs")])
def test_a_trim_is_set_and_shown_exactly(at_desk: AtDesk, trim_us: int, shown: str) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "a", WELL)
        said = await desk.says("speakers", "set", "a", "--trim-us", str(trim_us))
        assert said.lines[4] == f"trim_us        {trim_us}"
        assert desk.room.control.station.directory.endpoint("a").trim_us == trim_us
        table = await desk.says("speakers")
        assert dict(zip(table.cells(0), table.cells(1), strict=True))["trim"] == shown
        await desk.says("speakers", "set", "a", "--trim-us", "0")
        assert desk.room.control.station.directory.endpoint("a").trim_us == 0

    at_desk(scenario)


def test_one_that_plays_what_is_in_clear_is_shown_as_unauthenticated(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "a", WELL)
        said = await desk.says("speakers", "set", "a", "--clear")
        assert said.lines[-1] == "authenticated  no"
        assert (await desk.says("speakers")).cells()[2] == "playing (unauthenticated)"
        await desk.says("speakers", "set", "a", "--sealed")
        assert (await desk.says("speakers")).cells()[2] == "playing"

    at_desk(scenario)


def test_one_that_is_revoked_is_shown_as_not_enrolled(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "a", WELL)
        said = await desk.says("speakers", "revoke", "a")
        assert said.out == "loudspeaker a revoked; a code from `loa enrol` admits it again\n"
        table = await desk.says("speakers")
        assert table.cells()[2] == "not enrolled"
        assert table.cells()[4:8] == ["-"] * 4
        assert table.cells()[-1] == "it has no key here: get a code with `loa enrol`"

    at_desk(scenario)


def test_one_that_is_switched_off_is_removed(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "a")
        refused = await desk.loa("speakers", "remove", "a")
        assert (refused.status, "connected" in refused.err) == (1, True)
        desk.room.control.station.speakers["a"].session = None
        assert (await desk.says("speakers", "remove", "a")).out == "loudspeaker a removed\n"
        assert (await desk.says("speakers")).out == "no loudspeaker yet\n"

    at_desk(scenario)


def test_what_answers_by_mdns_is_listed(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        assert (await desk.says("speakers", "--found")).out == "no loudspeaker answers here\n"
        desk.room.join("a")
        found = {
            "1": FoundSpeaker("a", "192.0.2.1", StationAddress("192.0.2.9", 7460)),
            "2": FoundSpeaker("b", "192.0.2.2", None),
        }
        desk.room.control.discovery._speakers.update(found)
        table = await desk.says("speakers", "--found")
        assert table.cells(1) == ["a", "192.0.2.1", "192.0.2.9:7460", "yes"]
        assert table.cells(2) == ["b", "192.0.2.2", "-", "no"]

    at_desk(scenario)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["show", "b"], 1, "no loudspeaker 'b'; nearest: a"),
        (["set", "b", "--no-tags"], 1, "no loudspeaker 'b'"),
        (["set", "a"], 2, "what? give --unit"),
        (["set", "a", "--clear", "--sealed"], 2, "not allowed with"),
        (["revoke", "b"], 1, "no loudspeaker 'b'"),
        (["set", "a", "--position", "here"], 2, "use LAT,LON"),
        (["set", "a", "--position", "106.7,20.9"], 2, "latitude comes first, as in 20.9,106.7"),
        (["set", "a", "--position", "91,181"], 1, "position.latitude"),
        (["set", "a", "--trim-us", "50001"], 2, "'50001' is no trim: use -50000 to 50000"),
        (["set", "a", "--trim-us", "-50001"], 2, "is no trim"),
        (["set", "a", "--trim-us", "much"], 2, "'much' is no trim"),
        (["set", "b", "--trim-us", "1"], 1, "no loudspeaker 'b'; nearest: a"),
        (["set", "a", "--unit", "nowhere"], 1, "no unit 'nowhere'"),
        (["set", "a", "--tag", "x", "--no-tags"], 2, "not allowed with"),
        (["set", "a", "--tag", "?"], 1, "'?' is no name for a tag"),
        (["remove", "b"], 1, "no loudspeaker 'b'"),
        (["--zone", "nowhere"], 1, "no zone 'nowhere'"),
        (["--zone", "x", "--found"], 2, "--found knows no zones"),
    ],
)
def test_what_cannot_be_is_one_line(
    at_desk: AtDesk, words: list[str], status: int, said: str
) -> None:
    async def scenario(desk: Desk) -> None:
        _join(desk, "a")
        done = await desk.loa("speakers", *words)
        assert (done.status, done.out) == (status, "")
        assert said in done.err
        assert len(done.err.splitlines()) == 1

    at_desk(scenario)
