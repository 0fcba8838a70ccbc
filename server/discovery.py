"""Multicast DNS beside control: the station is found, and finds loudspeakers (RFC 6762, 6763).

Nothing here is ever fatal, and nothing waits for it: everything works by address too.
"""

import asyncio
import ipaddress
import logging
from contextlib import suppress

from zeroconf import Error, IPVersion, ServiceInfo, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from transport.discovery.records import (
    SPEAKER_TYPE,
    STATION_TYPE,
    FoundSpeaker,
    found_speaker,
    instance_label,
    station_name,
    station_txt,
    tag_of,
)
from transport.net.mdns import mdns_interfaces

MAX_SPEAKERS = 1000
_LOOK_S = 5.0
_CLOSE_S = 2.0
_ASK_MS = 1000
_log = logging.getLogger(__name__)


class Discovery:
    """Advertises one station, and keeps a list of the loudspeakers that advertise themselves.

    `bind` is the address the station serves on; it is advertised there, and on every interface
    that is up for 0.0.0.0 and ::, as these come and go. A station on loopback is nobody else's
    business and is not advertised, nor is one of IPv6 alone, for discovery is by IPv4; unless
    `interface`, an IPv4 address of this machine, says so.
    """

    def __init__(
        self, name: str, port: int, bind: str, *, root: str = "", interface: str | None = None
    ) -> None:
        """`port` is control's, `root` the shown fingerprint; ValueError for a name that is none."""
        self._name = station_name(name)
        self._root = root
        self._port = port
        self._bind = bind
        self._interface = interface
        self._speakers: dict[str, FoundSpeaker] = {}
        self._incomplete: asyncio.Queue[str] = asyncio.Queue(MAX_SPEAKERS)
        self._zeroconf: AsyncZeroconf | None = None
        self._addresses: tuple[str, ...] = ()
        self._tasks: list[asyncio.Task[None]] = []
        self._said = ""

    @property
    def found(self) -> tuple[FoundSpeaker, ...]:
        """The loudspeakers that answer, by name; 1,000 at most.

        One that was switched off without a goodbye stays for up to 19 minutes.
        """
        return tuple(sorted(self._speakers.values(), key=lambda s: (s.name, s.address)))

    async def start(self) -> None:
        """Begin, in the background: to be listed takes a second."""
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._complete())]

    async def close(self) -> None:
        """Say goodbye; two seconds at most."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        with suppress(TimeoutError, Error, OSError):
            async with asyncio.timeout(_CLOSE_S):
                await self._leave()

    # ------------------------------------------------------------- where
    def _wanted(self) -> tuple[str, ...]:
        if self._interface is not None:
            return (self._interface,)
        bind = ipaddress.ip_address(self._bind)
        if bind.is_unspecified:
            return tuple(interface.address for interface in mdns_interfaces())
        return () if bind.is_loopback or bind.version != 4 else (self._bind,)

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except Exception as error:  # noqa: BLE001 - no mistake here may cost the station more
                self._say(f"no discovery: {_why(error)} (addresses work without it)")
                with suppress(Exception):
                    await self._leave()
            await asyncio.sleep(_LOOK_S)

    async def _follow(self) -> None:
        """Be where the network is."""
        addresses = self._wanted()
        if addresses == self._addresses:
            return
        await self._leave()
        if addresses:
            await self._enter(addresses)
            self._said = ""
        self._addresses = addresses

    async def _enter(self, addresses: tuple[str, ...]) -> None:
        zeroconf = AsyncZeroconf(interfaces=list(addresses), ip_version=IPVersion.V4Only)
        self._zeroconf = zeroconf
        AsyncServiceBrowser(zeroconf.zeroconf, SPEAKER_TYPE, handlers=[self._changed])
        info = ServiceInfo(
            STATION_TYPE,
            f"{instance_label(self._name)}.{STATION_TYPE}",
            self._port,
            properties=station_txt(self._name, self._root),
            # Of this station alone, so that two of one name are two even before either is renamed.
            server=f"loa-{tag_of(*addresses)}.local.",
            parsed_addresses=list(addresses),
        )
        wanted = info.name
        await (await zeroconf.async_register_service(info, allow_name_change=True))
        if info.name != wanted:
            _log.warning("loa: another station is called %s too; rename one", self._name)

    async def _leave(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        self._addresses = ()
        self._speakers.clear()
        if zeroconf is not None:
            await zeroconf.async_close()

    def _say(self, text: str) -> None:
        """Once, however often it is tried again."""
        if text != self._said:
            self._said = text
            _log.warning("loa: %s", text)

    # ------------------------------------------------------------- who
    def _changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        """A loudspeaker has come, says something new, or has gone."""
        if state_change is ServiceStateChange.Removed:
            self._speakers.pop(name, None)
            return
        with suppress(Error, asyncio.QueueFull):  # a stranger's name that is none; too many of them
            info = AsyncServiceInfo(service_type, name)
            if info.load_from_cache(zeroconf):
                self._keep(info)
            else:
                self._incomplete.put_nowait(name)

    async def _complete(self) -> None:
        """Ask those who came without saying everything, one by one."""
        while True:
            name = await self._incomplete.get()
            with suppress(Error, OSError, RuntimeError):
                if (zeroconf := self._zeroconf) is not None:
                    info = AsyncServiceInfo(SPEAKER_TYPE, name)
                    if await info.async_request(zeroconf.zeroconf, _ASK_MS):
                        self._keep(info)

    def _keep(self, info: ServiceInfo) -> None:
        addresses = info.parsed_addresses(IPVersion.V4Only)
        if not addresses or (
            len(self._speakers) >= MAX_SPEAKERS and info.name not in self._speakers
        ):
            return
        with suppress(ValueError):  # nothing of ours
            self._speakers[info.name] = found_speaker(info.text or b"", addresses[0])


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).partition("\n")[0] or type(error).__name__
