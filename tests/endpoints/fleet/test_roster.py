"""Who the simulated loudspeakers are, and where."""

import json
from pathlib import Path

import numpy as np
import pytest
import trio

from endpoints.fleet.roster import Addresses, FleetError, MemoryStore, Roster
from transport.control.address import StationAddress

ROOT = bytes(range(32))
STATION = StationAddress.parse("127.0.0.1:7460")


def written(**changed: object) -> bytes:
    rows = [{"name": f"fleet-{n}", "key": bytes([n] * 32).hex()} for n in range(3)]
    return json.dumps(
        {"root": ROOT.hex(), "generation": 5, "loudspeakers": rows} | changed
    ).encode()


# ------------------------------------------------------------------ the file of keys
def test_each_knows_its_key_its_name_and_its_station_and_has_never_been_there() -> None:
    state = Roster.from_json(written()).state(2, STATION)
    assert (state.name, state.seed) == ("fleet-2", bytes([2] * 32))
    assert state.enrolled
    assert state.station is not None
    assert (state.station.root, state.station.address) == (ROOT, STATION)
    assert (state.station.generation, state.station.session_number) == (5, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"[" * 100_000,
        written(root="00"),
        written(root="none"),
        written(root=7),
        written(generation=-1),
        written(generation=None),
        written(loudspeakers=None),
        written(loudspeakers=[{"name": "a"}]),
        written(loudspeakers=[{"name": "all", "key": "00" * 32}]),
        written(loudspeakers=[{"name": "a", "key": "00"}]),
    ],
)
def test_what_is_no_file_of_keys_is_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(data)
    with pytest.raises(FleetError, match="no file of loudspeakers' keys") as error:
        Roster.read(path)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="No such file"):
        Roster.read(tmp_path / "none")


# ------------------------------------------------------------------ the store
def test_what_is_kept_is_what_is_known() -> None:
    roster = Roster.from_json(written())
    store = MemoryStore(roster.state(0, STATION))
    trio.run(store.keep, roster.state(1, STATION))
    assert store.state.name == "fleet-1"


# ------------------------------------------------------------------ addresses
def test_two_processes_give_different_addresses() -> None:
    one, other = Addresses("127.1.0.0", 0, 300), Addresses("127.1.0.0", 300, 300)
    assert one.text(0) == "127.1.0.1"
    assert one.text(255) == "127.1.1.0"
    assert other.text(0) == "127.1.1.45"
    assert {one.packed(n) for n in range(300)}.isdisjoint(other.packed(n) for n in range(300))


def test_a_destination_tells_whose_it_is() -> None:
    addresses = Addresses("127.1.0.0", 10, 300)
    rows = [addresses.packed(0), addresses.packed(299), b"\x7f\x00\x00\x01", addresses.packed(300)]
    packed = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 4)
    assert addresses.indices(packed).tolist() == [0, 299, -1, -1]


@pytest.mark.parametrize("base", ["10.0.0.0", "127.255.255.250", "::1", "here", "255.255.255.255"])
def test_addresses_that_are_not_of_loopback_are_refused(base: str) -> None:
    with pytest.raises(FleetError, match="loopback"):
        Addresses(base, 0, 10)
