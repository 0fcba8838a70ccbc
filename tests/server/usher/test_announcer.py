"""Announcements by SAP, on a clock that is an argument; a uniform draw of one half."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.processes.routing import Route, Routes
from server.usher.announcer import Announcer
from transport.rtp.sap import SAP_PORT, SapPacket, announcement_interval_s

ORIGIN = "192.0.2.10"
NOW = 1_800_000_000 * 10**9
GROUP = "239.192.76.5"
SDP = "v=0\r\ns=one\r\n"


@pytest.fixture
def announcer() -> Announcer:
    return Announcer(ORIGIN, lambda: 0.5)


def declare(announcer: Announcer, sdps: dict[int, str | None]) -> None:
    announcer.declare(
        Routes(tuple(Route(n, 20.0, announce=sdp, group=sdp and GROUP) for n, sdp in sdps.items()))
    )


def sent(announcer: Announcer, now_ns: int = NOW) -> list[tuple[SapPacket, tuple[str, int]]]:
    return [(SapPacket.parse(data), to) for data, to in announcer.due(now_ns)]


def said(announcer: Announcer, now_ns: int = NOW) -> list[tuple[str, bool]]:
    """What is said of which SDP: true for its deletion."""
    return [(packet.payload, packet.deletion) for packet, _ in sent(announcer, now_ns)]


def test_a_stream_is_announced_at_once_in_its_own_scope(announcer: Announcer) -> None:
    declare(announcer, {1: SDP})
    ((packet, address),) = sent(announcer)
    assert (packet.payload, packet.deletion, packet.origin) == (SDP, False, ORIGIN)
    assert packet.payload_type == "application/sdp"
    # The highest address of the organisation-local scope, to which the group belongs.
    assert address == ("239.195.255.255", SAP_PORT)


def test_it_is_announced_again_at_its_interval_and_not_before(announcer: Announcer) -> None:
    declare(announcer, {1: SDP})
    ((packet, _),) = sent(announcer)
    pause_ns = round(announcement_interval_s(1, len(packet.serialise()), 0.5) * 1e9)
    assert said(announcer, NOW + pause_ns - 1) == []
    assert said(announcer, NOW + pause_ns) == [(SDP, False)]
    assert said(announcer, NOW + pause_ns) == []


def test_declared_again_it_is_not_announced_again(announcer: Announcer) -> None:
    declare(announcer, {1: SDP})
    said(announcer)
    declare(announcer, {1: SDP})
    assert said(announcer) == []


def test_its_end_is_told_exactly_once(announcer: Announcer) -> None:
    declare(announcer, {1: SDP})
    said(announcer)
    declare(announcer, {})
    assert said(announcer) == [(SDP, True)]
    assert said(announcer, NOW + 10**15) == []


def test_a_stream_that_goes_on_by_unicast_alone_is_deleted(announcer: Announcer) -> None:
    declare(announcer, {1: SDP})
    said(announcer)
    declare(announcer, {1: None})
    assert said(announcer) == [(SDP, True)]


def test_a_changed_description_replaces_the_old_one(announcer: Announcer) -> None:
    declare(announcer, {1: SDP})
    ((before, _),) = sent(announcer)
    declare(announcer, {1: SDP.replace("one", "two")})
    (deletion, _), (after, _) = sent(announcer)
    assert (deletion.deletion, deletion.payload) == (True, SDP)
    assert deletion.message_id_hash == before.message_id_hash
    assert (after.deletion, after.payload) == (False, "v=0\r\ns=two\r\n")
    assert after.message_id_hash != before.message_id_hash


def test_one_stream_s_end_leaves_the_others_their_time(announcer: Announcer) -> None:
    declare(announcer, {1: SDP, 2: "v=0\r\ns=two\r\n"})
    said(announcer)
    declare(announcer, {2: "v=0\r\ns=two\r\n"})
    assert said(announcer) == [(SDP, True)]


SDPS = st.none() | st.sampled_from(["v=0\r\ns=a\r\n", "v=0\r\ns=b\r\n"])


@given(st.lists(st.dictionaries(st.integers(1, 3), SDPS, max_size=3), max_size=8))
def test_whatever_is_declared_each_announcement_is_deleted_exactly_once(
    declarations: Iterable[dict[int, str | None]],
) -> None:
    announcer = Announcer(ORIGIN, lambda: 0.5)
    announced: Counter[str] = Counter()
    for sdps in declarations:
        declare(announcer, sdps)
        for payload, deletion in said(announcer):
            announced[payload] += -1 if deletion else 1
        assert +announced == Counter(sdp for sdp in sdps.values() if sdp)
        assert min(announced.values(), default=0) >= 0
    declare(announcer, {})
    for payload, _ in said(announcer):
        announced[payload] -= 1
    assert not +announced
    assert not -announced
