"""A program that writes into a store and says what is stored, for tests that kill it.

For each line of its input, `FIRST COUNT`, it forks a process that writes changes of the numbers
from FIRST on, COUNT of them, and says `began PID`, then each number once it is stored, and at the
end `ended PID`. To fork is quicker than to load all modules again.
"""

import os
import sys
from pathlib import Path

from server.audit.row import Entry
from server.directory import Endpoint
from server.enrolment import Code
from server.store import Store
from server.store.engine import Place

ROOT = "Station"
CHANGES = 4


def change(store: Store, number: int) -> None:
    """One of four kinds of change, with its row in the audit log."""
    entry = [Entry.of(number, "token", "", "test", {"number": number})]
    match number % CHANGES:
        case 0:
            found = [Endpoint(f"e{number}-{part}", ROOT) for part in range(3)]
            store.audited(entry, store.save_endpoints, found, number)
        case 1:
            store.audited(entry, store.save_zone, "zone", {"number": number})
        case 2:
            code = Code(number.to_bytes(4), bytes(32), f"k{number}", None, number)
            store.audited(entry, store.save_codes, [code])
            key = number.to_bytes(4) * 8
            keyed = Endpoint(f"k{number}", ROOT, key=key)
            store.enrol([(code.number, keyed)], number)
        case _:
            name = f"live-{number}"
            store.audited(
                entry,
                store.programme_began,
                number,
                name,
                priority=1,
                request={},
                playout_delay_ms=200,
                at=number,
            )


def is_stored(store: Store, number: int) -> bool:
    """Whether all of that change is there, as far as a later one has not replaced it."""
    contents = store.load()
    names = {endpoint.name: endpoint for endpoint in contents.endpoints}
    match number % CHANGES:
        case 0:
            return all(f"e{number}-{part}" in names for part in range(3))
        case 1:
            return bool(dict(contents.zones)["zone"]["number"] >= number)
        case 2:
            key = number.to_bytes(4) * 8
            return f"k{number}" in names and names[f"k{number}"].key == key
        case _:
            return any(row.number == number for row in store.programmes(1_000_000))


def write(place: Place, first: int, count: int) -> None:
    """Say each number once its change is stored."""
    store = Store.open(place)
    for number in range(first, first + count):
        change(store, number)
        os.write(1, b"%d\n" % number)
    store.close()


def _place(text: str) -> Place:
    return text if text.startswith("postgresql:") else Path(text)


def _main() -> None:
    place = _place(sys.argv[1])
    for line in iter(sys.stdin.readline, ""):
        first, count = map(int, line.split())
        pid = os.fork()
        if pid == 0:
            write(place, first, count)
            os._exit(0)
        os.write(1, b"began %d\n" % pid)
        os.waitpid(pid, 0)
        os.write(1, b"ended %d\n" % pid)


if __name__ == "__main__":
    _main()
