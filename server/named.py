"""Which of the newest programmes named whom, so that no commune's are sought among all. Pure."""

from collections.abc import Iterable

# Names and numbers together: some 4 MB, and 1 ms to put all of them in order.
_MOST = 20_000


class Named:
    """Programmes' numbers by the loudspeakers and zones that they named; the newest of them."""

    def __init__(self, floor: int = 0, most: int = _MOST) -> None:
        """Of programmes before number `floor` it knows nothing, nor of what is too much to keep."""
        self.floor = floor
        self._most = most
        self._held = 0
        self._names: dict[int, frozenset[str]] = {}
        self._numbers: dict[str, set[int]] = {}

    def add(self, number: int, names: Iterable[str]) -> None:
        """One more, which is newer than most."""
        self._names[number] = frozenset(names)
        for name in self._names[number]:
            self._numbers.setdefault(name, set()).add(number)
        self._held += 1 + len(self._names[number])
        while self._held > self._most:
            self._forget(min(self._names))

    def naming(self, names: Iterable[str], before: int | None = None) -> list[int]:
        """Those that named one of these, the newest first; before that number, if one is given."""
        found = set[int]().union(*(self._numbers.get(name, ()) for name in names))
        return sorted((n for n in found if before is None or n < before), reverse=True)

    def _forget(self, number: int) -> None:
        names = self._names.pop(number)
        for name in names:
            self._numbers[name].remove(number)
            if not self._numbers[name]:
                del self._numbers[name]
        self._held -= 1 + len(names)
        self.floor = number + 1
