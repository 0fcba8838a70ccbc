"""Where to look for the station next."""

from collections.abc import Iterable

from transport.control.address import StationAddress


class Whereabouts:
    """The address that is remembered, and in turn with it those where the station may be now.

    None of them is trusted: whoever answers must prove to be the station.
    """

    def __init__(self, remembered: StationAddress) -> None:
        self._remembered = remembered
        self._elsewhere: list[StationAddress] = []
        self._tried_remembered = False

    @property
    def remembered(self) -> StationAddress:
        """Where it was last."""
        return self._remembered

    def heard_of(self, addresses: Iterable[StationAddress]) -> None:
        """Stations that say to be ours, in place of all that were heard of before."""
        self._elsewhere = [address for address in addresses if address != self._remembered]

    def next(self) -> StationAddress:
        """Where to try now: every second time where it was last."""
        if self._tried_remembered and self._elsewhere:
            self._tried_remembered = False
            address = self._elsewhere.pop(0)
            self._elsewhere.append(address)
            return address
        self._tried_remembered = True
        return self._remembered

    def proved(self, address: StationAddress) -> None:
        """The station is there, and has proved it."""
        self._remembered = address
        self._elsewhere.clear()
        self._tried_remembered = False
