"""Sends again what a loudspeaker asks for, from what the ring has brought. Pure.

Only who knows the key of a session whose path is open is answered, and only where that path leads:
so nobody can have anything sent to an address that is not theirs. What is sent is the packet as it
was sealed, which nobody can read who has not been told its epoch's key. What many miss who hear it
by a group is sent to the group, in place of all who ask from then on.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from server.processes.ring import REPAIR, Entry
from server.processes.routing import Routes
from server.usher.crowd import Crowd, Crowds
from server.usher.paths import MAX_PATHS, Address
from server.usher.share import Key, Share
from transport.clock.timeline import NS_PER_MS
from transport.control.address import plain_address
from transport.errors import MalformedPacket
from transport.recovery.bundle import bundle
from transport.recovery.request import Wanted, open_request, request_session
from transport.rtp.packet import repair_ssrc
from transport.security.session_keys import session_key

MAX_KEPT: Final = 8_192
# A second of bundles to a hundred loudspeakers that miss everything.
MAX_QUEUED: Final = 4_096
# Beside those, and before them: what ten groups may be sent at once.
MAX_TO_GROUPS: Final = 256
HOLD_NS: Final = 40 * NS_PER_MS
# The second time is past the bad moment of the first, if that was a short one.
AGAIN_NS: Final = 30 * NS_PER_MS
# Of those that are due at once: the usher looks after the time in between.
_MOST_DUE = 64
_RTP_HEADER_BYTES = 12
_LENGTH_BYTES = 2
_TIMES = 2


@dataclass(slots=True)
class _Granted:
    """What one request has brought: packets for who asked, and for groups by their addresses."""

    alone: list[bytes] = field(default_factory=list)
    together: dict[Address, list[bytes]] = field(default_factory=dict)


class Repairs:
    """Keeps the newest 8,192 packets as they are sent again, and answers requests with them.

    `read` gives what the ring has had since it was last asked; to be called several times a second,
    by `keep_up` if nobody asks. `secret` is the station's, of which the sessions' keys are derived.
    Each packet is sent twice, 30 ms apart, and to the same session not again within `hold_ns`.

    Counted are `requests` that were good; `malformed` ones; `refused` for their path or key;
    packets that are `unknown`, or that there was no room for (`limited`); `packets` that were
    promised, those of them that were to groups (`to_groups`), and the `bundles` that carried them,
    each time they were sent. `covered` are packets that were asked for while their group had them.
    """

    def __init__(
        self, read: Callable[[], Iterable[Entry]], secret: bytes, *, hold_ns: int = HOLD_NS
    ) -> None:
        self._read = read
        self._secret = secret
        self._hold_ns = hold_ns
        # Packets, each with the number of its stream.
        self._kept: OrderedDict[Key, tuple[int, bytes]] = OrderedDict()
        self._askers: OrderedDict[int, Share] = OrderedDict()
        self._crowds = Crowds()
        # Each in the order of its times.
        self._first: deque[tuple[int, bytes, Address]] = deque()
        self._again: deque[tuple[int, bytes, Address]] = deque()
        self.requests = 0
        self.refused = 0
        self.malformed = 0
        self.bundles = 0
        self.packets = 0
        self.unknown = 0
        self.limited = 0
        self.to_groups = 0
        self.covered = 0

    def declare(self, routes: Routes) -> None:
        """This is what is sent, and where to, from now on."""
        self._crowds.declare(routes)

    def keep_up(self) -> None:
        """Take in what the ring has had, so that it does not overrun."""
        for entry in self._read():
            if entry.kind != REPAIR or len(entry.datagram) < _RTP_HEADER_BYTES:
                continue
            packet = entry.datagram
            key = repair_ssrc(int.from_bytes(packet[8:12])), int.from_bytes(packet[2:4])
            self._kept.pop(key, None)  # numbers come round; the newest is the last
            self._kept[key] = entry.stream, packet
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)

    def receive(
        self,
        data: bytes,
        source: Address,
        now_ns: int,
        path_of: Callable[[int], Address | None],
    ) -> None:
        """One datagram from an IP address and port; `path_of` says where a session's media go."""
        session = request_session(data)
        if session is None:
            self.malformed += 1
            return
        # The path before the key: what a stranger sends costs no hash.
        if path_of(session) != (plain_address(source[0]), source[1]):
            self.refused += 1
            return
        try:
            wanted = open_request(data, session, session_key(self._secret, session))
        except MalformedPacket as error:
            if error.reason == "repair_mac":
                self.refused += 1
            else:
                self.malformed += 1
            return
        self.requests += 1
        self.keep_up()
        granted = self._granted(wanted, self._asker(session, now_ns), source)
        for home, packets in granted.together.items():
            self._promise(bundle(packets), home, now_ns, together=True)
        self._promise(bundle(granted.alone), source, now_ns, together=False)

    def _asker(self, session: int, now_ns: int) -> Share:
        asker = self._askers.get(session)
        if asker is None:
            asker = self._askers[session] = Share(now_ns)
            if len(self._askers) > MAX_PATHS:
                self._askers.popitem(last=False)
        self._askers.move_to_end(session)
        asker.refill(now_ns, self._hold_ns)
        return asker

    def _granted(self, wanted: Iterable[Wanted], asker: Share, source: Address) -> _Granted:
        """The packets to be sent, each once."""
        granted = _Granted()
        for key in ((one.ssrc, sequence) for one in wanted for sequence in one.sequences):
            stream, packet = self._kept.get(key, (0, b""))
            if not packet:
                self.unknown += 1
            elif not asker.holds(key):
                crowd = self._crowd(stream, asker.at_ns)
                if crowd is not None and crowd.serves(key, source):
                    if self._grant_together(crowd, key, packet):
                        granted.together.setdefault(crowd.home, []).append(packet)
                elif self._grant_alone(asker, crowd, key, packet):
                    granted.alone.append(packet)
        return granted

    def _crowd(self, stream: int, now_ns: int) -> Crowd | None:
        crowd = self._crowds.of(stream)
        if crowd is not None:
            crowd.refill(now_ns, self._hold_ns)
        return crowd

    def _grant_alone(self, asker: Share, crowd: Crowd | None, key: Key, packet: bytes) -> bool:
        granted = self._grant(asker, key, packet)
        if granted and crowd is not None:
            crowd.count(key)
        return granted

    def _grant_together(self, crowd: Crowd, key: Key, packet: bytes) -> bool:
        if crowd.share.holds(key):
            self.covered += 1
            return False
        granted = self._grant(crowd.share, key, packet)
        self.to_groups += granted
        return granted

    def _grant(self, share: Share, key: Key, packet: bytes) -> bool:
        granted = share.take(key, _TIMES * (_LENGTH_BYTES + len(packet)))
        self.packets += granted
        self.limited += not granted
        return granted

    def _promise(
        self, bundles: Iterable[bytes], home: Address, now_ns: int, *, together: bool
    ) -> None:
        """Twice; what goes to a group spares many answers, so it goes before those that wait."""
        most = MAX_QUEUED + (MAX_TO_GROUPS if together else 0)
        for data in bundles:
            if len(self._first) + len(self._again) + _TIMES > most:
                self.limited += 1
                continue
            if together:
                self._first.appendleft((now_ns, data, home))
            else:
                self._first.append((now_ns, data, home))
            self._again.append((now_ns + AGAIN_NS, data, home))

    @property
    def next_due_ns(self) -> int | None:
        """When `due` has something to send; None if nothing waits."""
        waiting = [queue[0][0] for queue in (self._first, self._again) if queue]
        return min(waiting, default=None)

    def due(self, now_ns: int) -> list[tuple[bytes, Address]]:
        """Datagrams to send now, with their addresses; 64 at most, and then there may be more."""
        sent: list[tuple[bytes, Address]] = []
        for queue in (self._first, self._again):
            while queue and queue[0][0] <= now_ns and len(sent) < _MOST_DUE:
                _, data, address = queue.popleft()
                sent.append((data, address))
        self.bundles += len(sent)
        return sent
