"""What operators ask for, and who asks for what."""

import random
from collections import Counter
from urllib.parse import unquote

import pytest

from bench.fleet_keys import fleet_name
from bench.operators_mix import GROUPS, Act, Habits, Person, Province, people, unit_name
from server.rights.table import Role

PROVINCE = Province(1_000, 10)
DOING = {"volume", "mute", "define zone", "identify", "tone", "speak"}


def habits(role: Role, commune: int | None, seed: int = 1) -> Habits:
    return Habits(Person("desk-007", role, commune), PROVINCE, "Bench", random.Random(seed))


def acts(of: Habits, count: int = 2_000) -> list[Act]:
    return [of.next() for _ in range(count)]


# ------------------------------------------------------------------ who there is
def test_a_few_are_the_province_s_and_the_others_are_spread_over_the_communes() -> None:
    found = people(100, 50)
    above = [person for person in found if person.commune is None]
    assert len(above) == 6
    assert {person.role for person in above} == {Role.ADMINISTRATOR, Role.OPERATOR}
    assert {p.commune for p in found} - {None} == set(range(50))
    assert {p.role for p in found} == {Role.OPERATOR, Role.VIEWER, Role.ADMINISTRATOR}
    assert len({person.name for person in found}) == 100


def test_one_alone_is_an_administrator_of_the_province() -> None:
    assert people(1, 5) == [Person("desk-000", Role.ADMINISTRATOR, None)]


@pytest.mark.parametrize("communes", [0, 11])
def test_a_commune_without_a_loudspeaker_is_refused(communes: int) -> None:
    with pytest.raises(ValueError, match="as many as there are loudspeakers"):
        Province(10, communes)


def test_a_loudspeaker_that_is_drawn_is_of_the_commune() -> None:
    province, draw = Province(25, 10), random.Random(1)
    for commune in range(10):
        drawn = {province.one_of(commune, draw) for _ in range(50)}
        there = {fleet_name(n) for n in range(25) if province.commune_of(n) == commune}
        assert drawn == there


# ------------------------------------------------------------------ who does what
def test_a_viewer_changes_nothing() -> None:
    kinds = {act.kind for act in acts(habits(Role.VIEWER, 3))}
    assert not kinds & DOING
    assert "audit" not in kinds


def test_the_audit_log_is_read_by_administrators_of_the_province_alone() -> None:
    assert "audit" in {act.kind for act in acts(habits(Role.ADMINISTRATOR, None))}
    assert "audit" not in {act.kind for act in acts(habits(Role.ADMINISTRATOR, 3))}


def test_an_operator_does_everything_and_everything_is_of_a_group() -> None:
    kinds = {act.kind for act in acts(habits(Role.OPERATOR, 3), 5_000)}
    assert kinds > DOING
    assert kinds <= GROUPS.keys()


def test_whoever_is_at_home_in_a_commune_names_nothing_of_another() -> None:
    mine = {fleet_name(n) for n in range(3, 1_000, 10)}
    for act in acts(habits(Role.OPERATOR, 3)):
        body = act.body or {}
        assert set(body.get("to", ())) <= mine
        assert set(body.get("zones", ())) <= {"commune-003"}
        if "unit=" in act.path:
            assert f"unit=Bench/{unit_name(3)}&" in unquote(act.path)


def test_equal_seeds_ask_for_the_same() -> None:
    assert acts(habits(Role.OPERATOR, 3)) == acts(habits(Role.OPERATOR, 3))
    assert acts(habits(Role.OPERATOR, 3)) != acts(habits(Role.OPERATOR, 3, seed=2))


# ------------------------------------------------------------------ what follows from an answer
def first(of: Habits, kind: str) -> Act:
    return next(act for act in iter(of.next, None) if act.kind == kind)


def test_whoever_may_speak_stops_next_and_only_once() -> None:
    of = habits(Role.OPERATOR, 3)
    act = first(of, "speak")
    assert act.pause_s is not None
    assert act.pause_s > 0
    of.learn(act, {"programme": "live 7"}, None)
    stop = of.next()
    assert (stop.kind, stop.method) == ("stop", "DELETE")
    assert stop.path.endswith("/programmes/live%207")
    assert of.next().kind != "stop"


def test_who_was_not_let_speak_has_nothing_to_stop() -> None:
    of = habits(Role.OPERATOR, 3)
    of.learn(first(of, "speak"), None, None)
    assert of.next().kind != "stop"


def test_a_page_is_turned_about_every_other_time() -> None:
    of = habits(Role.VIEWER, None)
    paths = Counter[str]()
    for _ in range(4_000):
        act = of.next()
        if act.kind == "speakers, a page":
            paths[act.path] += 1
            of.learn(act, {}, "/api/v1/speakers?after=x")
    share = paths["/api/v1/speakers?after=x"] / paths.total()
    assert 0.4 < share < 0.6


def test_a_zone_is_removed_only_where_it_was_defined() -> None:
    of = habits(Role.OPERATOR, 3)
    assert "remove zone" not in {act.kind for act in acts(of)}
    of.learn(first(of, "define zone"), {}, None)
    of.learn(first(of, "remove zone"), None, None)
    assert "remove zone" not in {act.kind for act in acts(of)}
