"""Which address is tried next."""

from endpoints.station.whereabouts import Whereabouts
from transport.control.address import StationAddress

HOME, A, B = (StationAddress(host, 7460) for host in ("home", "a", "b"))


def tried(where: Whereabouts, times: int) -> list[str]:
    return [where.next().host for _ in range(times)]


def test_where_nobody_was_heard_of_it_is_the_one_that_is_remembered() -> None:
    assert tried(Whereabouts(HOME), 3) == ["home", "home", "home"]


def test_every_second_time_it_is_one_of_the_others_each_in_turn() -> None:
    where = Whereabouts(HOME)
    where.heard_of((A, HOME, B))
    assert tried(where, 7) == ["home", "a", "home", "b", "home", "a", "home"]


def test_what_was_heard_last_counts() -> None:
    where = Whereabouts(HOME)
    where.heard_of((A,))
    assert tried(where, 2) == ["home", "a"]
    where.heard_of((B,))
    assert tried(where, 4) == ["home", "b", "home", "b"]
    where.heard_of(())
    assert tried(where, 2) == ["home", "home"]


def test_liars_that_come_first_whenever_we_look_do_not_hide_the_true_station() -> None:
    where, liars = Whereabouts(HOME), [StationAddress(f"liar{n}", 7460) for n in range(10)]
    hosts = []
    for _ in range(6):
        where.heard_of((*liars, A))
        hosts += tried(where, 4)
    assert sorted(set(hosts)) == sorted(["a", "home", *(liar.host for liar in liars)])


def test_liars_with_new_addresses_every_time_come_after_it() -> None:
    where = Whereabouts(HOME)
    hosts = []
    for look in range(9):
        where.heard_of((*(StationAddress(f"{look}.{n}", 7460) for n in range(10)), A))
        hosts += tried(where, 4)
    assert "a" in hosts


def test_who_was_not_heard_once_keeps_its_turn() -> None:
    where = Whereabouts(HOME)
    where.heard_of((A, B))
    assert tried(where, 2) == ["home", "a"]
    where.heard_of((A,))
    where.heard_of((A, B))
    assert tried(where, 2) == ["home", "b"]


def test_liars_that_come_and_go_fill_no_memory() -> None:
    where = Whereabouts(HOME)
    for look in range(1000):
        where.heard_of(StationAddress(f"{look}.{n}", 7460) for n in range(10))
    assert len(where._turns) < 300


def test_where_it_proved_to_be_it_is_remembered() -> None:
    where = Whereabouts(HOME)
    where.heard_of((A, B))
    where.proved(B)
    assert where.remembered == B
    assert tried(where, 3) == ["b", "b", "b"]
