"""When each of thousands asks for its way and for the time: two arrays and one loop. Sans-I/O."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from endpoints.fleet.judge import Times
from endpoints.fleet.member import Member
from endpoints.fleet.streams import NEVER_NS
from endpoints.way.path import QUIET_NS
from transport.errors import MalformedPacket
from transport.net.clocks import Clock

# Sends from the address of a member; to an address and port.
Send = Callable[[int, bytes, tuple[str, int]], None]


class Rounds:
    """Goes round among all members, and has those ask whose time has come.

    What comes in answer and is none is counted in `dropped` by its reason.
    """

    def __init__(
        self, members: Sequence[Member], clock: Clock, send_media: Send, send_time: Send
    ) -> None:
        self.dropped: Counter[str] = Counter()
        self._members = members
        self._clock = clock
        self._send_media = send_media
        self._send_time = send_time
        self._path_ns = np.full(len(members), NEVER_NS, np.int64)
        self._time_ns = np.full(len(members), NEVER_NS, np.int64)
        self._noted_ns = np.zeros(len(members), np.int64)

    def ask_soon(self, index: int) -> None:
        """Both its questions are due."""
        self._path_ns[index] = self._time_ns[index] = 0

    def rest(self, index: int) -> None:
        """It asks nothing until `ask_soon`."""
        self._path_ns[index] = self._time_ns[index] = NEVER_NS

    def go(self, now_ns: int, heard_at_ns: Times) -> None:
        """Ask what is due; `heard_at_ns` (one a member) is when each last heard any media."""
        self._note_silence(now_ns, heard_at_ns)
        for index in np.flatnonzero(self._path_ns <= now_ns).tolist():
            self._ask_way(index, now_ns)
        for index in np.flatnonzero(self._time_ns <= now_ns).tolist():
            member = self._members[index]
            question = member.time.question(self._clock.now_ns())
            self._send_time(index, question, (member.ports.address, member.ports.time))
            self._time_ns[index] = now_ns + member.time.pause_ns()

    def _note_silence(self, now_ns: int, heard_at_ns: Times) -> None:
        """Whoever's sound has stopped asks whether that is the way's fault."""
        stopped = (heard_at_ns > self._noted_ns) & (heard_at_ns + QUIET_NS <= now_ns)
        for index in np.flatnonzero(stopped & (self._path_ns < NEVER_NS)).tolist():
            heard_ns = int(heard_at_ns[index])
            self._noted_ns[index] = heard_ns
            if self._members[index].path.heard(heard_ns):
                self._path_ns[index] = now_ns

    def _ask_way(self, index: int, now_ns: int) -> None:
        member = self._members[index]
        request = member.path.request(now_ns)
        if request is not None:
            self._send_media(index, request, (member.ports.address, member.ports.media))
        self._plan_way(index)

    def _plan_way(self, index: int) -> None:
        deadline_ns = self._members[index].path.deadline_ns
        self._path_ns[index] = NEVER_NS if deadline_ns is None else deadline_ns

    # ------------------------------------------------------------- answers
    def take_stun(self, index: int, data: bytes, now_ns: int) -> None:
        """What came from the station's media port and is no media."""
        if self._path_ns[index] == NEVER_NS:
            return  # it rests
        try:
            self._members[index].take_stun(data, now_ns)
        except MalformedPacket as error:
            self.dropped[error.reason] += 1
        self._plan_way(index)

    def take_time(self, index: int, data: bytes, arrival_ns: int) -> None:
        """What came from the station's time port."""
        if self._time_ns[index] == NEVER_NS:
            return
        try:
            if self._members[index].take_time(data, arrival_ns):
                self._time_ns[index] = 0
        except MalformedPacket as error:
            self.dropped[error.reason] += 1
