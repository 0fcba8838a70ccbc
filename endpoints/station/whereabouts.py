"""Where to look for the station next."""

from collections.abc import Iterable

from transport.control.address import StationAddress

# Liars that come and go shall fill no memory.
_MOST_ABSENT = 256


class Whereabouts:
    """The address that is remembered, and in turn with it those where the station may be now.

    None of them is trusted: whoever answers must prove to be the station.
    """

    def __init__(self, remembered: StationAddress) -> None:
        self._remembered = remembered
        self._elsewhere: list[StationAddress] = []
        self._turns: dict[StationAddress, int] = {}
        self._last_turn = 0
        self._tried_remembered = False

    @property
    def remembered(self) -> StationAddress:
        """Where it was last."""
        return self._remembered

    def heard_of(self, addresses: Iterable[StationAddress]) -> None:
        """Stations that say to be ours, in place of all that were heard of before.

        Each keeps its turn, whether or not it was heard every time; who is new comes after all
        that are known. So no number of liars, and no order of theirs, hides the true one for good.
        """
        self._elsewhere = [address for address in addresses if address != self._remembered]
        for address in self._elsewhere:
            if address not in self._turns:
                self._take_a_turn(address)
        absent = sorted(self._turns.keys() - self._elsewhere, key=self._turns.__getitem__)
        for address in absent[_MOST_ABSENT:]:
            del self._turns[address]

    def _take_a_turn(self, address: StationAddress) -> None:
        self._last_turn += 1
        self._turns[address] = self._last_turn

    def next(self) -> StationAddress:
        """Where to try now: every second time where it was last."""
        if self._tried_remembered and self._elsewhere:
            self._tried_remembered = False
            address = min(self._elsewhere, key=self._turns.__getitem__)
            self._take_a_turn(address)
            return address
        self._tried_remembered = True
        return self._remembered

    def proved(self, address: StationAddress) -> None:
        """The station is there, and has proved it."""
        self._remembered = address
        self._elsewhere.clear()
        self._turns.clear()
        self._tried_remembered = False
