"""Whether many miss the same packet of a group: it is sent to all of them at once then. Pure."""

import ipaddress
from dataclasses import dataclass, field
from typing import Final

from server.processes.routing import (
    DESTINATION,
    Route,
    Routes,
    pack_destination,
    unpack_destinations,
)
from server.usher.paths import Address
from server.usher.share import Key, Share
from transport.control.address import plain_address

# So many are answered one by one. Whoever is alone in what it misses never troubles the group; and
# a packet costs the station no more than this and one, however many miss it.
PRIVATELY: Final = 32


@dataclass(slots=True)
class Crowd:
    """Those who hear one stream by its group, at `home`; `route` is where the stream goes.

    The group has one share, like anybody who asks: repairs never take more of it than 128 kb/s.
    """

    home: Address
    route: Route
    share: Share = field(default_factory=lambda: Share(0))
    # Since when each packet is asked for, and how often it was answered alone; in that order.
    _asked: dict[Key, tuple[int, int]] = field(default_factory=dict)
    _apart: frozenset[bytes] | None = None

    def follow(self, route: Route) -> None:
        """The stream goes there now."""
        if route.destinations != self.route.destinations:
            self.route, self._apart = route, None

    def refill(self, now_ns: int, hold_ns: int) -> None:
        """It is `now_ns`: say so before anything else is asked."""
        if now_ns == self.share.at_ns:
            return
        self.share.refill(now_ns, hold_ns)
        while self._asked and next(iter(self._asked.values()))[0] <= now_ns - hold_ns:
            del self._asked[next(iter(self._asked))]

    def count(self, key: Key) -> None:
        """Somebody is answered alone."""
        since_ns, times = self._asked.get(key, (self.share.at_ns, 0))
        self._asked[key] = since_ns, times + 1

    def serves(self, key: Key, source: Address) -> bool:
        """Whether the group is sent this packet in place of who asks for it from `source`."""
        if not self.share.holds(key) and self._asked.get(key, (0, 0))[1] < PRIVATELY:
            return False
        return self._hears(source)

    def _hears(self, source: Address) -> bool:
        """Whoever is sent the stream alone does not hear the group."""
        if self._apart is None:
            self._apart = frozenset(self.route.split())
        host, port = plain_address(source[0]), source[1]
        return pack_destination(host, port, port) not in self._apart


class Crowds:
    """One for each stream that goes to a group."""

    def __init__(self) -> None:
        self._crowds: dict[int, Crowd] = {}

    def declare(self, routes: Routes) -> None:
        """This is what is sent, and where to, from now on."""
        former, self._crowds = self._crowds, {}
        for route in routes.routes:
            home = _group_of(route)
            if home is None:
                continue
            crowd = former.get(route.stream)
            if crowd is None or crowd.home != home:
                crowd = Crowd(home, route)
            crowd.follow(route)
            self._crowds[route.stream] = crowd

    def of(self, stream: int) -> Crowd | None:
        """Those who hear this stream by its group; None if it has none."""
        return self._crowds.get(stream)


def _group_of(route: Route) -> Address | None:
    """The group is the first destination, where there is one (`server/router.py`)."""
    for host, port, _ in unpack_destinations(route.destinations[: DESTINATION.itemsize]):
        if ipaddress.ip_address(host).is_multicast:
            return host, port
    return None
