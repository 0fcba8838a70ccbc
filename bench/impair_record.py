"""What every packet met at `loa impair`, as traces: its way through the model, and what was added.

A packet's delay is from its arrival at the proxy to its being handed on, so how late the proxy was
is in it: whatever is replayed of it is what the processes on either side have met.
"""

from array import array
from collections.abc import Iterator
from pathlib import Path

from bench.trace import save_trace

# In all, of 8 bytes each: eleven hours of one loudspeaker's 50 packets a second.
MOST_PACKETS = 2_000_000
_LOST, _UNDER_WAY = -1, -2


class Parcel(bytes):
    """A datagram that knows which of its recording it is."""

    number: int
    sent_ns: int


class Recording:
    """One direction of one client's path; a packet that was sent twice has the first one's delay.

    What is still under way at the end is left out.
    """

    def __init__(self) -> None:
        self.first_ns = 0
        self._fates = array("q")

    def __len__(self) -> int:
        return len(self._fates)

    def parcel(self, data: bytes, now_ns: int) -> Parcel:
        """The next datagram, sent at this time: lost until `sent` or `handed_on` says otherwise."""
        if not self._fates:
            self.first_ns = now_ns
        parcel = Parcel(data)
        parcel.number, parcel.sent_ns = len(self._fates), now_ns
        self._fates.append(_LOST)
        return parcel

    def sent(self, parcel: Parcel) -> None:
        """It was not lost."""
        self._fates[parcel.number] = _UNDER_WAY

    def handed_on(self, parcel: Parcel, now_ns: int) -> None:
        """It has come through."""
        if self._fates[parcel.number] == _UNDER_WAY:
            self._fates[parcel.number] = now_ns - parcel.sent_ns

    def fates(self) -> list[int | None]:
        """As a trace has them: delays in ns, None for what was lost."""
        return [None if fate == _LOST else fate for fate in self._fates if fate != _UNDER_WAY]


class Recorder:
    """All recordings of a proxy; beyond `most` packets nothing more is recorded, but counted."""

    def __init__(self, most: int = MOST_PACKETS) -> None:
        self.unrecorded = 0
        self._room = most
        self._recordings: dict[tuple[int, int, str], Recording] = {}

    def open(self, port: int, number: int, way: str) -> Recording:
        """For the way `up` (to the station) or `down` of a port's client of this number."""
        return self._recordings.setdefault((port, number, way), Recording())

    def has_room(self) -> bool:
        """Whether one more packet is recorded; to be called once for each."""
        if self._room == 0:
            self.unrecorded += 1
            return False
        self._room -= 1
        return True

    def traces(self) -> Iterator[tuple[str, Recording]]:
        """A file's name, as PORT-CLIENT-WAY.trace, and whose it is; clients count from 1.

        Those in which nothing is, are left out.
        """
        for (port, number, way), recording in self._recordings.items():
            if recording.fates():
                yield f"{port}-{number}-{way}.trace", recording

    def figures(self) -> dict[str, dict[str, float]]:
        """By file: how many packets, and how long after the proxy's beginning the first came."""
        return {
            name: {"packets": len(recording), "first_s": round(recording.first_ns / 1e9, 6)}
            for name, recording in self.traces()
        }

    def save(self, folder: Path, about: str) -> None:
        """Write them all; OSError if they cannot be written."""
        for name, recording in self.traces():
            save_trace(folder / name, recording.fates(), f"{name}: {about}")
