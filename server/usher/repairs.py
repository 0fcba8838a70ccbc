"""Sends again what a loudspeaker asks for, from what the ring has brought. Pure.

Only who knows the key of a session whose path is open is answered, and only where that path leads:
so nobody can have anything sent to an address that is not theirs. What is sent is the packet as it
was sealed, which nobody can read who has not been told its epoch's key.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from server.processes.ring import REPAIR, Entry
from server.usher.paths import MAX_PATHS, Address
from transport.clock.timeline import NS_PER_MS, NS_PER_SECOND
from transport.control.address import plain_address
from transport.errors import MalformedPacket
from transport.recovery.bundle import bundle
from transport.recovery.request import Wanted, open_request, request_session
from transport.rtp.packet import repair_ssrc
from transport.security.session_keys import session_key

MAX_KEPT: Final = 8_192
# A second of bundles to a hundred loudspeakers that miss everything.
MAX_QUEUED: Final = 4_096
HOLD_NS: Final = 40 * NS_PER_MS
# The second time is past the bad moment of the first, if that was a short one.
AGAIN_NS: Final = 30 * NS_PER_MS
# Of each session: at 30 % loss a stream of speech takes some 50 kb/s of repairs, and half a second
# of it that was lost at once 10 KB each time it is asked for.
BYTES_A_SECOND: Final = 128_000 // 8
BYTES_AT_ONCE: Final = 2 * BYTES_A_SECOND
_RTP_HEADER_BYTES = 12
_LENGTH_BYTES = 2
_TIMES = 2

Key = tuple[int, int]


@dataclass(slots=True)
class _Asker:
    """What one session may still be sent, and what it was sent within the hold."""

    at_ns: int
    left: float = BYTES_AT_ONCE
    held: dict[Key, int] = field(default_factory=dict)

    def refill(self, now_ns: int, hold_ns: int) -> None:
        passed_ns = max(now_ns - self.at_ns, 0)
        self.left = min(self.left + passed_ns * BYTES_A_SECOND / NS_PER_SECOND, BYTES_AT_ONCE)
        self.at_ns = now_ns
        while self.held and next(iter(self.held.values())) <= now_ns - hold_ns:
            del self.held[next(iter(self.held))]


class Repairs:
    """Keeps the newest 8,192 packets as they are sent again, and answers requests with them.

    `read` gives what the ring has had since it was last asked; to be called several times a second,
    by `keep_up` if nobody asks. `secret` is the station's, of which the sessions' keys are derived.
    Each packet is sent twice, 30 ms apart, and to the same session not again within `hold_ns`.

    Counted are `requests` that were good; `malformed` ones; `refused` for their path or key;
    packets that are `unknown`, or that there was no room for (`limited`); `packets` that were
    promised, and the `bundles` that carried them, each time they were sent.
    """

    def __init__(
        self, read: Callable[[], Iterable[Entry]], secret: bytes, *, hold_ns: int = HOLD_NS
    ) -> None:
        self._read = read
        self._secret = secret
        self._hold_ns = hold_ns
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._askers: OrderedDict[int, _Asker] = OrderedDict()
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

    def keep_up(self) -> None:
        """Take in what the ring has had, so that it does not overrun."""
        for entry in self._read():
            if entry.kind != REPAIR or len(entry.datagram) < _RTP_HEADER_BYTES:
                continue
            packet = entry.datagram
            key = repair_ssrc(int.from_bytes(packet[8:12])), int.from_bytes(packet[2:4])
            self._kept.pop(key, None)  # numbers come round; the newest is the last
            self._kept[key] = packet
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
        self._promise(bundle(self._granted(wanted, self._asker(session, now_ns))), source, now_ns)

    def _asker(self, session: int, now_ns: int) -> _Asker:
        asker = self._askers.get(session)
        if asker is None:
            asker = self._askers[session] = _Asker(now_ns)
            if len(self._askers) > MAX_PATHS:
                self._askers.popitem(last=False)
        self._askers.move_to_end(session)
        asker.refill(now_ns, self._hold_ns)
        return asker

    def _granted(self, wanted: Iterable[Wanted], asker: _Asker) -> list[bytes]:
        """The packets to be sent, each once."""
        granted = []
        for key in ((one.ssrc, sequence) for one in wanted for sequence in one.sequences):
            packet = self._kept.get(key)
            if packet is None:
                self.unknown += 1
                continue
            if key in asker.held:
                continue
            cost = _TIMES * (_LENGTH_BYTES + len(packet))
            if cost > asker.left:
                self.limited += 1
                continue
            asker.left -= cost
            asker.held[key] = asker.at_ns
            granted.append(packet)
        self.packets += len(granted)
        return granted

    def _promise(self, bundles: Iterable[bytes], source: Address, now_ns: int) -> None:
        for data in bundles:
            if len(self._first) + len(self._again) + _TIMES > MAX_QUEUED:
                self.limited += 1
                continue
            self._first.append((now_ns, data, source))
            self._again.append((now_ns + AGAIN_NS, data, source))

    @property
    def next_due_ns(self) -> int | None:
        """When `due` has something to send; None if nothing waits."""
        waiting = [queue[0][0] for queue in (self._first, self._again) if queue]
        return min(waiting, default=None)

    def due(self, now_ns: int) -> list[tuple[bytes, Address]]:
        """Datagrams to send now, with their addresses."""
        sent = []
        for queue in (self._first, self._again):
            while queue and queue[0][0] <= now_ns:
                _, data, address = queue.popleft()
                sent.append((data, address))
        self.bundles += len(sent)
        return sent
