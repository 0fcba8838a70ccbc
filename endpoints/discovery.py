"""Multicast DNS on trio: finding a station, and being found (RFC 6762).

Nothing here is ever fatal: what does not work is said in one line, and addresses do as well.
"""

import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

import trio

from transport.control.address import StationAddress
from transport.discovery.browse import StationFinder
from transport.discovery.records import (
    MAX_MDNS_DATAGRAM,
    MDNS_GROUP,
    MDNS_PORT,
    FoundStation,
)
from transport.discovery.respond import TTL_S, Responder, SpeakerAdvert
from transport.net.mdns import (
    Interface,
    machine_identity,
    mdns_interfaces,
    mdns_socket,
    one_shot_socket,
)
from transport.security.keys import shown_fingerprint

SEARCH_S = 3.5  # the third query goes out after 3 s
# Section 5.2: the first gap a second, each next one twice as long.
_QUERY_GAPS_S = (1.0, 2.0)
_QUIET_S = 1.0
_LOOK_S = 0.1
_INTERFACES_S = 2.0
_DISTURBED_S = 1.0
_GOODBYE_S = 0.2
_ANNOUNCEMENTS = 2  # section 8.3
_PAUSE_S = 1.0  # section 6: no record more often
_MAX_QUERY = 2048  # of queries: to read through more would keep the sound waiting

type_source = tuple[str, int]


class Link(Protocol):
    """Multicast DNS on one interface."""

    @property
    def interface(self) -> Interface:
        """Whose it is."""

    @property
    def one_shot(self) -> bool:
        """Whether only answers to its own questions reach it."""

    async def send(self, data: bytes, to: type_source = (MDNS_GROUP, MDNS_PORT)) -> None:
        """OSError if that is impossible now."""

    async def receive(self) -> tuple[bytes, type_source]:
        """The next datagram and whose it is; OSError if that is impossible now."""

    def close(self) -> None:
        """Leave the group."""


class Network(Protocol):
    """The interfaces there are."""

    def interfaces(self) -> tuple[Interface, ...]:
        """Those to use now."""

    def open(self, interface: Interface) -> Link:
        """OSError if that is impossible now."""


class _SocketLink:
    """A link on a real interface."""

    def __init__(self, interface: Interface) -> None:
        """Falls back to a port of its own where another program keeps 5353 to itself; OSError."""
        self.interface = interface
        self.one_shot = False
        try:
            udp = mdns_socket(interface)
        except OSError:
            udp = one_shot_socket(interface)
            self.one_shot = True
        self._udp = trio.socket.from_stdlib_socket(udp)

    async def send(self, data: bytes, to: type_source = (MDNS_GROUP, MDNS_PORT)) -> None:
        await self._udp.sendto(data, to)

    async def receive(self) -> tuple[bytes, type_source]:
        data, source = await self._udp.recvfrom(MAX_MDNS_DATAGRAM)
        return data, source

    def close(self) -> None:
        self._udp.close()


class HostNetwork:
    """This machine's interfaces: the one with the given IPv4 address, or all that are up."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    def interfaces(self) -> tuple[Interface, ...]:
        """Those to use now."""
        return mdns_interfaces(self._address)

    def open(self, interface: Interface) -> Link:
        """OSError if that is impossible now."""
        return _SocketLink(interface)


def _silent(_: str) -> None:
    """Say nothing."""


# ------------------------------------------------------------- finding a station
async def find_stations(
    interface: str | None,
    seconds: float,
    *,
    say: Callable[[str], None] = _silent,
    network: Network | None = None,
) -> tuple[FoundStation, ...]:
    """Every station that answers within `seconds`, sorted.

    Ends early when the answers have settled: a station is known, two queries were sent, and for
    a second nobody new has spoken; or when interfaces come or go, for then all must be asked anew.
    `interface` is an IPv4 address of this machine; None asks on every interface that is up.
    """
    search = _Search(network or HostNetwork(interface), say)
    with trio.move_on_after(seconds):
        await search.run()
    return search.finder.found


def looking_for(
    root: bytes,
    interface: str | None,
    say: Callable[[str], None],
    *,
    network: Network | None = None,
) -> Callable[[], Awaitable[tuple[StationAddress, ...]]]:
    """What looks, each time, for stations that say to have this root key: any may be lying.

    `say` is told, in one line each and once, what a person should know.
    """
    ours, say = shown_fingerprint(root), _once(say)

    async def look() -> tuple[StationAddress, ...]:
        found = await find_stations(interface, SEARCH_S, say=say, network=network)
        return tuple(station.server for station in found if station.root == ours)

    return look


def _once(say: Callable[[str], None]) -> Callable[[str], None]:
    said: set[str] = set()

    def once(text: str) -> None:
        if text not in said:
            said.add(text)
            say(text)

    return once


class _Search:
    """One round of questions on every interface."""

    def __init__(self, network: Network, say: Callable[[str], None]) -> None:
        self.finder = StationFinder()
        self._network = network
        self._say = say
        self._asked = 0
        self._quiet_since_s = math.inf

    async def run(self) -> None:
        """Until settled."""
        interfaces = self._network.interfaces()
        if not interfaces:
            self._say("this machine has no IPv4 address yet; waiting for one")
        links = [link for i in interfaces if (link := _opened(self._network, i, self._say))]
        try:
            async with trio.open_nursery() as nursery:
                for link in links:
                    nursery.start_soon(self._hear, link)
                nursery.start_soon(self._ask, links)
                nursery.start_soon(self._look_around, interfaces, nursery.cancel_scope)
                await self._settle()
                nursery.cancel_scope.cancel()
        finally:
            for link in links:
                link.close()

    async def _look_around(
        self, interfaces: tuple[Interface, ...], search: trio.CancelScope
    ) -> None:
        while True:
            await trio.sleep(_INTERFACES_S)
            if self._network.interfaces() != interfaces:
                search.cancel()

    async def _ask(self, links: list[Link]) -> None:
        await trio.sleep(_hesitation_s())
        for gap_s in (*_QUERY_GAPS_S, math.inf):
            for link in links:
                with suppress(OSError):  # the interface may be about to come back
                    await link.send(self.finder.query(unicast=link.one_shot))
            self._asked += 1
            if self._asked == 2:
                self._quiet_since_s = trio.current_time()
            await trio.sleep(gap_s)

    async def _hear(self, link: Link) -> None:
        while True:
            try:
                data, source = await link.receive()
            except OSError:
                await trio.sleep(_DISTURBED_S)
                continue
            if link.one_shot and not link.interface.reaches(source[0]):
                continue  # section 11
            before = self.finder.found
            self.finder.receive(data, source)
            if self.finder.found != before and self._asked >= 2:
                self._quiet_since_s = trio.current_time()

    async def _settle(self) -> None:
        """One answer proves little: the next one may have been lost, and is asked for twice."""
        while True:
            await trio.sleep(_LOOK_S)
            quiet_s = trio.current_time() - self._quiet_since_s
            if self.finder.found and quiet_s >= _QUIET_S:
                return


def _opened(network: Network, interface: Interface, say: Callable[[str], None]) -> Link | None:
    try:
        return network.open(interface)
    except OSError as error:
        why = error.strerror or str(error)
        say(f"no discovery on {interface.address}: {why} (addresses work without it)")
        return None


def _hesitation_s() -> float:
    """20 to 120 ms, that not everybody may speak at the same time (sections 5.2 and 6)."""
    return random.SystemRandom().uniform(0.020, 0.120)


# ------------------------------------------------------------- being found
class Presence:
    """Announces this loudspeaker wherever there is a network, and answers who looks for it."""

    def __init__(
        self,
        name: Callable[[], str],
        joined: Callable[[], str],
        say: Callable[[str], None],
        *,
        interface: str | None = None,
        network: Network | None = None,
    ) -> None:
        """`name` tells what we are called; `joined` the station's host:port, or an empty text."""
        self._name = name
        self._joined = joined
        self._identity = machine_identity()
        self._network = network or HostNetwork(interface)
        self._say = _once(say)
        self._voices: dict[Interface, trio.CancelScope] = {}

    async def run(self) -> None:
        """Until cancelled; then says goodbye."""
        try:
            await self._speak_everywhere()
        except Exception as error:  # noqa: BLE001 - to be heard matters more than to be found
            self._say(f"cannot be found by name any more: {error!r}")

    async def _speak_everywhere(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                present = self._network.interfaces()
                for gone in set(self._voices) - set(present):
                    self._voices.pop(gone).cancel()
                for interface in set(present) - set(self._voices):
                    link = _opened(self._network, interface, self._say)
                    if link is not None:
                        scope = self._voices[interface] = trio.CancelScope()
                        nursery.start_soon(self._speak, link, scope)
                await trio.sleep(_INTERFACES_S)

    async def _speak(self, link: Link, scope: trio.CancelScope) -> None:
        with scope:
            if link.one_shot:
                self._say(
                    f"cannot be found by name on {link.interface.address}: another program keeps "
                    f"UDP port {MDNS_PORT} to itself"
                )
                link.close()
            else:
                await _Voice(link, lambda: self._advert(link.interface.address)).run()

    def _advert(self, address: str) -> SpeakerAdvert:
        return SpeakerAdvert(self._name(), self._joined(), address, self._identity)


class _Voice:
    """A loudspeaker's presence on one interface."""

    def __init__(self, link: Link, advert: Callable[[], SpeakerAdvert]) -> None:
        self._link = link
        self._advert = advert
        self._said: SpeakerAdvert | None = None
        self._said_s = -math.inf
        self._responder = Responder()
        self._owed = _ANNOUNCEMENTS
        self._wanted = trio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear)
                nursery.start_soon(self._watch)
                await self._announce_for_ever()
        finally:
            if self._said is not None:
                with trio.move_on_after(_GOODBYE_S, shield=True), suppress(OSError):
                    await self._link.send(self._said.goodbye())
            self._link.close()

    async def _announce_for_ever(self) -> None:
        """Whoever asks meanwhile is answered by the same announcement, so that no queue grows."""
        while True:
            if self._owed:
                await trio.sleep(_hesitation_s())
                self._owed -= 1
                await self._take_leave_of(self._said, self._advert())
                self._said = self._advert()
                self._said_s = trio.current_time()
                with suppress(OSError):  # it is said again when somebody asks
                    await self._link.send(self._said.announcement())
                await trio.sleep(_PAUSE_S)
            else:
                await self._wanted.wait()
                self._wanted = trio.Event()

    async def _take_leave_of(self, said: SpeakerAdvert | None, now: SpeakerAdvert) -> None:
        """By another name it is another one: what was said under the old is not true any more."""
        if said is not None and said.instance != now.instance:
            with suppress(OSError):
                await self._link.send(said.goodbye())

    def _owe(self, announcements: int) -> None:
        self._owed = max(self._owed, announcements)
        self._wanted.set()

    async def _watch(self) -> None:
        """A new station is news for all (section 8.4)."""
        while True:
            await trio.sleep(_PAUSE_S)
            if self._said is not None and self._said != self._advert():
                self._owe(_ANNOUNCEMENTS)

    async def _hear(self) -> None:
        while True:
            try:
                data, source = await self._link.receive()
                await self._answer(data, source)
            except OSError:
                await trio.sleep(_DISTURBED_S)

    async def _answer(self, data: bytes, source: type_source) -> None:
        if len(data) > _MAX_QUERY:
            return
        lately = trio.current_time() - self._said_s < TTL_S / 4
        reply = self._responder.answer(data, source[1], self._advert(), multicast_lately=lately)
        if reply.announce:
            self._owe(1)
        elif reply.unicast is not None and self._link.interface.reaches(source[0]):
            await self._link.send(reply.unicast, source)
