"""The whole matrix of roles, deeds and units, against an oracle that shares no code with it."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import StationError
from server.rights.identity import ForbiddenError, Identity
from server.rights.table import DANGEROUS, Deed, Grant, Role, is_reached, may, reach

# By hand, from the decisions, and in the other direction than the code has it.
ORACLE = {
    "viewer": {"SEE"},
    "editor": {"SEE", "WRITE"},
    "approver": {"SEE", "APPROVE", "READ_AUDIT"},
    "operator": {"SEE", "SPEAK", "STOP", "EDIT_ZONES", "MANAGE_SPEAKERS"},
    "emergency": {"SEE", "SPEAK", "SPEAK_URGENTLY", "STOP"},
    "administrator": {"SEE", "ENROL", "EDIT_UNITS", "MANAGE_USERS", "READ_AUDIT", "KEEP"},
}
UNITS = ["R", "R/A", "R/A/1", "R/A/2", "R/AB", "R/B", "R/B/1"]


def oracle(grants: set[tuple[str, str]], deed: str, units: set[str]) -> bool:
    """By parts of paths, one unit after the other."""
    places = [tuple(unit.split("/")) for role, unit in grants if deed in ORACLE[role]]
    if not units:
        return bool(places) if deed == "SEE" else ("R",) in places
    return all(
        any(tuple(unit.split("/"))[: len(place)] == place for place in places) for unit in units
    )


GRANTS = st.sets(st.tuples(st.sampled_from(sorted(ORACLE)), st.sampled_from(UNITS)), max_size=6)


def as_grants(plain: set[tuple[str, str]]) -> frozenset[Grant]:
    return frozenset(Grant(Role(role), unit) for role, unit in plain)


def test_every_role_at_every_unit_for_every_deed_at_every_unit() -> None:
    cells = 0
    for role, held, deed, unit in product(Role, UNITS, Deed, UNITS):
        grants = {(role.value, held)}
        assert may(as_grants(grants), deed, {unit}) == oracle(grants, deed.name, {unit})
        cells += 1
    assert cells == 6 * 7 * 13 * 7
    assert set(ORACLE) == set(Role)
    assert set().union(*ORACLE.values()) == {deed.name for deed in Deed}


@given(GRANTS, st.sampled_from(Deed), st.sets(st.sampled_from(UNITS)))
def test_many_grants_and_many_units(
    grants: set[tuple[str, str]], deed: Deed, units: set[str]
) -> None:
    assert may(as_grants(grants), deed, units) == oracle(grants, deed.name, units)


@given(GRANTS, GRANTS, st.sampled_from(Deed), st.sets(st.sampled_from(UNITS)))
def test_more_grants_never_allow_less_and_more_units_never_more(
    some: set[tuple[str, str]], more: set[tuple[str, str]], deed: Deed, units: set[str]
) -> None:
    if may(as_grants(some), deed, units):
        assert may(as_grants(some | more), deed, units)
    for unit in UNITS:
        if units and may(as_grants(some), deed, units | {unit}):
            assert may(as_grants(some), deed, units)


@given(GRANTS, st.sampled_from(Deed), st.sampled_from(UNITS))
def test_reach_is_exactly_where_it_may_be_done(
    grants: set[tuple[str, str]], deed: Deed, unit: str
) -> None:
    reached = reach(as_grants(grants), deed)
    assert is_reached(unit, reached) == oracle(grants, deed.name, {unit})
    assert not any(a != b and is_reached(a, {b}) for a in reached for b in reached)


@given(GRANTS, st.sampled_from(Deed), st.sets(st.sampled_from(UNITS)), st.booleans())
def test_an_identity_may_what_its_grants_say_and_the_dangerous_only_when_fresh(
    grants: set[tuple[str, str]], deed: Deed, units: set[str], fresh: bool
) -> None:
    asker = Identity("ana", "user", as_grants(grants), fresh=fresh)
    wanted = oracle(grants, deed.name, units) and (fresh or deed not in DANGEROUS)
    if wanted:
        asker.check(deed, units)
        return
    with pytest.raises(ForbiddenError) as caught:
        asker.check(deed, units)
    assert len(str(caught.value).splitlines()) == 1


def test_the_line_says_which_units_and_which_roles() -> None:
    asker = Identity("ana", "user", frozenset({Grant(Role.OPERATOR, "R/A")}))
    with pytest.raises(ForbiddenError, match=r"emergency or operator at R/B, R/B/1$"):
        asker.check(Deed.SPEAK, {"R/B/1", "R/A", "R/B"})
    with pytest.raises(ForbiddenError, match="at the station's own unit"):
        asker.check(Deed.SPEAK, ())
    with pytest.raises(ForbiddenError, match="none of these rights"):
        asker.check_somewhere(Deed.ENROL)


@pytest.mark.parametrize("deed", sorted(DANGEROUS))
def test_a_token_does_nothing_dangerous_unless_it_says_so(deed: Deed) -> None:
    everything = frozenset(Grant(role, "R") for role in Role)
    for urgent in (False, True):
        token = Identity("ana", "token", everything, "7", urgent=urgent)
        if urgent and deed is Deed.SPEAK_URGENTLY:
            token.check(deed, {"R/A"})
        else:
            with pytest.raises(ForbiddenError, match="this token may not"):
                token.check(deed, {"R/A"})


def test_the_machines_own_token_may_everything() -> None:
    machine = Identity.machine("R")
    for deed in Deed:
        machine.check(deed, ())
        machine.check(deed, UNITS)
    assert machine.who == "token"


def test_whoever_is_held_up_may_nothing() -> None:
    asker = Identity("ana", "user", as_grants({("administrator", "R")}), fresh=True, held_up=True)
    for deed in Deed:
        with pytest.raises(ForbiddenError, match="choose a password"):
            asker.check(deed, ())
        with pytest.raises(ForbiddenError, match="choose a password"):
            asker.check_somewhere(deed)


def test_a_role_that_is_none_is_one_line_with_those_there_are() -> None:
    assert Role.parse("viewer") is Role.VIEWER
    with pytest.raises(StationError, match="'root' is no role: use viewer, editor"):
        Role.parse("root")
