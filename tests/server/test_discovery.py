"""A station's discovery: real multicast DNS on loopback, read by a socket of the test's."""

import asyncio
import ipaddress
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest
from zeroconf import ServiceStateChange

from server import discovery
from server.discovery import MAX_SPEAKERS, Discovery
from transport.control.address import StationAddress
from transport.discovery.browse import StationFinder
from transport.discovery.records import MDNS_GROUP, MDNS_PORT, FoundSpeaker
from transport.discovery.respond import SpeakerAdvert
from transport.net.mdns import Interface, mdns_socket

LOOPBACK = Interface(ipaddress.IPv4Interface("127.0.0.1/8"))
GROUP = (MDNS_GROUP, MDNS_PORT)
IDENTITY = "00:11:22:33:44:55"


def _unique(name: str) -> str:
    """Other tests speak on loopback at the same time."""
    return f"{name} {secrets.token_hex(4)}"


async def _until(condition: Callable[[], bool], again: Callable[[], object] = bool) -> None:
    """Polls; `again` repeats what may have come too early."""
    async with asyncio.timeout(20):
        while not condition():
            again()
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _advertised(name: str, port: int = 7460) -> AsyncIterator[Discovery]:
    station = Discovery(name, port, "127.0.0.1", interface="127.0.0.1")
    await station.start()
    try:
        yield station
    finally:
        await station.close()


class Ear:
    """Looks for stations and remembers what it hears."""

    def __init__(self) -> None:
        self.socket = mdns_socket(LOOPBACK)
        self.finder = StationFinder()

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self.socket, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self.socket)
        self.socket.close()

    def _hear(self) -> None:
        data, source = self.socket.recvfrom(9000)
        self.finder.receive(data, source)

    def ask(self) -> None:
        self.socket.sendto(self.finder.query(unicast=False), GROUP)

    def say(self, data: bytes) -> None:
        self.socket.sendto(data, GROUP)

    def ports(self, name: str) -> list[int]:
        return [s.port for s in self.finder.found if s.name == name]


def _run(test: Callable[[], Any]) -> None:
    try:
        mdns_socket(LOOPBACK).close()
    except OSError as error:
        pytest.skip(f"needs multicast on loopback and UDP port 5353: {error}")
    asyncio.run(test())


def test_a_station_is_advertised_and_says_goodbye() -> None:
    name = _unique("Trường học")

    async def test() -> None:
        with Ear() as ear:
            async with _advertised(name):
                await _until(lambda: ear.ports(name) == [7460], ear.ask)
            await _until(lambda: ear.ports(name) == [])

    _run(test)


def test_two_stations_of_one_name_are_both_visible(caplog: pytest.LogCaptureFixture) -> None:
    name = _unique("A")

    async def test() -> None:
        with Ear() as ear:
            async with _advertised(name, 7460):
                await _until(lambda: ear.ports(name) == [7460], ear.ask)
                async with _advertised(name, 8460):
                    await _until(lambda: ear.ports(name) == [7460, 8460], ear.ask)
                    await _until(lambda: "is called" in caplog.text)

    _run(test)
    assert f"another station is called {name} too; rename one" in caplog.text


def test_loudspeakers_come_join_a_station_and_go() -> None:
    name = _unique("Sân")
    alone = SpeakerAdvert(name, "", "127.0.0.1", IDENTITY)
    joined = SpeakerAdvert(name, "10.0.0.9:7460", "127.0.0.1", IDENTITY)

    async def test() -> None:
        with Ear() as ear:
            async with _advertised(_unique("A")) as station:

                def found() -> list[FoundSpeaker]:
                    return [s for s in station.found if s.name == name]

                who = FoundSpeaker(name, "127.0.0.1", None)
                await _until(lambda: found() == [who], lambda: ear.say(alone.announcement()))
                who = FoundSpeaker(name, "127.0.0.1", StationAddress("10.0.0.9", 7460))
                await _until(lambda: found() == [who], lambda: ear.say(joined.announcement()))
                ear.say(joined.goodbye())
                await _until(lambda: found() == [])

    _run(test)


def test_a_station_on_loopback_is_nobody_elses_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(discovery, "AsyncZeroconf")
    station = Discovery("A", 7460, "127.0.0.1")
    asyncio.run(station._follow())
    assert station._zeroconf is None


@pytest.mark.parametrize(
    ("bind", "addresses"),
    [
        ("10.0.0.1", ["10.0.0.1"]),
        ("0.0.0.0", ["10.0.0.1", "10.0.1.1"]),
        ("::", ["10.0.0.1", "10.0.1.1"]),
        ("2001:db8::1", []),
        ("::1", []),
    ],
)
def test_it_is_advertised_where_it_is_bound(
    monkeypatch: pytest.MonkeyPatch, bind: str, addresses: list[str]
) -> None:
    present = [Interface(ipaddress.IPv4Interface(f"10.0.{n}.1/24")) for n in range(2)]
    monkeypatch.setattr(discovery, "mdns_interfaces", lambda: tuple(present))
    assert list(Discovery("A", 7460, bind)._wanted()) == addresses


def test_an_interface_that_comes_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[tuple[str, ...]] = []

    async def enter(addresses: tuple[str, ...]) -> None:
        entered.append(addresses)

    station = Discovery("A", 7460, "0.0.0.0")
    monkeypatch.setattr(station, "_enter", enter)
    for addresses in (["10.0.0.1"], ["10.0.0.1"], [], ["10.0.0.1", "10.0.1.1"]):
        interfaces = [Interface(ipaddress.IPv4Interface(a)) for a in addresses]
        monkeypatch.setattr(discovery, "mdns_interfaces", lambda i=interfaces: tuple(i))
        asyncio.run(station._follow())
    assert entered == [("10.0.0.1",), ("10.0.0.1", "10.0.1.1")]


def test_a_port_that_is_taken_is_one_line_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    def refuse(**_: object) -> None:
        tries.append(1)
        raise OSError(98, "Address already in use")

    async def test() -> None:
        async with _advertised("A"):
            await _until(lambda: len(tries) > 2)

    monkeypatch.setattr(discovery, "AsyncZeroconf", refuse)
    monkeypatch.setattr(discovery, "_LOOK_S", 0)
    asyncio.run(test())
    assert [record.message for record in caplog.records if record.name == "server.discovery"] == [
        "loa: no discovery: Address already in use (addresses work without it)"
    ]


class _Info:
    """What zeroconf has gathered of a loudspeaker."""

    def __init__(self, name: str, text: bytes, addresses: list[str]) -> None:
        self.name = name
        self.text = text
        self._addresses = addresses

    def parsed_addresses(self, _: object) -> list[str]:
        return self._addresses


def test_the_list_is_bounded_and_holds_no_rubbish() -> None:
    station = Discovery("A", 7460, "127.0.0.1")
    good = b"\x03v=1\x06name=a\x08station="
    for text, addresses in ((b"", ["10.0.0.1"]), (b"\x03v=2", ["10.0.0.1"]), (good, [])):
        station._keep(_Info("x", text, addresses))  # type: ignore[arg-type]
    assert station.found == ()
    for n in range(MAX_SPEAKERS + 1):
        station._keep(_Info(f"i{n}", good, ["10.0.0.1"]))  # type: ignore[arg-type]
    assert len(station.found) == MAX_SPEAKERS


def test_a_strangers_name_that_is_none_is_passed_over() -> None:
    station = Discovery("A", 7460, "127.0.0.1")
    station._changed(None, "nonsense", "\0", ServiceStateChange.Added)  # type: ignore[arg-type]
    assert station.found == ()


def test_a_name_that_cannot_be_shown_is_refused() -> None:
    with pytest.raises(ValueError, match="printable"):
        Discovery("a\x1b[2J", 7460, "127.0.0.1")


def test_to_start_waits_for_nothing_and_to_close_ends_it() -> None:
    async def test() -> None:
        station = Discovery("A", 7460, "127.0.0.1")
        await station.close()
        await station.start()
        await station.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(test())
