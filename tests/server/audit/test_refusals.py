"""Refusals make few rows, however many there are, and from however many addresses."""

import ipaddress
import json
import random

from server.audit.refusals import Refusal, Refusals
from server.audit.row import Entry

SECOND = 1_000_000_000


def refusal(where: str, path: str = "/api/v1/live", who: str = "") -> Refusal:
    return Refusal(who, where, {"path": path}, "no token")


def test_the_first_is_a_row_at_once_and_its_repetitions_one_a_minute() -> None:
    refusals, rows = Refusals(), []
    for second in range(300):
        rows += refusals.due(second * SECOND)
        for n in range(100):
            made = refusals.refuse(refusal("192.0.2.1", f"/api/v1/{second}/{n}"), second * SECOND)
            rows += [made] if made else []
    assert len(rows) == 5
    assert rows[0].on == '{"path":"/api/v1/0/0"}'
    counted = [json.loads(row.on) for row in rows[1:]]
    assert [told["times"] for told in counted] == [5999, 6000, 6000, 6000]
    assert counted[0]["path"] == "/api/v1/59/99"
    assert {(row.what, row.outcome, row.where) for row in rows} == {
        ("refused", "refused", "192.0.2.1")
    }


def test_who_is_quiet_for_a_minute_has_a_row_at_once_again() -> None:
    refusals = Refusals()
    assert refusals.refuse(refusal("192.0.2.1"), 0) is not None
    assert refusals.refuse(refusal("192.0.2.1"), SECOND) is None
    assert len(refusals.due(61 * SECOND)) == 1
    assert refusals.due(200 * SECOND) == []
    assert refusals.refuse(refusal("192.0.2.1"), 200 * SECOND) is not None


def test_nothing_is_lost_and_a_flood_from_everywhere_makes_rows_of_a_number() -> None:
    refusals, rows = Refusals(), list[Entry]()
    draw = random.Random(1)
    for step in range(60_000):
        now = step * SECOND // 200  # five minutes
        rows += refusals.due(now)
        address = str(ipaddress.ip_address(draw.getrandbits(32)))
        made = refusals.refuse(refusal(address), now)
        rows += [made] if made else []
    rows += refusals.due(10_000 * SECOND)
    assert len(rows) <= 5 * 2 * 65 + 65
    assert sum(json.loads(row.on).get("times", 1) for row in rows) == 60_000
    assert len(refusals._windows) <= 65
    assert any("addresses" in json.loads(row.on) for row in rows)


def test_who_has_an_ipv6_network_is_counted_as_one() -> None:
    refusals = Refusals()
    assert refusals.refuse(refusal("2001:db8::1"), 0) is not None
    assert refusals.refuse(refusal("2001:db8::ffff:2"), 0) is None
    assert refusals.refuse(refusal("2001:db8:0:1::1"), 0) is not None


def test_an_address_that_is_none_is_one_as_well() -> None:
    refusals = Refusals()
    assert refusals.refuse(refusal(""), 0) is not None
    assert refusals.refuse(refusal(""), 0) is None


def test_several_that_are_told_of_at_once_are_a_row_and_a_number() -> None:
    refusals = Refusals()
    first = refusals.refuse(refusal("192.0.2.1"), 0, 5)
    assert first is not None
    assert "times" not in json.loads(first.on)
    assert refusals.refuse(refusal("192.0.2.1"), SECOND, 7) is None
    (counted,) = refusals.due(60 * SECOND)
    assert json.loads(counted.on)["times"] == 11
