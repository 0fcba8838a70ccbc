"""Loudspeakers that are entered without a handshake are as good as any."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from bench.fleet_keys import fleet_key, fleet_name, prepare
from server.data import DataError, DataFolder
from server.keys.folder import KeyFolder
from server.store import Contents, Store
from transport.security.keys import SigningKey


def stored(data: DataFolder) -> Contents:
    with closing(Store.open(data.database)) as store:
        return store.load()


def test_each_is_in_the_database_with_the_public_half_of_the_key_in_the_file(
    tmp_path: Path,
) -> None:
    data = DataFolder(tmp_path / "station")
    file = prepare(data, 20, seed=3)
    written = json.loads(file.read_text())
    keys = {row["name"]: SigningKey(bytes.fromhex(row["key"])) for row in written["loudspeakers"]}
    contents = stored(data)
    assert {e.name: e.key for e in contents.endpoints} == {n: k.public for n, k in keys.items()}
    assert [e.name for e in contents.endpoints] == [fleet_name(index) for index in range(20)]
    assert {(e.delivery, e.multicast, e.unit) for e in contents.endpoints} == {
        ("wan", False, "Bench")
    }
    assert contents.codes == ()


def test_the_file_names_the_root_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "station")
    file = prepare(data, 1, seed=1)
    certificate = KeyFolder(data.keys).load().certificate
    written = json.loads(file.read_text())
    assert bytes.fromhex(written["root"]) == certificate.root
    assert written["generation"] == certificate.generation
    assert file.stat().st_mode & 0o077 == 0


def test_more_than_fit_into_one_transaction_are_all_entered(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "station")
    prepare(data, 2_001, seed=1, delivery="lan", multicast=True)
    contents = stored(data)
    assert len({e.key for e in contents.endpoints}) == 2_001
    assert all(e.multicast and e.delivery == "lan" for e in contents.endpoints)


def test_a_key_follows_from_the_seed_and_the_number_and_no_two_are_alike() -> None:
    assert fleet_key(1, 2).seed == fleet_key(1, 2).seed
    drawn = {fleet_key(seed, index).seed for seed in (1, 11, 12) for index in range(30)}
    assert len(drawn) == 90


@pytest.mark.parametrize("count", [0, 20_001])
def test_a_fleet_of_an_impossible_size_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match="use 1 to 20000"):
        prepare(DataFolder(tmp_path / "station"), count, seed=1)


def test_a_station_that_runs_is_not_touched(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "station")
    data.create("Bench")
    with data.lock(), pytest.raises(DataError, match="in use"):
        prepare(data, 1, seed=1)
    assert stored(data).endpoints == ()


def test_a_fleet_that_is_entered_again_has_the_newer_keys(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "station")
    prepare(data, 3, seed=1)
    prepare(data, 2, seed=2)
    keys = [endpoint.key for endpoint in stored(data).endpoints]
    assert keys == [fleet_key(2, 0).public, fleet_key(2, 1).public, fleet_key(1, 2).public]
