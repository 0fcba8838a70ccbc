"""What may be asked for again where each byte is paid for. Sans-I/O.

Sound comes whether it was asked for or not, and recovery gets what it leaves of the limit. How much
that is says the second of the last ten in which most came, not the last alone: an outage looks like
room, and ends. What is lost now may not be lost in a moment, so a part of it counts as well.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transport.clock.timeline import NS_PER_MS, NS_PER_SECOND
from transport.recovery.bundle import BUNDLE
from transport.recovery.request import Wanted

# IPv4 and UDP (RFC 791, RFC 768), IPv6 and UDP (RFC 8200).
_IPV4_BYTES, _IPV6_BYTES = 28, 48
# Of a bundle, and of each packet in it (`transport.recovery.bundle`).
_HEAD_BYTES, _LENGTH_BYTES = 1, 2
_ANSWERS = 2
# What was asked for twice within this is answered once (`server.usher.repairs`).
_HOLD_NS = 40 * NS_PER_MS
# The second answer comes 20 ms after the first; and some jitter.
_LATE_NS = 60 * NS_PER_MS
_SLOT_NS = 20 * NS_PER_MS
_SLOTS = NS_PER_SECOND // _SLOT_NS
_SIZES = 16
_PEAK_SECONDS = 10
# Of what does not come of the sound though it is sent: so much may come in the next second.
_MAY_COME = 0.25
# Frames of speech differ in length, and a report comes now and then.
_MAY_GROW = 1 / 16
# As long as nothing has come that would show how long a packet is.
_UNKNOWN_BYTES = 200


@dataclass(slots=True)
class _Sum:
    """Bytes of the last second, or of less, in slots of 20 ms."""

    slots: deque[list[int]]
    total: int = 0

    def add(self, slot: int, count: int) -> None:
        self.expire(slot)
        if not self.slots or self.slots[-1][0] != slot:
            self.slots.append([slot, 0])
        self.slots[-1][1] += count
        self.total += count

    def expire(self, slot: int, kept: int = _SLOTS) -> None:
        while self.slots and self.slots[0][0] <= slot - kept:
            self.total -= self.slots.popleft()[1]

    def take(self, count: int) -> None:
        """Away from the oldest."""
        while count > 0 and self.slots:
            taken = min(count, self.slots[0][1])
            self.slots[0][1] -= taken
            self.total -= taken
            count -= taken
            if not self.slots[0][1]:
                self.slots.popleft()


class Meter:
    """Keeps what comes, and what was asked for and may yet come, below a limit."""

    def __init__(self, max_kbps: int) -> None:
        """`max_kbps` kilobits (1,000) in any second, headers of IP and UDP included."""
        self._most_bytes = max_kbps * 1000 // 8
        self._header_bytes = _IPV4_BYTES
        self._sound, self._repairs, self._promised = (_Sum(deque()) for _ in range(3))
        # By seconds that had sound: the most that had come within a second, at any of its moments.
        self._peaks: deque[tuple[int, int]] = deque(maxlen=_PEAK_SECONDS)
        # What is sent, and since when it is known to be so much.
        self._packets_a_second, self._since_ns = 0.0, 0
        self._sound_sizes: deque[int] = deque(maxlen=_SIZES)
        self._repair_sizes: deque[int] = deque(maxlen=_SIZES)
        self._asked_ns: dict[tuple[int, int], int] = {}
        # How often a packet was not asked for that would have been.
        self.withheld = 0

    def begin(self, *, ipv6: bool) -> None:
        """Sound comes by this protocol from now on."""
        self._header_bytes = _IPV6_BYTES if ipv6 else _IPV4_BYTES

    def came(self, data: bytes, now_ns: int) -> None:
        """A datagram came, of sound or of repairs."""
        slot, size = now_ns // _SLOT_NS, len(data) + self._header_bytes
        if data[:1] == bytes((BUNDLE,)):
            self._repairs.add(slot, size)
            self._promised.take(size)
            self._repair_sizes.extend(_bundled_sizes(data))
            return
        self._sound.add(slot, size)
        self._sound_sizes.append(len(data))
        second, most = now_ns // NS_PER_SECOND, self._sound.total
        if self._peaks and self._peaks[-1][0] == second:
            most = max(most, self._peaks.pop()[1])
        self._peaks.append((second, most))

    def allowed(
        self, wanted: Sequence[Wanted], now_ns: int, *, packets_a_second: float, round_trip_ns: int
    ) -> list[Wanted]:
        """As many of these, from the first on, as may be asked for now; they count as asked for.

        So many `packets_a_second` of sound would come if none were lost, and an answer takes
        `round_trip_ns`.
        """
        self._forget_asked(now_ns)
        slot = now_ns // _SLOT_NS
        # A datagram's headers, twice; and the packets in it, each twice.
        once = _ANSWERS * (self._header_bytes + _HEAD_BYTES)
        each = _ANSWERS * (_LENGTH_BYTES + self._packet_bytes())
        used = self._sound_bytes(packets_a_second, now_ns)
        used += self._recovery_bytes(slot, round_trip_ns)
        left = (self._most_bytes - used - once) // each
        allowed, new = [], 0
        for one in wanted:
            again = [n for n in one.sequences if (one.ssrc, n) in self._asked_ns]
            first = [n for n in one.sequences if n not in again]
            granted = first[: max(left - new, 0)]
            self.withheld += len(first) - len(granted)
            self._asked_ns.update({(one.ssrc, n): now_ns for n in granted})
            new += len(granted)
            if kept := tuple(n for n in one.sequences if n in again or n in granted):
                allowed.append(Wanted(one.ssrc, kept))
        if new:
            self._promised.add(slot, once + new * each)
        return allowed

    def _sound_bytes(self, packets_a_second: float, now_ns: int) -> int:
        """What may come of sound in the next second."""
        if packets_a_second > self._packets_a_second:
            self._since_ns = now_ns
        self._packets_a_second = packets_a_second
        most = max((most for _, most in self._peaks), default=0)
        if now_ns - self._since_ns < NS_PER_SECOND:  # no second of it is over yet
            return max(most, self._sent_bytes(packets_a_second, max(self._sound_sizes, default=0)))
        mean = sum(self._sound_sizes) / max(len(self._sound_sizes), 1)
        lost = self._sent_bytes(packets_a_second, mean) - most
        return most + round(max(_MAY_COME * lost, _MAY_GROW * most))

    def _sent_bytes(self, packets_a_second: float, size: float) -> int:
        return round(packets_a_second * (size + self._header_bytes))

    def _recovery_bytes(self, slot: int, round_trip_ns: int) -> int:
        """What it took in the last second, and what is to be expected."""
        self._repairs.expire(slot)
        # What has not come by then was lost, or never sent.
        self._promised.expire(slot, min((round_trip_ns * 3 // 2 + _LATE_NS) // _SLOT_NS, _SLOTS))
        return self._repairs.total + self._promised.total

    def _packet_bytes(self) -> int:
        """How long a packet is that is sent again: without its copies, so shorter than at first."""
        return max(self._repair_sizes or self._sound_sizes, default=_UNKNOWN_BYTES)

    def _forget_asked(self, now_ns: int) -> None:
        old = [key for key, at_ns in self._asked_ns.items() if at_ns <= now_ns - _HOLD_NS]
        for key in old:
            del self._asked_ns[key]


def _bundled_sizes(data: bytes) -> Iterator[int]:
    """Of the packets in a bundle, as far as it is one."""
    at = 1
    while at + _LENGTH_BYTES <= len(data):
        size = int.from_bytes(data[at : at + _LENGTH_BYTES])
        yield min(size, len(data))
        at += _LENGTH_BYTES + size
